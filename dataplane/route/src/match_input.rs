//! What matcher trees may look at of a request and its response.

use std::io::Write as _;

use millrace_config::{MatchInput, MatchInputs};
use millrace_http::{HeaderMap, RequestHead, ResponseHead};

/// The heads that inputs are taken from.
#[derive(Clone, Copy, Debug)]
pub struct HttpInputs<'h> {
    /// The request as it is now.
    pub request: &'h RequestHead,
    /// The response as it is now.
    pub response: &'h ResponseHead,
    /// The response is a reply of our own.
    pub local_reply: bool,
}

impl MatchInputs for HttpInputs<'_> {
    fn value<'v>(&'v self, input: &MatchInput, scratch: &'v mut Vec<u8>) -> Option<&'v [u8]> {
        match input {
            MatchInput::ResponseStatus => status(self.response.status, scratch),
            MatchInput::ResponseStatusClass => class(self.response.status),
            MatchInput::LocalReply => Some(if self.local_reply { b"true" } else { b"false" }),
            MatchInput::ResponseHeader(name) => match &**name {
                b":status" => status(self.response.status, scratch),
                name => field(&self.response.headers, name, scratch),
            },
            MatchInput::RequestHeader(name) => {
                let head = self.request;
                match &**name {
                    b":method" => present(head.method()),
                    b":path" => present(head.path()),
                    b":authority" | b"host" => present(head.authority()),
                    b":scheme" => present(head.scheme()),
                    name => field(&head.headers, name, scratch),
                }
            }
        }
    }
}

fn present(value: &[u8]) -> Option<&[u8]> {
    Some(value).filter(|value| !value.is_empty())
}

fn status(status: u16, scratch: &mut Vec<u8>) -> Option<&[u8]> {
    scratch.clear();
    // Writing to a Vec cannot fail.
    let _ = write!(scratch, "{status}");
    Some(scratch)
}

fn class(status: u16) -> Option<&'static [u8]> {
    Some(match status / 100 {
        1 => b"1xx",
        2 => b"2xx",
        3 => b"3xx",
        4 => b"4xx",
        5 => b"5xx",
        _ => return None,
    })
}

fn field<'v>(headers: &HeaderMap, name: &[u8], scratch: &'v mut Vec<u8>) -> Option<&'v [u8]> {
    scratch.clear();
    headers.joined(name, scratch).then_some(scratch.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{bytes, head};

    #[test]
    fn inputs_as_envoy_1_40_read_them() {
        let mut request = head("POST", "h", "/p?q");
        request.set_scheme(b"http");
        let mut response = ResponseHead::new();
        response.status = 503;
        for value in [b"1", b"2"] {
            response.headers.append(b"x-a", value);
        }
        let ask = |response: &ResponseHead, input| {
            let inputs = HttpInputs { request: &request, response, local_reply: false };
            let mut scratch = b"old".to_vec();
            inputs.value(&input, &mut scratch).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let of_request = |name: &str| ask(&response, MatchInput::RequestHeader(bytes(name)));
        for (name, value) in
            [(":method", "POST"), (":path", "/p?q"), ("host", "h"), (":authority", "h"), (":scheme", "http")]
        {
            assert_eq!(of_request(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(of_request("x-a"), None);
        let of_response = |name: &str| ask(&response, MatchInput::ResponseHeader(bytes(name)));
        assert_eq!(of_response("x-a").as_deref(), Some("1,2"));
        assert_eq!((of_response(":status").as_deref(), of_response("x-b")), (Some("503"), None));
        assert_eq!(ask(&response, MatchInput::LocalReply).as_deref(), Some("false"));
        assert_eq!(ask(&response, MatchInput::ResponseStatusClass).as_deref(), Some("5xx"));
        response.status = 600;
        assert_eq!(ask(&response, MatchInput::ResponseStatusClass), None);
        assert_eq!(ask(&response, MatchInput::ResponseStatus).as_deref(), Some("600"));
    }
}
