//! `envoy.filters.http.stateful_session`: the endpoint of a session travels with its requests and answers.

mod cookie;

use std::sync::Arc;

use millrace_base::{ResponseFlag, WallTime};
use millrace_config::{ScopeId, SessionState, StatefulSession, StatefulSessionFilter};
use millrace_http::{HeaderMap, RequestHead};
use millrace_observe::stats::{Counter, stateful_session as metric};

use crate::http::grpc_web::base64::{Decoder, Encoder};
use crate::http::stream_filters::ResponseEnv;

/// The endpoint that a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedHost<'a> {
    /// Its address, as the client keeps it.
    pub address: &'a [u8],
    /// No other one will do.
    pub strict: bool,
    /// The status of the answer when there is no such endpoint.
    pub status_when_missing: u16,
}

/// The filter in one request.
#[derive(Debug)]
pub(crate) struct SessionActive {
    config: Arc<StatefulSession>,
    scope: Option<ScopeId>,
    /// False when the path of the request is not the cookie's, or nothing is kept at all.
    takes_part: bool,
    /// What the client sent; empty when it sent nothing that can be read.
    wanted: Vec<u8>,
}

impl SessionActive {
    /// Reads the session of a request. `own`: what the route has in the filter's place; off there when it is `None` within.
    pub fn begin(
        filter: &StatefulSessionFilter,
        own: Option<&Option<Arc<StatefulSession>>>,
        wall: WallTime,
        head: &mut RequestHead,
    ) -> Option<Self> {
        let (config, scope) = match own {
            // What a route says counts nothing, as in Envoy.
            Some(own) => (own.clone()?, None),
            None => (Arc::clone(&filter.session), filter.scope),
        };
        let (takes_part, wanted) = match &config.state {
            Some(SessionState::Cookie(cookie)) => match cookie::is_below(&cookie.path, head.path()) {
                true => (true, cookie::read(cookie, wall, head)),
                false => (false, None),
            },
            Some(SessionState::Header(name)) => (true, head.headers.get_name(name).and_then(decode)),
            Some(SessionState::Envelope(name)) => (true, open_envelope(name, head)),
            None => (false, None),
        };
        if !takes_part && scope.is_none() {
            return None;
        }
        Some(Self { config, scope, takes_part, wanted: wanted.unwrap_or_default() })
    }

    pub fn wanted(&self) -> Option<WantedHost<'_>> {
        (!self.wanted.is_empty()).then_some(WantedHost {
            address: &self.wanted,
            strict: self.config.strict,
            status_when_missing: self.config.status_when_missing,
        })
    }

    /// The head of an answer: tells the client which endpoint it came from, if it does not know.
    pub fn response_head(&self, headers: &mut HeaderMap, env: &mut ResponseEnv<'_>) {
        let upstream = env.upstream.map(ToString::to_string);
        let counter: Option<Counter> = match (upstream, self.takes_part) {
            (Some(_), false) => Some(metric::NO_SESSION),
            (Some(upstream), true) => match self.update(headers, &upstream, env.wall) {
                false => Some(metric::ROUTED),
                true => (!self.config.strict).then_some(metric::FAILED_OPEN),
            },
            (None, true) if self.config.strict && env.flags.contains(ResponseFlag::NoHealthyUpstream) => {
                Some(metric::FAILED_CLOSED)
            }
            (None, _) => None,
        };
        if let (Some(scope), Some(counter)) = (self.scope, counter) {
            env.stats.inc(scope, counter);
        }
    }

    /// True when the client learns of another endpoint than it wanted.
    fn update(&self, headers: &mut HeaderMap, upstream: &str, wall: WallTime) -> bool {
        let changed = upstream.as_bytes() != self.wanted;
        match &self.config.state {
            Some(SessionState::Cookie(cookie)) if changed => {
                headers.append(b"set-cookie", &cookie::write(cookie, upstream, wall));
            }
            Some(SessionState::Header(name)) if changed => {
                headers.set(name, &encode(upstream.as_bytes()));
            }
            Some(SessionState::Envelope(name)) => {
                let mut values = headers.values_name(name);
                let (Some(own), None) = (values.next(), values.next()) else { return false };
                let sealed = [&encode(upstream.as_bytes())[..], b";UV:", &encode(own)].concat();
                drop(values);
                headers.set(name, &sealed);
            }
            _ => {}
        }
        changed
    }
}

