//! The answer on its way back up the chain.

use millrace_http::{HeaderMap, ResponseHead};

use super::active::Active;
use super::pass::Pass;
use super::{BodyUse, LocalReply, ResponseEnv, StreamFilters};

impl StreamFilters {
    /// Takes the trailers of the request, which end it.
    pub fn request_trailers(&mut self, trailers: &mut HeaderMap, env: &mut ResponseEnv<'_>) {
        for filter in &mut self.filters {
            filter.request_trailers(trailers, env);
        }
    }

    /// Takes the response head; `end` says that nothing follows it.
    pub fn response_head(&mut self, head: &mut ResponseHead, end: bool, env: &mut ResponseEnv<'_>) {
        while self.begin_next(head, end, env) {}
    }

    /// Gives the head to the next filter that has not had it; false when one holds it or all have had it.
    fn begin_next(&mut self, head: &mut ResponseHead, end: bool, env: &mut ResponseEnv<'_>) -> bool {
        if self.holds_response() || self.instead.is_some() {
            return false;
        }
        let Some(next) = self.filters.len().checked_sub(self.begun + 1) else { return false };
        match &mut self.filters[next] {
            Active::Custom(custom) => self.instead = custom.response_head(head, end, env),
            filter => filter.response_head(head, end, env, &mut self.decision),
        }
        self.begun += 1;
        true
    }

    /// Once they have had the head of the response, none of them has anything left to do: they need not be asked again.
    pub fn are_over(&self) -> bool {
        self.begun == self.filters.len() && self.filters.iter().all(Active::is_over)
    }

    /// The head must wait: a later call may change it.
    pub fn holds_response(&self) -> bool {
        self.filters.iter().any(Active::holds_response)
    }

    /// What becomes of the response's bytes; ask again after each call.
    pub fn response_use(&self) -> BodyUse {
        self.filters.iter().map(Active::response_use).max().unwrap_or(BodyUse::Bypass)
    }

    /// Shows response bytes that nobody changes.
    pub fn observe_response(&mut self, data: &[u8]) {
        for filter in &mut self.filters {
            if let Active::Stats(stats) = filter {
                stats.response_data(data);
            }
        }
    }

    /// Appends to `out` what the client gets instead of `data`. `end`: the response is over, without trailers of the
    /// endpoint; filters may add some to `trailers`.
    /// Bounded by [`Start::buffer_limit`](super::Start::buffer_limit): a response that is kept whole and is longer
    /// becomes a 500.
    pub fn response_data(
        &mut self,
        data: &[u8],
        end: bool,
        head: &mut ResponseHead,
        trailers: &mut HeaderMap,
        out: &mut Vec<u8>,
        env: &mut ResponseEnv<'_>,
    ) -> Result<(), Box<LocalReply>> {
        let mut pass = Pass::new(data, out);
        let mut done = 0;
        loop {
            while done < self.begun {
                let at = self.filters.len() - 1 - done;
                self.filters[at].response_data(end, (head, trailers), &mut pass, out, env)?;
                done += 1;
            }
            let empty = pass.bytes(out).is_empty();
            if !self.begin_next(head, end && empty, env) {
                break;
            }
        }
        pass.finish(out);
        Ok(())
    }

    /// Takes the trailers, which end the response. What `out` gets belongs to the body, behind what went before.
    pub fn response_trailers(
        &mut self,
        trailers: &mut HeaderMap,
        head: &mut ResponseHead,
        out: &mut Vec<u8>,
        env: &mut ResponseEnv<'_>,
    ) -> Result<(), Box<LocalReply>> {
        let mut pass = Pass::new(&[], out);
        let mut done = 0;
        loop {
            while done < self.begun {
                let at = self.filters.len() - 1 - done;
                // What a filter before this one let go of is body to this one.
                if !pass.bytes(out).is_empty() {
                    self.filters[at].response_data(false, (head, trailers), &mut pass, out, env)?;
                }
                self.filters[at].response_trailers(trailers, head, &mut pass, out, env)?;
                done += 1;
            }
            if !self.begin_next(head, false, env) {
                break;
            }
        }
        pass.finish(out);
        Ok(())
    }

    /// Takes a reply of our own: the head and body that `LocalReply::write` made. After an upstream's response began
    /// the filters do not touch it, as in Envoy.
    pub fn local_reply(&mut self, head: &mut ResponseHead, body: &mut Vec<u8>, env: &mut ResponseEnv<'_>) {
        if self.begun > 0 {
            return;
        }
        // A request that was cut short on its way down.
        self.join_for_reply(env.start);
        self.response_head(head, body.is_empty(), env);
        if body.is_empty() || self.instead.is_some() {
            return;
        }
        let data = std::mem::take(body);
        // The body ends at once, so that nothing is kept that could become too long.
        let trailers = &mut HeaderMap::new();
        if self.response_data(&data, true, head, trailers, body, env).is_err() {
            *body = data;
        }
    }
}
