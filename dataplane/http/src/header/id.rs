//! Well-known field names as numbers, found by one hash and one comparison.

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
    pub(crate) fn bit(self) -> u128 {
        1 << self as u8
    }
}

const SLOTS: usize = 512;
const EMPTY: u8 = u8::MAX;

/// Mixes the length and four bytes; good enough that few of our names share a slot.
#[inline]
const fn hash(name: &[u8]) -> usize {
    let n = name.len();
    if n == 0 {
        return 0;
    }
    let mixed = (n as u32).wrapping_mul(0x9e37)
        ^ (name[0] as u32).wrapping_mul(0x85eb_ca6b)
        ^ (name[n - 1] as u32).wrapping_mul(0xc2b2_ae35)
        ^ (name[n / 2] as u32).wrapping_mul(0x27d4_eb2f)
        ^ (name[n * 3 / 4] as u32).wrapping_mul(0x1656_67b1);
    ((mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d) >> 23) as usize % SLOTS
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
