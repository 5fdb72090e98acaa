//! What templates and log lines may read of a stream.

use std::sync::Arc;

use millrace_base::Written;
use millrace_config::Snapshot;
use millrace_config::format::Template;
use millrace_filter::http::router::Render;
use millrace_http::{RequestHead, ResponseHead};
use millrace_observe::access_log::StreamInfo;
use millrace_observe::format::{self, Missing};

use super::HttpOptions;
use super::stream::Facts;
use crate::downstream::Downstream;

/// Texts that are the same for every stream of a shard.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// `%HOSTNAME%`.
    pub(crate) hostname: Arc<str>,
}

/// A stream without its heads, which whoever evaluates a template may be changing.
#[derive(Clone, Copy)]
pub(crate) struct Renderer<'a> {
    pub(crate) downstream: &'a Downstream,
    /// What the stream began under.
    pub(crate) options: Option<&'a HttpOptions>,
    pub(crate) facts: &'a Facts,
    pub(crate) shard: &'a Names,
    pub(crate) snapshot: &'a Snapshot,
}

impl<'a> Renderer<'a> {
    /// Everything but heads.
    pub(crate) fn info(&self) -> StreamInfo<'a> {
        let (downstream, facts) = (self.downstream, self.facts);
        let peer = &downstream.addresses.peer;
        let plan = facts.plan.zip(self.options);
        let cluster = facts.plan.and_then(|p| p.cluster).and_then(|id| self.snapshot.cluster(id));
        StreamInfo {
            protocol: Some(millrace_http::Version::Http11),
            upstream_protocol: facts.upstream_connection.map(|_| facts.upstream_version),
            response_code: Some(facts.status).filter(|s| *s > 0),
            // A response may have empty ones, of a policy that says so.
            response_code_details: Some(&*facts.details).filter(|d| !d.is_empty() || facts.status > 0),
            flags: facts.flags,
            times: facts.times,
            bytes: facts.bytes,
            downstream_remote: Some(facts.remote.as_ref().unwrap_or(peer)),
            downstream_direct_remote: Some(downstream.direct_peer()),
            downstream_local: Some(&downstream.addresses.local),
            downstream_direct_local: Some(downstream.direct_local()),
            upstream_local: facts.upstream_local.as_ref(),
            upstream_remote: (facts.upstream_raced.as_ref().or(facts.host_address.as_ref()))
                .filter(|_| facts.upstream_connection.is_some()),
            upstream_host: facts.host_address.as_ref(),
            upstream_cluster: cluster.map(|c| &*c.stat_name),
            upstream_cluster_raw: cluster.map(|c| &*c.name),
            requested_server_name: downstream.requested_server_name(),
            downstream_tls: downstream.tls().map(|tls| &**tls),
            downstream_transport_failure: downstream.transport_failure(),
            upstream_tls: facts.upstream_tls.as_deref(),
            upstream_transport_failure: facts.transport_failure.as_deref(),
            upstream_attempts: facts.attempts,
            upstream_connection_id: facts.upstream_connection,
            connection_id: Some(downstream.id),
            route_name: plan.and_then(|(p, h)| p.route(h)).map(|r| &*r.name).filter(|n| !n.is_empty()),
            virtual_host_name: plan.and_then(|(p, h)| p.virtual_host(h)).map(|v| &*v.name),
            route_metadata: plan.and_then(|(p, h)| p.route(h)).and_then(|route| route.metadata.as_deref()),
            virtual_host_metadata: plan
                .and_then(|(p, h)| p.virtual_host(h))
                .and_then(|host| host.metadata.as_deref()),
            filter_chain_name: Some(&*downstream.origin.chain.name).filter(|n| !n.is_empty()),
            hostname: &self.shard.hostname,
            ..StreamInfo::default()
        }
    }
}

impl Renderer<'_> {
    fn render_with(
        &self,
        template: &Template,
        heads: (&RequestHead, Option<&ResponseHead>),
        missing: Missing,
        out: &mut Vec<u8>,
    ) {
        // Nothing of the stream is read for a text without operators.
        if let Some(text) = template.as_literal() {
            return out.extend_from_slice(text.as_bytes());
        }
        let (request, response) = heads;
        let notes = self.facts.state.read();
        let info = StreamInfo {
            request: Some(request),
            response,
            protocol: Some(request.version),
            response_code: response.map(|r| r.status),
            written: Written::of(notes.as_deref(), self.downstream.filter_state()),
            ..self.info()
        };
        format::render(template, &info, missing, out);
    }
}

impl Render for Renderer<'_> {
    fn render(
        &self,
        template: &Template,
        request: &RequestHead,
        response: Option<&ResponseHead>,
        out: &mut Vec<u8>,
    ) {
        self.render_with(template, (request, response), Missing::Empty, out);
    }

    fn render_text(
        &self,
        template: &Template,
        request: &RequestHead,
        response: Option<&ResponseHead>,
        out: &mut Vec<u8>,
    ) {
        self.render_with(template, (request, response), Missing::Dash, out);
    }
}
