//! Chains of ten HTTP filters for the benches of whole requests.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::format::Template;
use millrace_config::{
    AdmissionControl, AdmissionId, AppendAction, BufferFilter, CompressDirection, CompressResponses,
    CompressorFilter, CompressorLibrary, CorsFilter, CsrfFilter, CsrfPolicy, Fault, FaultAbort, FaultFilter,
    Fraction, GrpcHttp1Bridge, GrpcMethods, GrpcStats, GzipCompressor, GzipStrategy, HeaderMatcher,
    HeaderMatcherKind, HeaderMutationFilter, HeaderMutationStep, HeaderOption, HeaderToMetadata,
    HealthCheckFilter, HttpFilterKind, LocalRateLimit, MetadataRule, MetadataWrite, MutationLists,
    RuleSource, RuleValueType, ScopeId, StringMatcher, TokenBucketConfig,
};
use millrace_observe::stats::{Registry, ScopeKind};

const NONE: Fraction = Fraction { numerator: 0, denominator: 100 };
const ALL: Fraction = Fraction { numerator: 100, denominator: 100 };

fn fault(scope: ScopeId) -> HttpFilterKind {
    let fault = Fault {
        delay: None,
        delay_override: None,
        abort: Some((FaultAbort::Http(503), NONE)),
        abort_http_override: None,
        abort_grpc_override: None,
        abort_body: "fault filter abort".into(),
        rate: None,
        upstream_cluster: "".into(),
        downstream_nodes: Vec::new(),
        headers: Vec::new(),
        max_active: None,
    };
    HttpFilterKind::Fault(Arc::new(FaultFilter::new(Arc::new(fault), scope)))
}

fn csrf(scope: ScopeId) -> HttpFilterKind {
    let policy = CsrfPolicy { enabled: ALL, shadow: NONE, additional_origins: Vec::new() };
    HttpFilterKind::Csrf(Arc::new(CsrfFilter { policy: Arc::new(policy), scope }))
}

/// Ten filters that are enabled and have nothing to do with an ordinary request.
pub(crate) fn idle(registry: &Registry) -> Vec<HttpFilterKind> {
    let scope = |kind, name: &str| registry.scope(kind, &format!("ingress.{name}"));
    vec![
        fault(scope(ScopeKind::HttpFault, "fault")),
        HttpFilterKind::LocalRateLimit(Arc::new(LocalRateLimit::unlimited(
            registry.scope(ScopeKind::HttpLocalRateLimit, "rl.http_local_rate_limit"),
        ))),
        HttpFilterKind::Cors(CorsFilter { scope: scope(ScopeKind::HttpCors, "cors") }),
        csrf(scope(ScopeKind::HttpCsrf, "csrf")),
        HttpFilterKind::Buffer(BufferFilter::UpTo(1 << 20)),
        HttpFilterKind::HeaderMutation(Arc::new(HeaderMutationFilter {
            own: Arc::default(),
            most_specific_wins: false,
        })),
        HttpFilterKind::GrpcStats(Arc::new(GrpcStats {
            methods: GrpcMethods::All,
            upstream_time: false,
            replace_dots: false,
        })),
        HttpFilterKind::GrpcWeb,
        HttpFilterKind::GrpcHttp1Bridge(GrpcHttp1Bridge::default()),
        HttpFilterKind::HeaderToMetadata(Arc::new(HeaderToMetadata {
            scope: None,
            request: vec![to_metadata("x-none")],
            response: Vec::new(),
        })),
    ]
}

