//! `HttpConnectionManager.local_reply_config`: what becomes of replies that the proxy itself makes.

use std::sync::Arc;

use crate::{AccessLogFilter, AccessLogFormat, HeaderOption};

/// `SubstitutionFormatString` of a body.
#[derive(Clone, Debug)]
pub struct ReplyBodyFormat {
    /// Text or JSON.
    pub format: AccessLogFormat,
    /// `content_type`, default `application/json` for JSON and `text/plain` for text.
    pub content_type: Arc<str>,
}

/// `ResponseMapper`.
#[derive(Clone, Debug)]
pub struct ReplyMapper {
    /// `filter`: which replies; the first mapper that matches counts.
    pub filter: AccessLogFilter,
    /// `status_code`.
    pub status: Option<u16>,
    /// `body`: instead of the reply's own.
    pub body: Option<Arc<[u8]>>,
    /// `body_format_override`.
    pub body_format: Option<ReplyBodyFormat>,
    /// `headers_to_add`.
    pub headers: Vec<HeaderOption>,
}

/// `LocalReplyConfig`.
#[derive(Clone, Debug)]
pub struct LocalReplyConfig {
    /// `mappers`.
    pub mappers: Vec<ReplyMapper>,
    /// `body_format`: of replies whose mapper has none.
    pub body_format: Option<ReplyBodyFormat>,
}
