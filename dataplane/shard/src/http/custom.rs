//! Answers that give way (`custom_response`): to a reply of our own, or to what the request is answered when it begins anew.

use millrace_base::{Key, Rng, Written};
use millrace_config::{LocalResponsePolicy, ResponseDetails, Snapshot};
use millrace_filter::http::LocalReply;
use millrace_filter::http::custom_response::{self, CustomRedirect, Instead, Restart, Restarted};
use millrace_http::h1::upgrade_type;
use millrace_http::{Method, RequestHead};
use millrace_observe::access_log::{StreamInfo, render_line};
use millrace_route::Selection;

use super::HttpOptions;
use super::redirect::Next;
use super::render::Renderer;
use super::stream::{Attempt, Plan};
use crate::downstream::Downstream;
use crate::shard::Shard;
use crate::upstream::EndedBy;

/// Where a stream's request may begin anew.
pub(super) struct Restarts<'s> {
    pub(super) options: &'s HttpOptions,
    pub(super) downstream: &'s Downstream,
    pub(super) rng: &'s mut Rng,
    /// All of the request is here.
    pub(super) whole: bool,
}

impl Restart for Restarts<'_> {
    fn may_restart(&mut self, head: &RequestHead) -> Restarted {
        let upgrade = head.method_kind() == Method::Connect || upgrade_type(&head.headers).is_some();
        if !self.whole || upgrade {
            return Restarted::TooEarly;
        }
        let Some(routes) = self.options.routes.as_deref() else { return Restarted::NoRoute };
        match millrace_route::select(routes, head, &carried_over(self.downstream), self.rng.next_u64()) {
            Selection::Route(_) | Selection::TlsRedirect(_) => Restarted::Yes,
            Selection::NotFound => Restarted::NoRoute,
        }
    }
}

/// The new stream has nothing of what was written about this one.
fn carried_over(downstream: &Downstream) -> Written<'_> {
    Written { connection: downstream.filter_state(), ..Written::default() }
}

impl Shard {
    /// What the filters want instead of the answer whose head one of them was just shown.
    pub(super) fn take_instead(&mut self, id: Key) -> Option<Instead> {
        self.streams.get_mut(id)?.filters.as_mut()?.take_instead()
    }

    /// The answer of an endpoint is not for the client. `conn` brought it, unless all that counts of it is here.
    pub(super) fn give_way(&mut self, id: Key, conn: Option<Key>, instead: Instead) {
        match conn {
            Some(conn) => self.retire_answer(id, conn),
            None => self.drop_attempt(id, EndedBy::Local),
        }
        self.end_retry_slot(id);
        let Some(stream) = self.streams.get_mut(id) else { return };
        (stream.attempt, stream.unjudged) = (Attempt::None, false);
        // Its cluster is told of it, whatever the client gets.
        let status = stream.response.status;
        stream.facts.cluster_status.get_or_insert(status);
        stream.flow.response_queue.clear();
        stream.flow.response_end = false;
        stream.trailers.clear();
        stream.weigh(&self.io.held);
        let body = std::mem::take(&mut self.reply_body);
        self.answer_instead(id, instead, body);
    }

    /// The head that the stream has, and this body of a reply of our own, give way.
    pub(super) fn answer_instead(&mut self, id: Key, instead: Instead, body: Vec<u8>) {
        match instead {
            Instead::Reply(policy) => self.reply_by(id, &policy, body),
            Instead::Redirect(head, custom) => {
                self.reply_body = body;
                self.restart(id, head, custom);
            }
        }
    }

    fn reply_by(&mut self, id: Key, policy: &LocalResponsePolicy, mut body: Vec<u8>) {
        let Some((reply, replaced)) = self.made_by(id, policy, &body) else { return };
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.local_reply = true;
        stream.facts.details = reply.details.clone();
        self.fill_reply(id, &reply, Some((policy, replaced)), &mut body);
        self.send_reply(id, body);
    }

    /// The reply that a policy makes of the head that the stream has, and the status of that head.
    fn made_by(&self, id: Key, policy: &LocalResponsePolicy, body: &[u8]) -> Option<(LocalReply, u16)> {
        let stream = self.streams.get(id)?;
        let downstream = self.downstreams.get(stream.downstream)?;
        let facts = &stream.facts;
        let replaced = stream.response.status;
        let status = policy.status.unwrap_or(replaced);
        let own = policy.body.as_deref();
        let text = match &policy.body_format {
            // Unlike Envoy, whose clients would take it for their next answer.
            _ if custom_response::is_bodiless(status) => Vec::new(),
            None => own.unwrap_or_default().to_vec(),
            Some(format) => {
                let renderer = Renderer {
                    downstream,
                    options: stream.options.as_deref(),
                    facts,
                    shard: &self.names,
                    snapshot: &self.snapshot,
                };
                let notes = facts.state.read();
                let info = StreamInfo {
                    protocol: Some(stream.request.version),
                    request: Some(&stream.request),
                    response: Some(&stream.response),
                    response_code: Some(replaced),
                    local_reply_body: Some(own.unwrap_or(body)),
                    written: Written::of(notes.as_deref(), downstream.filter_state()),
                    ..renderer.info()
                };
                let mut text = Vec::new();
                render_line(format, &info, &mut Vec::new(), &mut text);
                text
            }
        };
        let details = match &policy.details {
            ResponseDetails::Clear => "".into(),
            ResponseDetails::Preserve => facts.details.clone(),
            ResponseDetails::Set(details) => details.to_string().into(),
        };
        Some((LocalReply { body: text.into(), details, ..LocalReply::new(status, "", "") }, replaced))
    }

    /// Another request takes the place of the one whose answer gave way.
    fn restart(&mut self, id: Key, head: Box<RequestHead>, custom: CustomRedirect) {
        self.leave_host(id);
        self.leave_waiting(id);
        let Some(stream) = self.streams.get(id) else { return };
        let Some(options) = stream.options.clone() else { return };
        let Some(downstream) = self.downstreams.get(stream.downstream) else { return };
        let mut followed = stream.followed.as_deref().cloned().unwrap_or_default();
        followed.custom = Some(custom);
        let written = carried_over(downstream);
        let snapshot: &Snapshot = &self.snapshot;
        let plan = Plan::choose(&options, &head, Some(downstream), &written, snapshot, &mut self.rng);
        self.begin_anew(id, &options, Next { head, bodiless: true, plan, followed });
    }
}
