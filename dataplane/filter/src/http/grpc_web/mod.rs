//! `envoy.filters.http.grpc_web`: gRPC-Web of browsers to gRPC and back.

pub(in crate::http) mod base64;

use millrace_http::{HeaderId, HeaderMap, RequestHead, ResponseHead};

use super::LocalReply;
use super::grpc::frames::PREFIX;
use super::grpc::{self, status};
use super::report::{CallName, Report};
use super::stream_filters::BodyUse;

/// Bytes of a response that is no gRPC which become its `grpc-message`; the rest is dropped.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// First octet of the frame of trailers.
const TRAILERS: u8 = 0x80;

/// Where a response stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Response {
    /// It is gRPC, or gRPC-Web already.
    Passes,
    /// Its head waits until the body, which becomes `grpc-message`, is complete.
    Collects,
    /// Its body became `grpc-message`.
    Collected,
}

/// One gRPC-Web call.
#[derive(Debug)]
pub(super) struct GrpcWeb {
    request_is_text: bool,
    response_is_text: bool,
    decoder: base64::Decoder,
    response: Response,
    /// Of a response that is no gRPC.
    message: Vec<u8>,
    text: Text,
    name: Option<CallName>,
    pub(super) report: Report,
}

impl GrpcWeb {
    /// Turns the head of a gRPC-Web request into gRPC's; `None` for any other.
    pub(super) fn start(head: &mut RequestHead) -> Option<Self> {
        let request_is_text = match head.headers.get(HeaderId::ContentType)? {
            b"application/grpc-web" | b"application/grpc-web+proto" => false,
            b"application/grpc-web-text" | b"application/grpc-web-text+proto" => true,
            _ => return None,
        };
        let call = grpc::call(head.path());
        let name = call.and_then(|(service, method)| CallName::new(service, method, false));
        let headers = &mut head.headers;
        let accept = headers.get(HeaderId::Accept);
        let response_is_text =
            matches!(accept, Some(b"application/grpc-web-text" | b"application/grpc-web-text+proto"));
        headers.remove_id(HeaderId::ContentLength);
        headers.set_id(HeaderId::ContentType, b"application/grpc");
        headers.set_id(HeaderId::Te, b"trailers");
        if !headers.contains(HeaderId::GrpcAcceptEncoding) {
            headers.set_id(HeaderId::GrpcAcceptEncoding, b"identity");
        }
        Some(Self {
            request_is_text,
            response_is_text,
            decoder: base64::Decoder::default(),
            response: Response::Passes,
            message: Vec::new(),
            text: Text::default(),
            name,
            report: Report::default(),
        })
    }

    pub(super) fn name(&self) -> Option<&CallName> {
        self.name.as_ref()
    }

    pub(super) fn request_use(&self) -> BodyUse {
        if self.request_is_text { BodyUse::Change } else { BodyUse::Bypass }
    }

    pub(super) fn response_use(&self) -> BodyUse {
        let passes = self.response == Response::Passes && !self.response_is_text;
        if passes { BodyUse::Bypass } else { BodyUse::Change }
    }

    pub(super) fn holds(&self) -> bool {
        self.response == Response::Collects
    }

