//! `envoy.filters.http.compressor`.

use millrace_compression::Compressor;
use millrace_config::{
    Coding, CompressDirection, CompressorFilter, CompressorLibrary, CompressorPerRoute, HttpFilterKind,
    PerFilterConfig,
};
use millrace_http::{HeaderId, HeaderMap, Method, RequestHead, ResponseHead};
use millrace_observe::stats::{ShardStats, compressor as metric, compressor_direction as direction};

use super::accept::{Accept, Decision, Offer};
use super::{may_not_transform, members, value, without_parameters};
use crate::http::stream_filters::{Env, ResponseEnv, Start, runs};

/// A request at a compressor.
#[derive(Debug)]
pub(crate) struct CompressorActive {
    /// The filter's position in the chain.
    at: u16,
    /// `accept-encoding` as the request came here.
    accept: Option<Accept>,
    request: Option<Box<Compressor>>,
    response: Option<Box<Compressor>>,
}

impl CompressorActive {
    pub(crate) fn begin(
        at: usize,
        filter: &CompressorFilter,
        own: Option<&PerFilterConfig>,
        start: &Start<'_>,
        env: &mut Env<'_>,
        head: &mut RequestHead,
    ) -> Self {
        let route = of_route(own);
        let field = value(&head.headers, HeaderId::AcceptEncoding, env.scratch);
        let accept = field.map(Accept::parse);
        let remove = route.and_then(|route| route.remove_accept_encoding);
        if responses_enabled(filter, route) && remove.unwrap_or(filter.response.remove_accept_encoding) {
            head.headers.remove_id(HeaderId::AcceptEncoding);
        }
        let takes = !start.whole
            && filter.request.enabled
            && is_long_enough(&filter.request, &head.headers, env.stats)
            && is_of_type(&filter.request, &head.headers)
            && !head.headers.contains(HeaderId::ContentEncoding);
        let library = library(filter, route);
        let request = takes.then(|| Compressor::new(library)).flatten();
        count(request.is_some(), &filter.request, env.stats);
        if request.is_some() {
            head.headers.remove_id(HeaderId::ContentLength);
            head.headers.set_id(HeaderId::ContentEncoding, library.coding().name().as_bytes());
        }
        let at = u16::try_from(at).unwrap_or(u16::MAX);
        Self { at, accept, request: request.map(Box::new), response: None }
    }

    /// Of a request that another filter has answered before it came here.
    pub(crate) fn of_answer(at: usize) -> Self {
        Self { at: u16::try_from(at).unwrap_or(u16::MAX), accept: None, request: None, response: None }
    }

    pub(crate) fn changes_request(&self) -> bool {
        self.request.is_some()
    }

    pub(crate) fn changes_response(&self) -> bool {
        self.response.is_some()
    }

    /// `decision` is what the first compressor that the response came to has chosen.
    pub(crate) fn response_head(
        &mut self,
        head: &mut ResponseHead,
        end: bool,
        env: &mut ResponseEnv<'_>,
        decision: &mut Option<Decision>,
    ) {
        let start = env.start;
        let Some((filter, name)) = filter_at(start, self.at) else { return };
        let route = of_route(start.levels(name).next());
        let library = library(filter, route);
        let fate = self.judge(filter, route, head, end, env, decision);
        if fate.compressible {
            add_vary(&mut head.headers);
        }
        self.response = match fate.compress {
            true => Compressor::new(library).map(Box::new),
            false => None,
        };
        count(self.response.is_some(), &filter.response.common, env.stats);
        if filter.response.status_header
            && let Some(status) = fate.status
        {
            tell_status(library.coding(), status, &mut head.headers);
        }
        if self.response.is_some() {
            sanitize_etag(filter.response.weaken_etag, &mut head.headers);
            head.headers.remove_id(HeaderId::ContentLength);
            head.headers.set_id(HeaderId::ContentEncoding, library.coding().name().as_bytes());
        }
    }

