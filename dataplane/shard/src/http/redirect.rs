//! Internal redirects: the request begins anew where its endpoint has sent it, as if the client had asked for that.

use std::rc::Rc;
use std::sync::Arc;

use millrace_base::{Key, Written};
use millrace_config::InternalRedirects;
use millrace_filter::http::router::internal_redirect::{self as redirect, Followed, Refusal};
use millrace_http::RequestHead;
use millrace_http::h1::BodyFraming;
use millrace_observe::stats::{cluster as cluster_metric, http as metric};
use millrace_ring::Payload;
use millrace_route::Selection;

use super::start::deadline;
use super::stream::{Attempt, Plan};
use super::{HttpOptions, Stream};
use crate::shard::Shard;

/// The next request of a redirect.
pub(super) struct Next {
    pub(super) head: Box<RequestHead>,
    /// It has no body any more.
    pub(super) bodiless: bool,
    pub(super) plan: Option<Plan>,
    pub(super) followed: Followed,
}

impl Shard {
    /// Follows the redirect that the stream was answered, if its route says so. True when the answer is dealt with.
    pub(super) fn follow_redirect(&mut self, id: Key, conn: Key) -> bool {
        let Some(stream) = self.streams.get(id) else { return false };
        let (Some(options), Some(plan)) = (stream.options.clone(), stream.facts.plan) else { return false };
        let policy = plan.forward(&options).and_then(|forward| forward.internal_redirects.as_ref());
        let Some(policy) = policy.filter(|policy| policy.statuses.contains(&stream.response.status)) else {
            return false;
        };
        let next = self.redirected(id, &options, policy);
        let scope = plan.cluster.and_then(|cluster| self.cluster_scope(cluster));
        let counter = match &next {
            Ok(_) => cluster_metric::UPSTREAM_INTERNAL_REDIRECT_SUCCEEDED_TOTAL,
            Err(_) => cluster_metric::UPSTREAM_INTERNAL_REDIRECT_FAILED_TOTAL,
        };
        if let Some(scope) = scope {
            self.stats.inc(scope, counter);
        }
        let next = match next {
            Ok(next) => next,
            Err(refusal) => {
                if let Some(counter) = counter_of(refusal) {
                    self.stats.inc(options.hcm.scope, counter);
                }
                return false;
            }
        };
        self.retire_answer(id, conn);
        if let Some(stream) = self.streams.get_mut(id) {
            stream.attempt = Attempt::None;
        }
        self.begin_anew(id, &options, next);
        true
    }

    /// What the redirect leads to.
    fn redirected(
        &mut self,
        id: Key,
        options: &HttpOptions,
        policy: &Arc<InternalRedirects>,
    ) -> Result<Next, Refusal> {
        let stream = self.streams.get(id).ok_or(Refusal::Impossible)?;
        let downstream = self.downstreams.get(stream.downstream).ok_or(Refusal::Impossible)?;
        let routes = options.routes.as_deref().ok_or(Refusal::Impossible)?;
        let bodiless = stream.request_framing == BodyFraming::None;
        if !stream.request_complete || stream.upgrade || !(bodiless || stream.keeps_replay) {
            return Err(Refusal::Impossible);
        }
        let mut followed = stream.followed.as_deref().cloned().unwrap_or_default();
        let secure = downstream.link.is_secure();
        let target = redirect::target(policy, &followed, &stream.response, &stream.request, secure)?;
        // The new stream has nothing of what was written about this one.
        let written = Written { connection: downstream.filter_state(), ..Written::default() };
        let plan =
            Plan::choose(options, &target.head, Some(downstream), &written, &self.snapshot, &mut self.rng);
        let name_of =
            |plan: Option<Plan>| plan.and_then(|plan| plan.route(options)).map(|r| Arc::clone(&r.name));
        let to = match name_of(plan) {
            Some(name) => name,
            None if matches!(
                millrace_route::select(routes, &target.head, &written, 0),
                Selection::TlsRedirect(_)
            ) =>
            {
                Arc::default()
            }
            None => return Err(Refusal::NoRoute),
        };
        let from = name_of(stream.facts.plan).unwrap_or_default();
        target.accept(policy, &mut followed, &from, &to)?;
        let (head, becomes_get) = target.follow(&mut followed, stream.response.status, &stream.request);
        Ok(Next { head, bodiless: bodiless || becomes_get, plan, followed })
    }

    /// Puts a new stream in the place of the redirected one, which is logged and over.
    pub(super) fn begin_anew(&mut self, id: Key, options: &Rc<HttpOptions>, next: Next) {
        let Some(key) = self.streams.get(id).map(|stream| stream.downstream) else { return };
        self.report_filters(id);
        self.end_filters(id);
        self.leave_mirrors(id);
        self.abandon_lates(id);
        let mut new = self.spare_streams.pop().unwrap_or_else(|| Box::new(Stream::new(key)));
        new.reset(key);
        let Some(slot) = self.streams.get_mut(id) else { return };
        let mut old = std::mem::replace(slot, new);
        old.facts.status = old.response.status;
        old.facts.details = "internal_redirect".into();
        old.facts.times.end = Some(self.io.now);
        let new = &mut **slot;
        new.client = old.client;
        new.options = Some(Rc::clone(options));
        new.request_complete = true;
        (new.is_head, new.is_grpc, new.active) = (old.is_head, old.is_grpc, self.io.now);
        (new.facts.remote, new.facts.internal) = (old.facts.remote.clone(), old.facts.internal);
        (new.facts.times.start, new.facts.times.start_wall) = (self.io.now, self.wall);
        new.facts.plan = next.plan;
        new.followed = Some(Box::new(next.followed));
        new.idle_timeout = options.hcm.stream_idle_timeout;
        new.flush_timeout = options.hcm.stream_flush_timeout;
        new.max_duration_deadline = deadline(self.io.now, options.hcm.max_stream_duration);
        new.flow.held_request = std::mem::take(&mut old.flow.held_request);
        new.flow.request_end = true;
        let mut body = Payload::new();
        body.push_bytes(&old.replay);
        body.append(&mut old.flow.request_queue);
        if next.bodiless {
            new.flow.request_end_sent = new.client.is_none();
        } else {
            new.flow.request_queue = body;
            new.request_framing = old.request_framing;
            std::mem::swap(&mut new.request_trailers, &mut old.request_trailers);
        }
        new.request.clone_from(&next.head);
        // The status that its cluster is told, where that was no redirect of its own.
        self.count_answer(&old, old.facts.cluster_status.unwrap_or(0));
        old.request = *next.head;
        old.facts.plan = next.plan;
        self.finished.push(old);
        self.count_request(key, id);
        let met = self.meet_filters(key, id);
        self.proceed(id, met);
    }
}

fn counter_of(refusal: Refusal) -> Option<millrace_observe::stats::Counter> {
    Some(match refusal {
        Refusal::Impossible => return None,
        Refusal::BadLocation => metric::PASSTHROUGH_INTERNAL_REDIRECT_BAD_LOCATION,
        Refusal::UnsafeScheme => metric::PASSTHROUGH_INTERNAL_REDIRECT_UNSAFE_SCHEME,
        Refusal::TooMany => metric::PASSTHROUGH_INTERNAL_REDIRECT_TOO_MANY_REDIRECTS,
        Refusal::NoRoute => metric::PASSTHROUGH_INTERNAL_REDIRECT_NO_ROUTE,
        Refusal::Predicate => metric::PASSTHROUGH_INTERNAL_REDIRECT_PREDICATE,
    })
}
