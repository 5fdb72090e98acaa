//! The response and its constant headers.

/// What goes back to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status code.
    pub status: u16,
    /// The `content-type` header.
    pub content_type: &'static str,
    /// Further headers, lower case, in order; `content-type` is not repeated here.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The complete body.
    pub body: Vec<u8>,
}

impl Response {
    /// `text/plain; charset=UTF-8`, as nearly every endpoint answers.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "text/plain; charset=UTF-8", body.into())
    }

    /// `text/plain` without a charset: the errors of `/config_dump`.
    pub fn plain(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "text/plain", body.into())
    }

    /// `application/json`.
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "application/json", body.into())
    }

    /// `text/html; charset=UTF-8`.
    pub fn html(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "text/html; charset=UTF-8", body.into())
    }

    /// `200` with `OK\n`: a mutation was accepted.
    pub fn ok() -> Self {
        Self::text(200, "OK\n")
    }

    fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        let headers = vec![("cache-control", "no-cache, max-age=0"), ("x-content-type-options", "nosniff")];
        Self { status, content_type, headers, body }
    }
}