    fn judge(
        &self,
        filter: &CompressorFilter,
        route: Option<&CompressorPerRoute>,
        head: &ResponseHead,
        end: bool,
        env: &mut ResponseEnv<'_>,
        decision: &mut Option<Decision>,
    ) -> Fate {
        let skipped = |status| Fate { status: Some(status).filter(|_| !end), ..Fate::default() };
        let tunnel = head.status == 101 || env.request.method_kind() == Method::Connect;
        if !responses_enabled(filter, route) || tunnel {
            return Fate::default();
        }
        let response = &filter.response;
        let mut accepts = None;
        if !is_long_enough(&response.common, &head.headers, env.stats) {
            return skipped("ContentLengthTooSmall");
        }
        // Without the status header Envoy asks the client first, and counts what it says.
        if !response.status_header && !end {
            accepts = Some(self.accepts(filter, route, head, env, decision));
        }
        if !is_of_type(&response.common, &head.headers) {
            return skipped("ContentTypeNotAllowed");
        }
        if may_not_transform(&head.headers) || head.headers.contains(HeaderId::ContentEncoding) {
            return Fate::default();
        }
        if response.disable_on_etag && !response.weaken_etag && head.headers.contains(HeaderId::Etag) {
            env.stats.inc(filter.scope, metric::NOT_COMPRESSED_ETAG);
            return skipped("EtagNotAllowed");
        }
        if response.uncompressible_codes.contains(&head.status) {
            return skipped("StatusCodeNotAllowed");
        }
        let compress = !end && accepts.unwrap_or_else(|| self.accepts(filter, route, head, env, decision));
        Fate { compressible: true, compress, status: compress.then_some("Compressed") }
    }

    /// Whether the client takes this filter's coding, rather than another one of the chain.
    fn accepts(
        &self,
        filter: &CompressorFilter,
        route: Option<&CompressorPerRoute>,
        head: &ResponseHead,
        env: &mut ResponseEnv<'_>,
        decision: &mut Option<Decision>,
    ) -> bool {
        let Some(accept) = &self.accept else {
            env.stats.inc(filter.scope, metric::NO_ACCEPT_HEADER);
            return false;
        };
        let start = env.start;
        let decision = *decision.get_or_insert_with(|| accept.choose(offers(start, &head.headers)));
        let own = library(filter, route).coding();
        let (counter, chosen) = match decision {
            Decision::Named(coding) if coding == own => (metric::HEADER_COMPRESSOR_USED, true),
            Decision::Named(_) => (metric::HEADER_COMPRESSOR_OVERSHADOWED, false),
            Decision::Any(coding) => (metric::HEADER_WILDCARD, coding == own),
            Decision::Identity => (metric::HEADER_IDENTITY, false),
            Decision::NotValid => (metric::HEADER_NOT_VALID, false),
        };
        env.stats.inc(filter.scope, counter);
        chosen
    }

    pub(crate) fn request_data(
        &mut self,
        data: &[u8],
        end: bool,
        out: &mut Vec<u8>,
        env: &mut ResponseEnv<'_>,
    ) {
        if let (Some(engine), Some((filter, _))) = (&mut self.request, filter_at(env.start, self.at)) {
            compress(engine, &filter.request, data, end, out, env.stats);
        }
    }

    pub(crate) fn response_data(
        &mut self,
        data: &[u8],
        end: bool,
        out: &mut Vec<u8>,
        env: &mut ResponseEnv<'_>,
    ) {
        if let (Some(engine), Some((filter, _))) = (&mut self.response, filter_at(env.start, self.at)) {
            compress(engine, &filter.response.common, data, end, out, env.stats);
        }
    }
}

/// What becomes of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fate {
    /// It could be compressed for a client that takes it, and says so.
    compressible: bool,
    compress: bool,
    status: Option<&'static str>,
}

fn filter_at<'c>(start: &Start<'c>, at: u16) -> Option<(&'c CompressorFilter, &'c str)> {
    let filter = start.hcm.http_filters.get(usize::from(at))?;
    match &filter.kind {
        HttpFilterKind::Compressor(compressor) => Some((compressor, &filter.name)),
        _ => None,
    }
}

fn of_route(own: Option<&PerFilterConfig>) -> Option<&CompressorPerRoute> {
    match own {
        Some(PerFilterConfig::Compressor(route)) => Some(route),
        _ => None,
    }
}

