//! Responses that the proxy itself makes: status, body, details and flag, as Envoy words them.

use std::borrow::Cow;

use millrace_base::ResponseFlag;
use millrace_http::{HeaderId, ResponseHead};

use super::grpc::status::{http_to_grpc_status, percent_encode};
use super::router::rewrite::Rewritten;

/// Name and value of a field that only some replies have.
pub type ReplyField = (Cow<'static, [u8]>, Vec<u8>);

/// One local reply. Texts are static for all but a few rare causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// `:status` (HTTP; a gRPC request gets 200 and a `grpc-status`).
    pub status: u16,
    /// The body; empty for none. Its content type is `text/plain`.
    pub body: Cow<'static, [u8]>,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: Cow<'static, str>,
    /// The response flag that goes with it.
    pub flag: Option<ResponseFlag>,
    /// Adds `x-envoy-overloaded: true`.
    pub overloaded: bool,
    /// `location` of a redirect; empty for none.
    pub location: Vec<u8>,
    /// The connection ends after the reply (`connection: close`), because the request's framing is in doubt
    /// or its rest is not wanted.
    pub close: bool,
    /// The router made it: with `include_attempt_count_in_response` it tells the attempts.
    pub by_router: bool,
    /// The `grpc-status` for gRPC requests where it does not follow from the status.
    pub grpc_status: Option<Cow<'static, str>>,
    /// More fields, behind those of the route.
    pub headers: Box<[ReplyField]>,
    /// The filter's own answer and no error: neither the route nor gRPC changes it.
    pub as_is: bool,
}

impl LocalReply {
    /// A reply with static texts and nothing special.
    pub fn new(status: u16, body: &'static str, details: &'static str) -> Self {
        Self {
            status,
            body: Cow::Borrowed(body.as_bytes()),
            details: Cow::Borrowed(details),
            flag: None,
            overloaded: false,
            location: Vec::new(),
            close: false,
            by_router: false,
            grpc_status: None,
            headers: Box::default(),
            as_is: false,
        }
    }

    /// The same with a response flag.
    #[must_use]
    pub fn flagged(mut self, flag: ResponseFlag) -> Self {
        self.flag = Some(flag);
        self
    }

    /// The same, with the connection closed afterwards.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Fills a cleared head and the body to send. `modify` applies the route's response mutations (nothing when
    /// no route was chosen) and runs where Envoy runs it: before the body's fields are set, so that a
    /// configured `content-type` stays. `rewrite` then makes of head and body what `local_reply_config` says. `server` and `date` come later, as for any response. `grpc` says that
    /// the request was gRPC: the answer is then trailers-only.
    pub fn write<'c>(
        &'c self,
        grpc: bool,
        head: &mut ResponseHead,
        body: &mut Vec<u8>,
        modify: impl FnOnce(&mut ResponseHead),
        rewrite: impl FnOnce(&mut ResponseHead, Cow<'c, [u8]>) -> Rewritten<'c>,
    ) {
        head.clear();
        body.clear();
        head.status = self.status;
        if !self.location.is_empty() {
            head.headers.set_id(HeaderId::Location, &self.location);
        }
        if self.overloaded {
            head.headers.set_id(HeaderId::XEnvoyOverloaded, b"true");
        }
        if !self.as_is {
            modify(head);
        }
        for (name, value) in &*self.headers {
            head.headers.append(name, value);
        }
        let own = Cow::Borrowed(&*self.body);
        let typed = head.headers.get(HeaderId::ContentType).map(<[u8]>::to_vec);
        let made = match self.as_is {
            true => Rewritten { status: self.status, body: own, content_type: "text/plain" },
            false => rewrite(head, own),
        };
        if grpc && !self.as_is {
            self.write_grpc(&made, head, body);
        } else if !made.body.is_empty() {
            let length = made.body.len().to_string();
            head.headers.set_id(HeaderId::ContentLength, length.as_bytes());
            // A type that was there before the body was another one says nothing of it.
            let same = made.body == self.body || head.headers.get(HeaderId::ContentType) != typed.as_deref();
            if !(same && head.headers.contains(HeaderId::ContentType)) {
                head.headers.set_id(HeaderId::ContentType, made.content_type.as_bytes());
            }
            body.extend_from_slice(&made.body);
        }
    }

    /// What `write` takes where nothing rewrites replies.
    pub fn unchanged<'c>(head: &mut ResponseHead, body: Cow<'c, [u8]>) -> Rewritten<'c> {
        Rewritten { status: head.status, body, content_type: "text/plain" }
    }

    fn write_grpc(&self, made: &Rewritten<'_>, head: &mut ResponseHead, scratch: &mut Vec<u8>) {
        let status = self.grpc_status.as_deref().unwrap_or(http_to_grpc_status(made.status));
        head.status = 200;
        head.headers.set_id(HeaderId::ContentType, b"application/grpc");
        head.headers.set_id(HeaderId::GrpcStatus, status.as_bytes());
        if !made.body.is_empty() {
            percent_encode(&made.body, scratch);
            head.headers.set_id(HeaderId::GrpcMessage, scratch);
            scratch.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test::lines;

    fn written(
        reply: &LocalReply,
        grpc: bool,
        modify: impl FnOnce(&mut ResponseHead),
    ) -> (u16, String, Vec<u8>) {
        let (mut head, mut body) = (ResponseHead::new(), b"old".to_vec());
        reply.write(grpc, &mut head, &mut body, modify, LocalReply::unchanged);
        (head.status, lines(&head.headers), body)
    }

    #[test]
    fn fields_stand_where_envoy_1_40_put_them() {
        let reply = LocalReply { location: b"http://h/dm".to_vec(), ..LocalReply::new(201, "made", "d") };
        let modify = |head: &mut ResponseHead| {
            head.headers.append(b"content-type", b"application/json");
            head.headers.append(b"x-r", b"1");
        };
        let expected = "location: http://h/dm | content-type: application/json | x-r: 1 | content-length: 4";
        assert_eq!(written(&reply, false, modify), (201, expected.into(), b"made".to_vec()));
        let expected = "location: http://h/dm | content-type: application/grpc | x-r: 1 | grpc-status: 2 | \
                        grpc-message: made";
        assert_eq!(written(&reply, true, modify), (200, expected.into(), Vec::new()));
        let plain = LocalReply::new(503, "no healthy upstream", "d");
        let expected = "content-length: 19 | content-type: text/plain";
        assert_eq!(written(&plain, false, |_| {}).1, expected);
        assert_eq!(written(&LocalReply::new(404, "", "d"), false, |_| {}).1, "");
        let none = written(&LocalReply::new(404, "", "d"), true, |_| {}).1;
        assert_eq!(none, "content-type: application/grpc | grpc-status: 12");
    }
}