    /// Decodes what is text.
    pub(super) fn request_data(
        &mut self,
        data: &[u8],
        end: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Box<LocalReply>> {
        if self.decoder.decode(data, out).is_err() {
            return Err(bad_request("grpc_base_64_decode_failed"));
        }
        match end && !self.decoder.is_complete() {
            true => Err(bad_request("grpc_base_64_decode_failed_bad_size")),
            false => Ok(()),
        }
    }

    pub(super) fn response_head(&mut self, head: &mut ResponseHead, end: bool) {
        self.report.add(status::GrpcStatus::of(&head.headers));
        let is_grpc = grpc::is_grpc_response(head, end) || is_grpc_web(head);
        head.headers.remove_id(HeaderId::ContentLength);
        let content_type: &[u8] = match self.response_is_text {
            true => b"application/grpc-web-text+proto",
            false => b"application/grpc-web+proto",
        };
        head.headers.set_id(HeaderId::ContentType, content_type);
        if !end && !is_grpc {
            self.response = Response::Collects;
        }
    }

    pub(super) fn response_data(
        &mut self,
        data: &[u8],
        end: bool,
        head: &mut ResponseHead,
        out: &mut Vec<u8>,
    ) {
        match self.response {
            Response::Passes if self.response_is_text => self.text.frames(data, out),
            Response::Passes => out.extend_from_slice(data),
            Response::Collects => {
                let room = MESSAGE_BYTES_MAX - self.message.len();
                self.message.extend_from_slice(&data[..data.len().min(room)]);
                if end {
                    self.release(head);
                }
            }
            Response::Collected => {}
        }
    }

    /// Moves the trailers into the body as its last frame.
    pub(super) fn response_trailers(
        &mut self,
        trailers: &mut HeaderMap,
        head: &mut ResponseHead,
        out: &mut Vec<u8>,
    ) {
        self.report.add(status::GrpcStatus::of(trailers));
        if self.response == Response::Collects {
            return self.release(head);
        }
        let start = out.len();
        out.push(TRAILERS);
        out.extend_from_slice(&[0; PREFIX - 1]);
        for (name, value) in trailers.iter() {
            out.extend_from_slice(name);
            out.push(b':');
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        let length = (out.len() - start - PREFIX) as u32;
        out[start + 1..start + PREFIX].copy_from_slice(&length.to_be_bytes());
        trailers.clear();
        if self.response_is_text {
            let frame = out.split_off(start);
            // The octets of a message that was cut short come first.
            self.text.base64.finish(out);
            self.text.base64.encode(&frame, out);
            self.text.base64.finish(out);
        }
    }

    /// The body is complete: it becomes `grpc-message`, and the status follows from the HTTP one.
    fn release(&mut self, head: &mut ResponseHead) {
        self.response = Response::Collected;
        let mut encoded = Vec::with_capacity(self.message.len());
        status::percent_encode(&self.message, &mut encoded);
        self.message = Vec::new();
        head.headers.set_id(HeaderId::GrpcMessage, &encoded);
        head.headers.set_id(HeaderId::GrpcStatus, status::http_to_grpc_status(head.status).as_bytes());
        head.headers.set_id(HeaderId::ContentLength, b"0");
    }
}

/// A response with status 200 that is gRPC-Web of protobufs, whatever parameters its type has.
fn is_grpc_web(head: &ResponseHead) -> bool {
    let Some(value) = head.headers.get(HeaderId::ContentType).filter(|_| head.status == 200) else {
        return false;
    };
    let media_type = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii_end();
    media_type.eq_ignore_ascii_case(b"application/grpc-web+proto")
        || media_type.eq_ignore_ascii_case(b"application/grpc-web")
}

fn bad_request(details: &'static str) -> Box<LocalReply> {
    LocalReply::new(400, "Bad gRPC-web request, invalid base64 data.", details).into()
}

/// Frames as text: each message, prefix included, is padded on its own.
#[derive(Debug, Default)]
struct Text {
    base64: base64::Encoder,
    /// Octets of the message under way, its prefix included, that have passed.
    have: u64,
    length: u32,
}

impl Text {
    fn frames(&mut self, mut data: &[u8], out: &mut Vec<u8>) {
        while !data.is_empty() {
            let prefix = PREFIX as u64;
            let wanted = match self.have < prefix {
                true => prefix - self.have,
                false => prefix + u64::from(self.length) - self.have,
            };
            let taken = data.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
            let (piece, rest) = data.split_at(taken);
            data = rest;
            for (octet, at) in piece.iter().zip(self.have..).take_while(|(_, at)| *at < prefix) {
                self.length = if at == 0 { 0 } else { self.length << 8 | u32::from(*octet) };
            }
            self.base64.encode(piece, out);
            self.have += taken as u64;
            if self.have >= prefix && self.have == prefix + u64::from(self.length) {
                self.base64.finish(out);
                self.have = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests;