fn responses_enabled(filter: &CompressorFilter, route: Option<&CompressorPerRoute>) -> bool {
    route.and_then(|route| route.enabled).unwrap_or(filter.response.common.enabled)
}

fn library<'c>(filter: &'c CompressorFilter, route: Option<&'c CompressorPerRoute>) -> &'c CompressorLibrary {
    route.and_then(|route| route.library.as_ref()).unwrap_or(&filter.library)
}

/// The compressors that take part and may take this response, in the order of the chain.
fn offers<'s>(start: &'s Start<'_>, headers: &'s HeaderMap) -> impl Iterator<Item = Offer> + Clone + 's {
    start.hcm.http_filters.iter().filter_map(move |filter| match &filter.kind {
        HttpFilterKind::Compressor(compressor)
            if runs(start, filter) && is_of_type(&compressor.response.common, headers) =>
        {
            let route = of_route(start.levels(&filter.name).next());
            let coding = library(compressor, route).coding();
            Some(Offer { coding, choose_first: compressor.choose_first })
        }
        _ => None,
    })
}

fn is_long_enough(config: &CompressDirection, headers: &HeaderMap, stats: &mut ShardStats) -> bool {
    let Some(length) = headers.get(HeaderId::ContentLength) else { return true };
    let length: Option<u64> = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
    let enough = length.is_some_and(|length| length >= u64::from(config.min_content_length));
    if !enough {
        stats.inc(config.scope, direction::CONTENT_LENGTH_TOO_SMALL);
    }
    enough
}

fn is_of_type(config: &CompressDirection, headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(HeaderId::ContentType) else { return true };
    let content_type = without_parameters(content_type);
    config.content_types.iter().any(|one| one.matches(content_type))
}

fn count(compressed: bool, config: &CompressDirection, stats: &mut ShardStats) {
    stats.inc(config.scope, if compressed { direction::COMPRESSED } else { direction::NOT_COMPRESSED });
}

fn compress(
    engine: &mut Compressor,
    config: &CompressDirection,
    data: &[u8],
    end: bool,
    out: &mut Vec<u8>,
    stats: &mut ShardStats,
) {
    let before = out.len();
    engine.compress(data, end, out);
    stats.add(config.scope, direction::TOTAL_UNCOMPRESSED_BYTES, data.len() as u64);
    stats.add(config.scope, direction::TOTAL_COMPRESSED_BYTES, (out.len() - before) as u64);
}

/// Caches must know that other clients get something else.
fn add_vary(headers: &mut HeaderMap) {
    const NAME: &[u8] = b"Accept-Encoding";
    let mut scratch = Vec::new();
    let Some(vary) = value(headers, HeaderId::Vary, &mut scratch) else {
        headers.set_id(HeaderId::Vary, NAME);
        return;
    };
    if !members(vary).any(|member| member == NAME) {
        let vary = [vary, b", ", NAME].concat();
        headers.set_id(HeaderId::Vary, &vary);
    }
}

/// A strong validator is that of the bytes as they were.
fn sanitize_etag(weaken: bool, headers: &mut HeaderMap) {
    let Some(etag) = headers.get(HeaderId::Etag) else { return };
    if etag.len() <= 2 || etag.starts_with(b"W/") || etag.starts_with(b"w/") {
        return;
    }
    match weaken {
        true => {
            let weak = [b"W/", etag].concat();
            headers.set_id(HeaderId::Etag, &weak);
        }
        false => _ = headers.remove_id(HeaderId::Etag),
    }
}

/// `x-envoy-compression-status`, behind what other compressors have said.
fn tell_status(coding: Coding, status: &str, headers: &mut HeaderMap) {
    const NAME: &[u8] = b"x-envoy-compression-status";
    let mut line = Vec::new();
    if headers.joined(NAME, &mut line) {
        line.push(b',');
    }
    line.extend_from_slice(format!("{};{status}", coding.name()).as_bytes());
    if let Some(length) = headers.get(HeaderId::ContentLength).filter(|_| status == "Compressed") {
        line.extend_from_slice(b";OriginalLength=");
        line.extend_from_slice(length);
    }
    headers.set(NAME, &line);
}
