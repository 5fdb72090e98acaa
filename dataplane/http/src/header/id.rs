//! Well-known field names as numbers, found by one hash and one comparison.

use crate::block;

macro_rules! ids {
    ($($variant:ident = $name:literal,)*) => {
        /// A field name that the data plane knows. At most 128, so that a set of them is one `u128`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "each variant is the name in its row")]
        pub enum HeaderId { $($variant,)* }

        impl HeaderId {
            /// Every known name, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            const NAMES: &'static [&'static str] = &[$($name,)*];
            const STARTS: &'static [&'static str] = &[$(concat!($name, ": "),)*];
        }
    };
}

ids! {
    Host = "host",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    Connection = "connection",
    KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection",
    Te = "te",
    Trailer = "trailer",
    Upgrade = "upgrade",
    Expect = "expect",
    Date = "date",
    Server = "server",
    Via = "via",
    UserAgent = "user-agent",
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    AcceptLanguage = "accept-language",
    ContentType = "content-type",
    ContentEncoding = "content-encoding",
    ContentRange = "content-range",
    Cookie = "cookie",
    SetCookie = "set-cookie",
    Location = "location",
    Authorization = "authorization",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    WwwAuthenticate = "www-authenticate",
    Origin = "origin",
    Referer = "referer",
    Range = "range",
    Vary = "vary",
    Age = "age",
    Allow = "allow",
    CacheControl = "cache-control",
    Expires = "expires",
    LastModified = "last-modified",
    Etag = "etag",
    IfMatch = "if-match",
    IfNoneMatch = "if-none-match",
    IfModifiedSince = "if-modified-since",
    RetryAfter = "retry-after",
    Pragma = "pragma",
    EarlyData = "early-data",
    Forwarded = "forwarded",
    Http2Settings = "http2-settings",
    SecWebsocketKey = "sec-websocket-key",
    SecWebsocketVersion = "sec-websocket-version",
    SecWebsocketAccept = "sec-websocket-accept",
    SecWebsocketProtocol = "sec-websocket-protocol",
    SecWebsocketExtensions = "sec-websocket-extensions",
    ProxyStatus = "proxy-status",
    CdnLoop = "cdn-loop",
    AltSvc = "alt-svc",
    AccessControlRequestMethod = "access-control-request-method",
    AccessControlRequestHeaders = "access-control-request-headers",
    AccessControlAllowOrigin = "access-control-allow-origin",
    AccessControlAllowMethods = "access-control-allow-methods",
    AccessControlAllowHeaders = "access-control-allow-headers",
    AccessControlAllowCredentials = "access-control-allow-credentials",
    AccessControlExposeHeaders = "access-control-expose-headers",
    AccessControlMaxAge = "access-control-max-age",
    XForwardedFor = "x-forwarded-for",
    XForwardedProto = "x-forwarded-proto",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedClientCert = "x-forwarded-client-cert",
    XRequestId = "x-request-id",
    XClientTraceId = "x-client-trace-id",
    XEnvoyExternalAddress = "x-envoy-external-address",
    XEnvoyInternal = "x-envoy-internal",
    XEnvoyDecoratorOperation = "x-envoy-decorator-operation",
    XEnvoyDownstreamServiceCluster = "x-envoy-downstream-service-cluster",
    XEnvoyDownstreamServiceNode = "x-envoy-downstream-service-node",
    XEnvoyAttemptCount = "x-envoy-attempt-count",
    XEnvoyExpectedRqTimeoutMs = "x-envoy-expected-rq-timeout-ms",
    XEnvoyUpstreamServiceTime = "x-envoy-upstream-service-time",
    XEnvoyUpstreamRqTimeoutMs = "x-envoy-upstream-rq-timeout-ms",
    XEnvoyUpstreamRqPerTryTimeoutMs = "x-envoy-upstream-rq-per-try-timeout-ms",
    XEnvoyUpstreamRqTimeoutAltResponse = "x-envoy-upstream-rq-timeout-alt-response",
    XEnvoyRetryOn = "x-envoy-retry-on",
    XEnvoyRetryGrpcOn = "x-envoy-retry-grpc-on",
    XEnvoyMaxRetries = "x-envoy-max-retries",
    XEnvoyRetriableStatusCodes = "x-envoy-retriable-status-codes",
    XEnvoyRetriableHeaderNames = "x-envoy-retriable-header-names",
    XEnvoyIsTimeoutRetry = "x-envoy-is-timeout-retry",
    XEnvoyHedgeOnPerTryTimeout = "x-envoy-hedge-on-per-try-timeout",
    XEnvoyOriginalPath = "x-envoy-original-path",
    XEnvoyOriginalHost = "x-envoy-original-host",
    XEnvoyOriginalMethod = "x-envoy-original-method",
    XEnvoyOriginalUrl = "x-envoy-original-url",
    XEnvoyOriginalDstHost = "x-envoy-original-dst-host",
    XEnvoyOverloaded = "x-envoy-overloaded",
    XEnvoyLocalOverloaded = "x-envoy-local-overloaded",
    XEnvoyRateLimited = "x-envoy-ratelimited",
    XEnvoyDegraded = "x-envoy-degraded",
    XEnvoyImmediateHealthCheckFail = "x-envoy-immediate-health-check-fail",
    XEnvoyUpstreamHealthcheckedCluster = "x-envoy-upstream-healthchecked-cluster",
    XEnvoyUpstreamCanary = "x-envoy-upstream-canary",
    XEnvoyIpTags = "x-envoy-ip-tags",
    XEnvoyForceTrace = "x-envoy-force-trace",
    XEnvoyUpstreamAltStatName = "x-envoy-upstream-alt-stat-name",
    XEnvoyUpstreamStreamDurationMs = "x-envoy-upstream-stream-duration-ms",
    XEnvoyCluster = "x-envoy-cluster",
    XEnvoyProtocolVersion = "x-envoy-protocol-version",
    XEnvoyPeerMetadata = "x-envoy-peer-metadata",
    XEnvoyPeerMetadataId = "x-envoy-peer-metadata-id",
    GrpcTimeout = "grpc-timeout",
    GrpcStatus = "grpc-status",
    GrpcMessage = "grpc-message",
    GrpcEncoding = "grpc-encoding",
    GrpcAcceptEncoding = "grpc-accept-encoding",
    GrpcStatusDetailsBin = "grpc-status-details-bin",
    Traceparent = "traceparent",
    Tracestate = "tracestate",
    B3 = "b3",
    XB3TraceId = "x-b3-traceid",
    XB3SpanId = "x-b3-spanid",
    XB3ParentSpanId = "x-b3-parentspanid",
    XB3Sampled = "x-b3-sampled",
    XB3Flags = "x-b3-flags",
}