/// Takes the address out of the field and leaves what the endpoint itself said; `None`, and the field as it is, when
/// that is not there.
fn open_envelope(name: &[u8], head: &mut RequestHead) -> Option<Vec<u8>> {
    let value = head.headers.get_name(name)?.to_vec();
    let mut parts = value.split(|byte| *byte == b';').filter(|part| !part.is_empty());
    let address = parts.next().and_then(decode);
    let own = decode(parts.find_map(|part| part.strip_prefix(b"UV:"))?)?;
    head.headers.set(name, &own);
    address
}

/// What is base64 of something; `None` otherwise.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    decoder.decode(text, &mut out).ok().filter(|()| decoder.is_complete() && !out.is_empty())?;
    Some(out)
}

fn encode(bytes: &[u8]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    encoder.encode(bytes, &mut out);
    encoder.finish(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test::head;

    const OWN: &str = "127.0.0.1:80";

    fn session(state: SessionState) -> StatefulSessionFilter {
        let session = StatefulSession { state: Some(state), strict: false, status_when_missing: 503 };
        StatefulSessionFilter { session: Arc::new(session), scope: None }
    }

    #[test]
    fn an_envelope_is_opened_and_sealed_again() {
        let filter = session(SessionState::Envelope(b"s-id"[..].into()));
        let sealed = [&encode(OWN.as_bytes())[..], b";UV:", &encode(b"abc")].concat();
        let mut request = head("/", &[]);
        request.headers.append(b"s-id", &sealed);
        let active = SessionActive::begin(&filter, None, WallTime(0), &mut request).unwrap();
        assert_eq!(active.wanted().map(|wanted| wanted.address), Some(OWN.as_bytes()));
        assert_eq!(request.headers.get_name(b"s-id"), Some(&b"abc"[..]));
        let mut headers = HeaderMap::default();
        assert!(!active.update(&mut headers, "10.0.0.1:80", WallTime(0)), "the endpoint opened no session");
        headers.append(b"s-id", b"abc");
        assert!(!active.update(&mut headers, OWN, WallTime(0)));
        assert_eq!(headers.get_name(b"s-id"), Some(&sealed[..]));
        // Without what the endpoint said nothing is done.
        for value in [encode(OWN.as_bytes()), b";;".to_vec(), b"UV:YWJj".to_vec()] {
            let mut request = head("/", &[]);
            request.headers.append(b"s-id", &value);
            let active = SessionActive::begin(&filter, None, WallTime(0), &mut request).unwrap();
            assert_eq!(active.wanted(), None);
        }
    }

    #[test]
    fn a_header_is_set_when_the_client_knows_another_endpoint_or_none() {
        let filter = session(SessionState::Header(b"s-id"[..].into()));
        for (sent, is_set) in
            [(Some(encode(OWN.as_bytes())), false), (Some(b"%".to_vec()), true), (None, true)]
        {
            let mut request = head("/", &[]);
            if let Some(sent) = sent {
                request.headers.append(b"s-id", &sent);
            }
            let active = SessionActive::begin(&filter, None, WallTime(0), &mut request).unwrap();
            let mut headers = HeaderMap::default();
            assert_eq!(active.update(&mut headers, OWN, WallTime(0)), is_set);
            assert_eq!(headers.get_name(b"s-id").is_some(), is_set);
        }
        let off = SessionActive::begin(&filter, Some(&None), WallTime(0), &mut head("/", &[]));
        assert!(off.is_none());
    }
}
