//! Checks over HTTP/1.1.

use millrace_config::{Cluster, HttpHealthCheck};
use millrace_http::h1::{
    BodyDecoder, BodyEvent, BodyFraming, EncodeOptions, HeaderCase, ParseOptions, Parsed, RequestInfo,
    encode_request, parse_response, response_keep_alive,
};
use millrace_http::{HeaderMap, RequestHead, ResponseHead};

use super::conversation::Reply;
use super::judge::Answer;

/// One connection.
#[derive(Debug)]
pub struct Http1 {
    parse: ParseOptions,
    encode: EncodeOptions,
    /// Received and not looked at: a part of a head, or of a chunk's line.
    input: Vec<u8>,
    request: RequestInfo,
    in_flight: bool,
    /// The head has come.
    answer: Option<Answer>,
    keep: bool,
    decoder: BodyDecoder,
}

impl Http1 {
    pub(super) fn new(cluster: &Cluster) -> Self {
        let parse = ParseOptions {
            head_bytes_max: cluster.http.h1_head_bytes_max(),
            head_fields_max: usize::from(cluster.http.head_fields_max),
            ..ParseOptions::default()
        };
        let header_case = if cluster.http.proper_case { HeaderCase::Proper } else { HeaderCase::Lower };
        Self {
            parse,
            encode: EncodeOptions { header_case, ..EncodeOptions::default() },
            input: Vec::new(),
            request: RequestInfo::default(),
            in_flight: false,
            answer: None,
            keep: false,
            decoder: BodyDecoder::new(BodyFraming::None),
        }
    }

    pub(super) fn begin(
        &mut self,
        check: &HttpHealthCheck,
        request: &RequestHead,
        out: &mut Vec<u8>,
    ) -> Reply {
        if !self.input.is_empty() {
            return Reply::broken(true);
        }
        let framing = match check.send.len() {
            0 => BodyFraming::None,
            length => BodyFraming::Length(length as u64),
        };
        encode_request(request, framing, &self.encode, out);
        out.extend_from_slice(&check.send);
        self.request = RequestInfo::of(request);
        self.in_flight = true;
        Reply::default()
    }

    pub(super) fn receive(&mut self, check: &HttpHealthCheck, bytes: &[u8]) -> Reply {
        if !self.in_flight {
            // Nobody asked.
            return Reply::broken(false);
        }
        self.input.extend_from_slice(bytes);
        loop {
            if self.answer.is_none() {
                let mut head = ResponseHead::new();
                match parse_response(&self.input, &self.parse, &self.request, &mut head) {
                    Ok(Parsed::Incomplete) => return Reply::default(),
                    // A 101 was not asked for.
                    Ok(Parsed::Complete { .. }) if head.status == 101 => return self.broken(),
                    Ok(Parsed::Complete { consumed, .. }) if head.status < 200 => {
                        self.input.drain(..consumed);
                        continue;
                    }
                    Ok(Parsed::Complete { consumed, framing }) => {
                        self.input.drain(..consumed);
                        self.keep = response_keep_alive(&head) && framing != BodyFraming::UntilClose;
                        self.decoder.reset(framing);
                        self.answer = Some(Answer::of(&head));
                    }
                    Err(_) => return self.broken(),
                }
            }
            return self.body(check);
        }
    }

    fn body(&mut self, check: &HttpHealthCheck) -> Reply {
        let mut trailers = HeaderMap::default();
        let Some(answer) = &mut self.answer else { return Reply::default() };
        let mut at = 0;
        let over = loop {
            let Ok(step) = self.decoder.decode(&self.input[at..], &mut trailers) else {
                return self.broken();
            };
            match step.event {
                BodyEvent::Data(range) => answer.body(check, &self.input[at + range.start..at + range.end]),
                BodyEvent::Trailers => {}
                BodyEvent::NeedMore => {
                    at += step.consumed;
                    break false;
                }
                BodyEvent::End => {
                    at += step.consumed;
                    break true;
                }
            }
            at += step.consumed;
        };
        self.input.drain(..at);
        if over { self.finish(check) } else { Reply::default() }
    }

    fn finish(&mut self, check: &HttpHealthCheck) -> Reply {
        self.in_flight = false;
        let Some(answer) = self.answer.take() else { return self.broken() };
        let reply = answer.verdict(check);
        Reply { close: !self.keep || !self.input.is_empty(), ..reply }
    }

    pub(super) fn ended(&mut self, check: &HttpHealthCheck, clean: bool) -> Reply {
        if clean && self.in_flight && self.answer.is_some() && self.decoder.eof().is_ok() {
            return Reply { close: true, ..self.finish(check) };
        }
        self.broken()
    }

    fn broken(&mut self) -> Reply {
        Reply::broken(std::mem::take(&mut self.in_flight))
    }
}