const _: () = assert!(HeaderId::ALL.len() <= 128);

impl HeaderId {
    /// The lower-case name.
    #[inline]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The number of a lower-case name; `None` for names that nobody in the data plane asks for.
    #[inline]
    pub fn lookup(lower_name: &[u8]) -> Option<Self> {
        let mut slot = hash(lower_name);
        loop {
            let index = TABLE[slot];
            if index == EMPTY {
                return None;
            }
            if Self::NAMES[index as usize].as_bytes() == lower_name {
                return Some(Self::ALL[index as usize]);
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// The lower-case name with what follows it in a stored line.
    #[inline]
    pub(crate) fn line_start(self) -> &'static [u8] {
        Self::STARTS[self as usize].as_bytes()
    }

    /// [`HeaderId::lookup`] for the first `len` bytes of `rest` in any case of letters, and whether there are capitals.
    // A function of its own has the registers that it needs; inlined into the parser it had not.
    #[inline(never)]
    pub(crate) fn find(rest: &[u8], len: usize) -> Option<(Self, bool)> {
        let name = rest.get(..len)?;
        let (first, last) = ends(name, || block::load(rest, 0));
        let mut slot = slot(block::lower(first), block::lower(last), len);
        loop {
            let index = TABLE[slot];
            if index == EMPTY {
                return None;
            }
            let known = &KNOWN[index as usize];
            if known.len == len
                && let Some(capitals) = known.is(name, last)
            {
                return Some((Self::ALL[index as usize], capitals));
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Fields that delimit or route a message on one connection; a peer must not be able to smuggle,
    /// strip or trail them (RFC 9112 section 6, RFC 9110 section 7.6.1).
    pub fn is_framing(self) -> bool {
        use HeaderId::*;
        matches!(
            self,
            Host | ContentLength
                | TransferEncoding
                | Connection
                | KeepAlive
                | ProxyConnection
                | Te
                | Trailer
                | Upgrade
                | Expect
        )
    }

    /// Fields that say who is asking or where the request came from.
    pub fn is_identity(self) -> bool {
        use HeaderId::*;
        matches!(
            self,
            Authorization
                | ProxyAuthorization
                | Cookie
                | Forwarded
                | Via
                | XForwardedFor
                | XForwardedProto
                | XForwardedHost
                | XForwardedPort
                | XForwardedClientCert
                | XRequestId
        ) || self.name().starts_with("x-envoy-")
    }

    /// This name's bit in a set of names.
    #[inline]
    pub(crate) const fn bit(self) -> u128 {
        1 << self as u8
    }

    /// A set of names for [`HeaderMap::contains_any`](super::HeaderMap::contains_any).
    pub const fn set(ids: &[Self]) -> u128 {
        let (mut set, mut i) = (0, 0);
        while i < ids.len() {
            set |= ids[i].bit();
            i += 1;
        }
        set
    }
}

const SLOTS: usize = 512;
const EMPTY: u8 = u8::MAX;

/// Whole words of the longest name.
const WORDS: usize = 5;

/// A name as it is compared: its whole words, and its last eight bytes, which overlap them.
struct Known {
    len: usize,
    words: [u64; WORDS],
    last: u64,
}

impl Known {
    const NONE: Self = Self { len: 0, words: [0; WORDS], last: 0 };

    const fn of(name: &[u8]) -> Self {
        assert!(!name.is_empty() && name.len() < (WORDS + 1) * block::LEN, "a name needs more words");
        let mut known = Self { len: name.len(), ..Self::NONE };
        let (words, _) = name.as_chunks();
        let mut i = 0;
        while i < words.len() {
            known.words[i] = u64::from_le_bytes(words[i]);
            i += 1;
        }
        known.last = lower_ends(name).1;
        known
    }

    /// Compares a name of this length that has these last bytes; `Some` says whether it has capitals.
    #[inline]
    fn is(&self, name: &[u8], last: u64) -> Option<bool> {
        let wrong = |word: u64, wanted: u64| (block::lower(word) ^ wanted) | block::raised_controls(word);
        let (mut differs, mut raised) = (wrong(last, self.last), block::raised(last));
        for (word, wanted) in name.as_chunks().0.iter().zip(&self.words) {
            let word = u64::from_le_bytes(*word);
            differs |= wrong(word, *wanted);
            raised |= block::raised(word);
        }
        (differs == 0).then_some(raised != 0)
    }
}

static KNOWN: [Known; HeaderId::NAMES.len()] = {
    let mut table = [const { Known::NONE }; HeaderId::NAMES.len()];
    let mut i = 0;
    while i < table.len() {
        table[i] = Known::of(HeaderId::NAMES[i].as_bytes());
        i += 1;
    }
    table
};

/// The first and the last eight bytes of a name; a shorter one, which `word` starts with, is filled up with blanks.
#[inline]
fn ends(name: &[u8], word: impl FnOnce() -> Option<u64>) -> (u64, u64) {
    match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => {
            let inside = block::first_bytes(name.len());
            let word = word().unwrap_or(0) & inside | block::lower(0) & !inside;
            (word, word)
        }
    }
}

/// [`ends`] of a name in lower case.
#[inline]
const fn lower_ends(name: &[u8]) -> (u64, u64) {
    match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => {
            let (mut word, mut at) = ([b' '; block::LEN], 0);
            while at < name.len() {
                word[at] = name[at];
                at += 1;
            }
            (u64::from_le_bytes(word), u64::from_le_bytes(word))
        }
    }
}

/// Mixes the length and the first and the last eight bytes; good enough that few of our names share a slot.
#[inline]
const fn slot(first: u64, last: u64, len: usize) -> usize {
    let mixed = (first ^ last.rotate_left(27) ^ len as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - SLOTS.trailing_zeros())) as usize
}

/// The slot of a name given in lower case.
#[inline]
const fn hash(name: &[u8]) -> usize {
    let (first, last) = lower_ends(name);
    slot(first, last, name.len())
}

static TABLE: [u8; SLOTS] = build();

const fn build() -> [u8; SLOTS] {
    let mut table = [EMPTY; SLOTS];
    let mut i = 0;
    while i < HeaderId::NAMES.len() {
        let mut slot = hash(HeaderId::NAMES[i].as_bytes());
        while table[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = i as u8;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_lower_case() {
        for id in HeaderId::ALL {
            assert_eq!(HeaderId::lookup(id.name().as_bytes()), Some(*id));
            assert!(!id.name().bytes().any(|b| b.is_ascii_uppercase()));
        }
        for unknown in ["", "x", "Host", "content-lengtj", "x-envoy-", "zz-top"] {
            assert_eq!(HeaderId::lookup(unknown.as_bytes()), None, "{unknown}");
        }
    }

    #[test]
    fn names_in_any_case_are_found_as_lookup_finds_them() {
        let mut rng = millrace_base::Rng::new(5);
        let found = |name: &[u8]| {
            let by_end = [&b""[..], b": ", b": value\r\n\r\n"]
                .map(|behind| HeaderId::find(&[name, behind].concat(), name.len()));
            assert!(by_end.iter().all(|found| *found == by_end[0]), "{}", name.escape_ascii());
            by_end[0]
        };
        for id in HeaderId::ALL {
            for round in 0..50 {
                let mut name = id.name().as_bytes().to_vec();
                if round > 0 {
                    let at = rng.below(name.len() as u64) as usize;
                    name[at] = b"abcxyz019-"[rng.below(10) as usize];
                }
                let known = HeaderId::lookup(&name);
                for b in &mut name {
                    if rng.chance(1, 2) {
                        b.make_ascii_uppercase();
                    }
                }
                let capitals = name.iter().any(u8::is_ascii_uppercase);
                assert_eq!(found(&name), known.map(|id| (id, capitals)), "{}", name.escape_ascii());
            }
        }
        assert_eq!(found(b"content\rlength"), None, "bit 5 makes a dash of a CR");
        assert_eq!((found(&[b'a'; 60]), found(b"")), (None, None));
    }

    #[test]
    fn probe_chains_stay_short() {
        let worst = HeaderId::ALL
            .iter()
            .map(|id| {
                let home = hash(id.name().as_bytes());
                (0..SLOTS).find(|d| TABLE[(home + d) % SLOTS] == *id as u8).expect("stored")
            })
            .max()
            .expect("not empty");
        assert!(worst <= 3, "longest probe {worst}");
    }
}
