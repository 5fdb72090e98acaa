//! `envoy.filters.http.decompressor`.

use millrace_base::ResponseFlag;
use millrace_compression::{DecompressError, Decompressor};
use millrace_config::{Coding, DecompressDirection, DecompressorFilter, HttpFilterKind};
use millrace_http::{HeaderId, HeaderMap, Method, RequestHead, ResponseHead};
use millrace_observe::stats::{ShardStats, decompressor as metric, decompressor_library as library};

use super::{may_not_transform, members, value, without_parameters};
use crate::http::LocalReply;
use crate::http::shaping::header_mutation::Side;
use crate::http::stream_filters::{Env, ResponseEnv, Start};

/// A request at a decompressor.
#[derive(Debug)]
pub(crate) struct DecompressorActive {
    /// The filter's position in the chain.
    at: u16,
    request: Option<Box<Body>>,
    response: Option<Box<Body>>,
}

/// One body that is decompressed.
#[derive(Debug)]
struct Body {
    engine: Decompressor,
    read: u64,
    written: u64,
}

impl DecompressorActive {
    pub(crate) fn begin(
        at: usize,
        filter: &DecompressorFilter,
        start: &Start<'_>,
        env: &mut Env<'_>,
        head: &mut RequestHead,
    ) -> Self {
        if filter.response.enabled && filter.advertise {
            advertise(filter.library.coding(), &mut head.headers, env.scratch);
        }
        let request = match start.whole {
            true => None,
            false => body(filter, &filter.request, &mut head.headers, env.scratch, env.stats),
        };
        Self { at: u16::try_from(at).unwrap_or(u16::MAX), request, response: None }
    }

    /// Of a request that another filter has answered before it came here.
    pub(crate) fn of_answer(at: usize) -> Self {
        Self { at: u16::try_from(at).unwrap_or(u16::MAX), request: None, response: None }
    }

    pub(crate) fn changes_request(&self) -> bool {
        self.request.is_some()
    }

    pub(crate) fn changes_response(&self) -> bool {
        self.response.is_some()
    }

    pub(crate) fn response_head(&mut self, head: &mut ResponseHead, end: bool, env: &mut ResponseEnv<'_>) {
        let tunnel = head.status == 101 || env.request.method_kind() == Method::Connect;
        if end || tunnel {
            return;
        }
        if let Some(filter) = filter_at(env.start, self.at) {
            self.response = body(filter, &filter.response, &mut head.headers, env.scratch, env.stats);
        }
    }

    /// Appends to `out` what goes on of a body instead of `data`; the last piece tells its bytes in the trailers.
    ///
    /// # Errors
    /// The body is not what it says, or grows too much: 400 for a request; a response is aborted.
    pub(crate) fn data(
        &mut self,
        side: Side,
        (data, end): (&[u8], bool),
        trailers: &mut HeaderMap,
        out: &mut Vec<u8>,
        env: &mut ResponseEnv<'_>,
    ) -> Result<(), Box<LocalReply>> {
        let Some(filter) = filter_at(env.start, self.at) else { return Ok(()) };
        let (body, direction) = match side {
            Side::Request => (&mut self.request, &filter.request),
            Side::Response => (&mut self.response, &filter.response),
        };
        let Some(body) = body else { return Ok(()) };
        body.decompress(filter, direction, data, end, out, env.stats).map_err(|_| {
            Box::new(match side {
                Side::Request => {
                    LocalReply::new(400, "Bad Request", "request_decompression_failed").closing()
                }
                Side::Response => LocalReply::new(502, "", "response_decompression_failed")
                    .flagged(ResponseFlag::UpstreamProtocolError),
            })
        })?;
        if end {
            body.tell(filter, trailers);
        }
        Ok(())
    }
}

impl Body {
    fn decompress(
        &mut self,
        filter: &DecompressorFilter,
        direction: &DecompressDirection,
        data: &[u8],
        end: bool,
        out: &mut Vec<u8>,
        stats: &mut ShardStats,
    ) -> Result<(), DecompressError> {
        let before = out.len();
        let result = self.engine.decompress(data, end, out);
        let (read, written) = (data.len() as u64, (out.len() - before) as u64);
        self.read += read;
        self.written += written;
        stats.add(direction.scope, metric::TOTAL_COMPRESSED_BYTES, read);
        stats.add(direction.scope, metric::TOTAL_UNCOMPRESSED_BYTES, written);
        if let Err(error) = result {
            let counter = match (filter.library.coding(), error) {
                (Coding::Gzip, _) => library::ZLIB_DATA_ERROR,
                (Coding::Brotli, DecompressError::TooLarge) => library::BROTLI_OUTPUT_OVERFLOW,
                (Coding::Brotli, _) => library::BROTLI_ERROR,
                (Coding::Zstd, DecompressError::UnknownDictionary) => library::ZSTD_DICTIONARY_ERROR,
                (Coding::Zstd, _) => library::ZSTD_GENERIC_ERROR,
            };
            stats.inc(filter.scope, counter);
        }
        result
    }

    fn tell(&self, filter: &DecompressorFilter, trailers: &mut HeaderMap) {
        for (name, bytes) in filter.trailers.iter().zip([self.read, self.written]) {
            trailers.append(name, bytes.to_string().as_bytes());
        }
    }
}

fn filter_at<'c>(start: &Start<'c>, at: u16) -> Option<&'c DecompressorFilter> {
    match &start.hcm.http_filters.get(usize::from(at))?.kind {
        HttpFilterKind::Decompressor(filter) => Some(filter),
        _ => None,
    }
}

/// The endpoint is told that its answer may be compressed, whatever the client takes.
fn advertise(coding: Coding, headers: &mut HeaderMap, scratch: &mut Vec<u8>) {
    let name = coding.name().as_bytes();
    let mut list = Vec::new();
    let field = value(headers, HeaderId::AcceptEncoding, scratch).unwrap_or_default();
    for member in members(field).filter(|member| without_parameters(member) != name) {
        list.extend_from_slice(member);
        list.push(b',');
    }
    list.extend_from_slice(name);
    headers.set_id(HeaderId::AcceptEncoding, &list);
}

/// Takes a message whose first coding is the filter's, and strikes that out of the head.
fn body(
    filter: &DecompressorFilter,
    direction: &DecompressDirection,
    headers: &mut HeaderMap,
    scratch: &mut Vec<u8>,
    stats: &mut ShardStats,
) -> Option<Box<Body>> {
    let coded = value(headers, HeaderId::ContentEncoding, scratch);
    let first = coded.and_then(|codings| codings.split(|b| *b == b',').next()).unwrap_or_default();
    let own = first.trim_ascii().eq_ignore_ascii_case(filter.library.coding().name().as_bytes());
    let takes = direction.enabled && own && (direction.ignore_no_transform || !may_not_transform(headers));
    let Some(engine) = takes.then(|| Decompressor::new(&filter.library)).flatten() else {
        stats.inc(direction.scope, metric::NOT_DECOMPRESSED);
        return None;
    };
    stats.inc(direction.scope, metric::DECOMPRESSED);
    let rest =
        coded.unwrap_or_default().splitn(2, |b| *b == b',').nth(1).map(|rest| rest.trim_ascii().to_vec());
    headers.remove_id(HeaderId::ContentLength);
    match rest {
        Some(rest) => _ = headers.set_id(HeaderId::ContentEncoding, &rest),
        None => _ = headers.remove_id(HeaderId::ContentEncoding),
    }
    Some(Box::new(Body { engine, read: 0, written: 0 }))
}
