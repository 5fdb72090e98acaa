//! A listener without sockets: requests off one byte string, one after the other.

use millrace_http::h1::{
    self, BodyDecoder, BodyError, BodyEvent, BodyFraming, EncodeOptions, Expectation, ParseOptions, Parsed,
    RequestError, RequestInfo, ResponseError,
};
use millrace_http::path::{self, PathAction, PathOptions};
use millrace_http::{HeaderMap, RequestHead, ResponseHead, hop};

/// What happened to the bytes of one connection.
pub struct Outcome {
    /// Requests (or responses) that were accepted with their bodies.
    pub accepted: usize,
    /// Why it ended: `ok`, `incomplete`, `closed`, `tunnel`, or the status and name of the error.
    pub end: String,
    /// Each accepted request as it would be sent upstream: head, body length.
    pub forwarded: Vec<(Vec<u8>, usize)>,
}

impl Outcome {
    /// For the tables.
    pub fn verdict(&self) -> String {
        format!("{} {}", self.accepted, self.end)
    }

    /// True when everything was complete and nothing was refused.
    pub fn good(&self) -> bool {
        !self.refused() && !self.end.starts_with("incomplete")
    }

    /// True when it ended in an error.
    pub fn refused(&self) -> bool {
        self.end.starts_with(|c: char| c.is_ascii_digit())
    }
}

/// Runs a client's bytes through head, hop-by-hop rules, path rules and body, until an error, a close or the end.
pub fn requests(mut input: &[u8], opts: &ParseOptions) -> Outcome {
    let mut outcome = Outcome { accepted: 0, end: "ok".into(), forwarded: Vec::new() };
    let mut head = RequestHead::new();
    while !input.is_empty() {
        let (consumed, framing) = match h1::parse_request(input, opts, &mut head) {
            Ok(Parsed::Complete { consumed, framing }) => (consumed, framing),
            Ok(Parsed::Incomplete) if input == b"\r\n" => break,
            Ok(Parsed::Incomplete) => return ended(outcome, "incomplete"),
            Err(error) => return refused(outcome, error),
        };
        input = &input[consumed..];
        let keep = h1::request_keep_alive(&head);
        let tunnel = head.method() == b"CONNECT" || h1::upgrade_type(&head.headers).is_some();
        if h1::expectation(&head) == Expectation::Unknown {
            return ended(outcome, "417 Expectation");
        }
        if let Err(error) = hop::strip_request(&mut head, true) {
            return refused(outcome, error);
        }
        if path::apply(&mut head, &PathOptions::default(), &mut Vec::new()) == PathAction::Reject {
            return ended(outcome, "400 path");
        }
        let body = match body(&mut input, framing) {
            Ok(Some(body)) => body,
            Ok(None) => return ended(outcome, "incomplete body"),
            Err(error) => return ended(outcome, &format!("{} {error:?}", error.status())),
        };
        let mut wire = Vec::new();
        h1::encode_request(&head, framing, &EncodeOptions::default(), &mut wire);
        outcome.forwarded.push((wire, body));
        outcome.accepted += 1;
        if tunnel {
            return ended(outcome, "tunnel");
        }
        if !keep {
            return ended(outcome, "closed");
        }
    }
    outcome
}

fn ended(mut outcome: Outcome, end: &str) -> Outcome {
    outcome.end = end.into();
    outcome
}

fn refused(outcome: Outcome, error: RequestError) -> Outcome {
    ended(outcome, &format!("{} {error:?}", error.status()))
}

/// Reads one body off the input; its length, or `None` while it is incomplete.
fn body(input: &mut &[u8], framing: BodyFraming) -> Result<Option<usize>, BodyError> {
    let (mut decoder, mut trailers, mut len) = (BodyDecoder::new(framing), HeaderMap::new(), 0);
    loop {
        let step = decoder.decode(input, &mut trailers)?;
        *input = &input[step.consumed..];
        match step.event {
            BodyEvent::Data(range) => len += range.len(),
            BodyEvent::Trailers => {}
            BodyEvent::End => return Ok(Some(len)),
            BodyEvent::NeedMore => return Ok(decoder.eof().is_ok().then_some(len)),
        }
    }
}

/// Runs an upstream's bytes as answers to plain GETs. After a body that lasts until the end nothing follows.
pub fn responses(mut input: &[u8], info: &RequestInfo) -> Outcome {
    let mut outcome = Outcome { accepted: 0, end: "ok".into(), forwarded: Vec::new() };
    let mut head = ResponseHead::new();
    while !input.is_empty() {
        let (consumed, framing) = match h1::parse_response(input, &ParseOptions::default(), info, &mut head) {
            Ok(Parsed::Complete { consumed, framing }) => (consumed, framing),
            Ok(Parsed::Incomplete) => return ended(outcome, "incomplete"),
            Err(error) => return bad_response(outcome, error),
        };
        input = &input[consumed..];
        match body(&mut input, framing) {
            Ok(Some(_)) => outcome.accepted += 1,
            Ok(None) => return ended(outcome, "incomplete body"),
            Err(error) => return ended(outcome, &format!("502 {error:?}")),
        }
        if framing == BodyFraming::Tunnel {
            return ended(outcome, "tunnel");
        }
        if !h1::response_keep_alive(&head) || framing == BodyFraming::UntilClose {
            return ended(outcome, "closed");
        }
    }
    outcome
}

fn bad_response(outcome: Outcome, error: ResponseError) -> Outcome {
    ended(outcome, &format!("{} {error:?}", error.status()))
}
