//! `envoy.filters.http.grpc_stats`: counts calls, statuses and messages.

use millrace_config::{GrpcMethods, GrpcStats as Config};
use millrace_http::{HeaderMap, RequestHead, ResponseHead};

use super::grpc::frames::MessageCounter;
use super::grpc::{self, status::GrpcStatus};
use super::report::{CallName, Report};

/// What one call has counted. Sees bytes and changes none.
#[derive(Debug)]
pub(super) struct GrpcStats {
    /// `enable_upstream_stats`.
    upstream_time: bool,
    /// `service.method`, if the method has names of its own.
    name: Option<CallName>,
    /// The path names a call.
    counts: bool,
    request: MessageCounter,
    response: MessageCounter,
    response_is_grpc: bool,
    pub(super) report: Report,
}

impl GrpcStats {
    /// `None` for what is no gRPC.
    pub(super) fn start(config: &Config, head: &RequestHead) -> Option<Self> {
        if !grpc::is_grpc(head) {
            return None;
        }
        let call = grpc::call(head.path());
        // Measured with Envoy 1.40: what is listed keeps its dots.
        let replace_dots = config.replace_dots && config.methods == GrpcMethods::All;
        let named = call.filter(|(service, method)| config.names(service, method));
        Some(Self {
            upstream_time: config.upstream_time,
            name: named.and_then(|(service, method)| CallName::new(service, method, replace_dots)),
            // Without a name for every method, a path that is no call is not counted either.
            counts: call.is_some(),
            request: MessageCounter::default(),
            response: MessageCounter::default(),
            response_is_grpc: false,
            report: Report::default(),
        })
    }

    pub(super) fn name(&self) -> Option<&CallName> {
        self.name.as_ref()
    }

    pub(super) fn counts(&self) -> bool {
        self.counts
    }

    pub(super) fn sees_response(&self) -> bool {
        self.counts && self.response_is_grpc
    }

    pub(super) fn request_data(&mut self, data: &[u8]) {
        self.report.request_messages += self.request.count(data);
    }

    pub(super) fn response_head(&mut self, head: &ResponseHead, end: bool) {
        self.response_is_grpc = grpc::is_grpc_response(head, end);
        self.ended_with(GrpcStatus::of(&head.headers), end);
    }

    pub(super) fn response_data(&mut self, data: &[u8]) {
        if self.response_is_grpc {
            self.report.response_messages += self.response.count(data);
        }
    }

    pub(super) fn response_trailers(&mut self, trailers: &HeaderMap) {
        self.ended_with(GrpcStatus::of(trailers), true);
    }

    fn ended_with(&mut self, status: Option<GrpcStatus>, end: bool) {
        self.report.add(status);
        self.report.upstream_time |= end && self.upstream_time;
    }
}
