//! `extensions.filters.http.stateful_session.v3`: requests of one session go to one endpoint.

use std::sync::Arc;
use std::time::Duration;

use crate::ScopeId;

/// `StatefulSession` in a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct StatefulSessionFilter {
    /// What holds where no route says otherwise.
    pub session: Arc<StatefulSession>,
    /// Statistics scope `http.<stat_prefix>.stateful_session.<own prefix>.`, when there is a `stat_prefix`.
    pub scope: Option<ScopeId>,
}

/// `StatefulSession`, of the filter or of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatefulSession {
    /// `session_state`: where the endpoint of a session is kept; without it nothing is.
    pub state: Option<SessionState>,
    /// `strict`: no other endpoint will do.
    pub strict: bool,
    /// `status_on_strict_destination_not_found`, default 503.
    pub status_when_missing: u16,
}

/// `envoy.extensions.http.stateful_session`.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionState {
    /// `CookieBasedSessionState`.
    Cookie(SessionCookie),
    /// `HeaderBasedSessionState.name`, lower case: the address in base64.
    Header(Arc<[u8]>),
    /// `EnvelopeSessionState.header.name`, lower case: the address in base64, then what the endpoint said itself.
    Envelope(Arc<[u8]>),
}

/// `type.http.v3.Cookie`.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionCookie {
    /// `name`.
    pub name: Arc<[u8]>,
    /// `ttl`; zero for a cookie that ends with the client's session.
    pub ttl: Duration,
    /// `path`: only requests below it take part. Empty for all.
    pub path: Arc<str>,
    /// `attributes`: names and values.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
}