/// Ten filters of a mesh, each of which looks at every request and decides.
pub(crate) fn working(registry: &Registry) -> Vec<HttpFilterKind> {
    let scope = |kind, name: &str| registry.scope(kind, &format!("ingress.{name}"));
    let bucket = TokenBucketConfig {
        max_tokens: u32::MAX,
        tokens_per_fill: u32::MAX,
        fill_interval: Duration::from_secs(1),
    };
    let limits = registry.scope(ScopeKind::HttpLocalRateLimit, "rl.http_local_rate_limit");
    let limit = LocalRateLimit {
        bucket: Some(bucket),
        enabled: ALL,
        enforced: ALL,
        ..LocalRateLimit::unlimited(limits)
    };
    let path = StringMatcher::Exact { value: b"/healthz"[..].into(), ignore_case: false };
    let probe = HeaderMatcher {
        name: b":path"[..].into(),
        kind: HeaderMatcherKind::String(path),
        invert: false,
        missing_as_empty: false,
    };
    let health = HealthCheckFilter {
        pass_through: false,
        cache: None,
        min_healthy: Vec::new(),
        headers: vec![probe],
        scope: scope(ScopeKind::HttpHealthCheck, "health_check"),
    };
    vec![
        HttpFilterKind::HealthCheck(Arc::new(health)),
        HttpFilterKind::Cors(CorsFilter { scope: scope(ScopeKind::HttpCors, "cors") }),
        csrf(scope(ScopeKind::HttpCsrf, "csrf")),
        fault(scope(ScopeKind::HttpFault, "fault")),
        HttpFilterKind::LocalRateLimit(Arc::new(limit.with_buckets())),
        HttpFilterKind::AdmissionControl(Arc::new(admission(scope(
            ScopeKind::HttpAdmissionControl,
            "admission_control",
        )))),
        HttpFilterKind::HeaderToMetadata(Arc::new(HeaderToMetadata {
            scope: None,
            request: vec![to_metadata("user-agent")],
            response: Vec::new(),
        })),
        HttpFilterKind::HeaderMutation(Arc::new(mutation())),
        HttpFilterKind::Buffer(BufferFilter::UpTo(1 << 20)),
        HttpFilterKind::Compressor(Arc::new(compressor(registry))),
    ]
}

fn to_metadata(field: &str) -> MetadataRule {
    let write = MetadataWrite {
        namespace: "envoy.lb".into(),
        key: "agent".into(),
        value: None,
        rewrite: None,
        kind: RuleValueType::String,
        base64: false,
    };
    let source = RuleSource::Header { name: field.as_bytes().into(), remove: false };
    MetadataRule { source, present: Some(write), missing: None }
}

fn admission(scope: ScopeId) -> AdmissionControl {
    AdmissionControl {
        scope,
        id: AdmissionId::unique(),
        enabled: true,
        http_success: std::iter::once(100..500).collect(),
        grpc_success: AdmissionControl::GRPC_SUCCESS,
        window: Duration::from_secs(30),
        aggression: 1.0,
        success_threshold: 0.95,
        rps_threshold: 0,
        max_rejection: 0.8,
    }
}

/// One field more for the endpoint.
fn mutation() -> HeaderMutationFilter {
    let option = HeaderOption {
        name: b"x-mesh"[..].into(),
        value: Template::literal("bench"),
        action: AppendAction::OverwriteIfExistsOrAdd,
        keep_empty_value: false,
    };
    let request = vec![HeaderMutationStep::Append(option)];
    let own = Arc::new(MutationLists { request, ..MutationLists::default() });
    HeaderMutationFilter { own, most_specific_wins: false }
}

/// Compresses what is long enough.
fn compressor(registry: &Registry) -> CompressorFilter {
    let direction = |name: &str, enabled| CompressDirection {
        enabled,
        min_content_length: 30,
        content_types: Vec::new(),
        scope: registry.scope(ScopeKind::HttpCompressorDirection, name),
    };
    let gzip =
        GzipCompressor { memory_level: 5, level: None, strategy: GzipStrategy::Default, window_bits: 12 };
    CompressorFilter {
        library: CompressorLibrary::Gzip(gzip),
        request: direction("ingress.compressor.lib.gzip.request", false),
        response: CompressResponses {
            common: direction("ingress.compressor.lib.gzip.response", true),
            disable_on_etag: false,
            weaken_etag: false,
            remove_accept_encoding: false,
            uncompressible_codes: Vec::new(),
            status_header: false,
        },
        choose_first: false,
        scope: registry.scope(ScopeKind::HttpCompressor, "ingress.compressor.lib.gzip"),
    }
}
