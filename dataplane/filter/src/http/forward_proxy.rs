//! `envoy.filters.http.dynamic_forward_proxy`: a request to a cluster of that type waits until the addresses of its host
//! are known.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::{ResponseFlag, StateForm, Time, Written};
use millrace_config::{DnsCache, ForwardProxyFilter, ForwardProxyHost, PerFilterConfig, ResolvedHost};
use millrace_http::RequestHead;
use millrace_observe::stats::dns_cache as metric;

use super::LocalReply;
use super::stream_filters::{Env, Start, Verdict};

/// How much longer than `dns_query_timeout` a request waits: the answer comes by way of another thread.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where the resolver decides itself how long a question takes.
const RESOLVER_PATIENCE: Duration = Duration::from_secs(60);

/// What is known of a host.
#[derive(Clone, Debug)]
pub enum Asked<'a> {
    /// This.
    Known(&'a Arc<ResolvedHost>),
    /// Nothing yet: the asker will be told.
    Waits,
    /// Nothing, and the cache takes no further host.
    Full,
    /// Nothing, and too many wait.
    Busy,
}

/// Where the addresses of hosts are known, on behalf of one request.
pub trait HostNames {
    /// Looks a host up, as an authority has it; `port` is that of hosts without one. The request is noted as waiting where
    /// the answer says so. `again`: it has waited before and takes whatever was found out.
    fn ask(&mut self, cache: &Arc<DnsCache>, host: &[u8], port: u16, again: bool) -> Asked<'_>;
}

/// Knows no host: for chains without the filter.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHosts;

impl HostNames for NoHosts {
    fn ask(&mut self, _: &Arc<DnsCache>, _: &[u8], _: u16, _: bool) -> Asked<'_> {
        Asked::Full
    }
}

/// Filter state that names a host instead of the request, or of the TLS of a connection.
const DYNAMIC_HOST: &str = "envoy.upstream.dynamic_host";
/// Filter state that is the port of a host without one.
const DYNAMIC_PORT: &str = "envoy.upstream.dynamic_port";

/// The host that filter state names, and the port that it has for hosts without one.
pub fn dynamic<'w>(written: &Written<'w>) -> (Option<&'w str>, Option<u16>) {
    let texts = [StateForm::Text, StateForm::HashableText];
    let host = written.object(DYNAMIC_HOST).filter(|object| texts.contains(&object.form()));
    let port = written.object(DYNAMIC_PORT).and_then(|object| u16::try_from(object.number()?).ok());
    (host.map(|object| object.text()), port.filter(|port| *port != 0))
}

/// A request whose host is being resolved.
#[derive(Debug)]
pub(crate) struct ForwardProxyActive {
    cache: Arc<DnsCache>,
    port: u16,
    reads_state: bool,
    /// Nobody waits longer.
    until: Time,
}

/// Looks up the host of a request to a cluster of that type, which may be another one from now on.
pub(crate) fn begin(
    filter: &ForwardProxyFilter,
    own: Option<&PerFilterConfig>,
    start: &Start<'_>,
    env: &mut Env<'_>,
    head: &mut RequestHead,
) -> (Option<ForwardProxyActive>, Verdict) {
    let Some(port) = start.forward_port else { return (None, Verdict::Continue) };
    if let Some(PerFilterConfig::ForwardProxy(host)) = own {
        rewrite(host, head);
    }
    let cache = &filter.cache;
    if cache.is_busy() {
        return (None, busy(cache, env));
    }
    let limit = cache.config.query_timeout.unwrap_or(RESOLVER_PATIENCE) + PATIENCE;
    let reads_state = filter.reads_state;
    let waiting = ForwardProxyActive { cache: Arc::clone(cache), port, reads_state, until: env.now + limit };
    match waiting.ask(false, env, head) {
        Verdict::Wait(until) => (Some(waiting), Verdict::Wait(until)),
        verdict => (None, verdict),
    }
}

impl ForwardProxyActive {
    /// The host was resolved, or the time is over.
    pub(crate) fn resume(&self, env: &mut Env<'_>, head: &RequestHead) -> Verdict {
        if env.now >= self.until {
            return failure("resolve_timeout");
        }
        self.ask(true, env, head)
    }

    fn ask(&self, again: bool, env: &mut Env<'_>, head: &RequestHead) -> Verdict {
        let (cache, state) = (&self.cache, env.state.read());
        let named = match self.reads_state {
            true => dynamic(&Written::of(state.as_deref(), env.connection_state)),
            false => (None, None),
        };
        let host = named.0.map_or_else(|| head.authority(), str::as_bytes);
        if host.is_empty() {
            let reply = LocalReply::new(400, "Empty host header", "empty_host_header");
            return Verdict::Reply(reply.into());
        }
        match env.names.ask(cache, host, named.1.unwrap_or(self.port), again) {
            Asked::Known(host) if host.address.is_some() => Verdict::Continue,
            Asked::Known(host) => failure(&host.details),
            Asked::Waits => Verdict::Wait(self.until),
            Asked::Full => {
                env.stats.inc(cache.scope, metric::HOST_OVERFLOW);
                Verdict::Reply(LocalReply::new(503, "DNS cache overflow", "dns_cache_overflow").into())
            }
            Asked::Busy => busy(cache, env),
        }
    }
}

fn rewrite(host: &ForwardProxyHost, head: &mut RequestHead) {
    match host {
        ForwardProxyHost::Own => {}
        ForwardProxyHost::Literal(host) => head.set_authority(host),
        ForwardProxyHost::Header(name) => {
            // The client may have sent it: as Envoy says, only the first one counts.
            if let Some(host) = head.headers.get_name(name).map(<[u8]>::to_vec) {
                head.set_authority(&host);
            }
        }
    }
}

fn busy(cache: &DnsCache, env: &mut Env<'_>) -> Verdict {
    env.stats.inc(cache.scope, metric::DNS_RQ_PENDING_OVERFLOW);
    let details = "dynamic_forward_proxy_pending_request_overflow";
    Verdict::Reply(LocalReply::new(503, "Dynamic forward proxy pending request overflow", details).into())
}

fn failure(details: &str) -> Verdict {
    let reply = LocalReply::new(503, "DNS resolution failure", "").flagged(ResponseFlag::DnsResolutionFailed);
    let details = Cow::Owned(format!("dns_resolution_failure{{{details}}}"));
    Verdict::Reply(LocalReply { details, ..reply }.into())
}

#[cfg(test)]
mod tests;
