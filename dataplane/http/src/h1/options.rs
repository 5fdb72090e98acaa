//! What a listener or cluster may configure about parsing.

use alloc::boxed::Box;

use millrace_base::Limits;

/// `headers_with_underscores_action`. Whatever is chosen, a name that would shadow a framing or identity
/// field when `_` is read as `-` is never allowed through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnderscoreAction {
    /// `ALLOW`.
    #[default]
    Allow,
    /// `REJECT_REQUEST`: 400.
    RejectRequest,
    /// `DROP_HEADER`.
    DropHeader,
}

/// Parsing options; the defaults are Envoy's.
#[derive(Clone, Debug)]
pub struct ParseOptions {
    /// Largest head in bytes, `max_request_headers_kb`; above it 431.
    pub head_bytes_max: usize,
    /// Most fields of a head, `max_headers_count`; above it 431.
    pub head_fields_max: usize,
    /// Largest request target in bytes; above it 414.
    pub target_bytes_max: usize,
    /// `accept_http_10`; otherwise HTTP/1.0 requests get 426.
    pub accept_http_10: bool,
    /// `default_host_for_http_10`: the authority of an HTTP/1.0 request without `Host`.
    pub default_host_for_http_10: Option<Box<[u8]>>,
    /// `allow_absolute_url`.
    pub allow_absolute_url: bool,
    /// `allow_chunked_length`: with both framings drop Content-Length instead of refusing. The
    /// connection must be closed after such a message (RFC 9112 section 6.1).
    pub allow_chunked_length: bool,
    /// `allow_custom_methods`: any token is a method, not only the registered ones.
    pub allow_custom_methods: bool,
    /// `headers_with_underscores_action`; requests only.
    pub underscores: UnderscoreAction,
    /// Remember the spelling of names for the `preserve_case` header formatter.
    pub preserve_case: bool,
}

impl ParseOptions {
    /// The default options under other limits.
    pub fn with_limits(limits: &Limits) -> Self {
        Self {
            head_bytes_max: limits.head_bytes_max as usize,
            head_fields_max: usize::from(limits.head_fields_max),
            target_bytes_max: limits.target_bytes_max as usize,
            accept_http_10: false,
            default_host_for_http_10: None,
            allow_absolute_url: true,
            allow_chunked_length: false,
            allow_custom_methods: false,
            underscores: UnderscoreAction::Allow,
            preserve_case: false,
        }
    }
}

impl Default for ParseOptions {
    fn default() -> Self {
        Self::with_limits(&Limits::DEFAULT)
    }
}
