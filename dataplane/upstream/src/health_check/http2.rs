//! Checks over HTTP/2.

use millrace_base::Time;
use millrace_config::{Cluster, HttpHealthCheck};
use millrace_http::RequestHead;

use super::conversation::Reply;
use super::judge::Answer;
use super::wire::{Heard, Wire};

/// One connection of HTTP checks.
#[derive(Debug)]
pub struct Http2 {
    wire: Wire,
    answer: Option<Answer>,
}

impl Http2 {
    pub(super) fn new(cluster: &Cluster, now: Time) -> Self {
        Self { wire: Wire::new(cluster, now), answer: None }
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.wire.is_in_flight()
    }

    pub(super) fn begin(
        &mut self,
        check: &HttpHealthCheck,
        request: &RequestHead,
        out: &mut Vec<u8>,
    ) -> Reply {
        self.answer = None;
        if self.wire.send(request, &check.send, out) { Reply::default() } else { Reply::broken(true) }
    }

    pub(super) fn receive(
        &mut self,
        check: &HttpHealthCheck,
        bytes: &[u8],
        now: Time,
        out: &mut Vec<u8>,
    ) -> Reply {
        let Self { wire, answer } = self;
        wire.receive(bytes, now, out, |heard, heads| {
            let over = match heard {
                Heard::Head { end } => {
                    *answer = Some(Answer::of(&heads.response));
                    end
                }
                Heard::Data { bytes, end } => {
                    if let Some(answer) = answer {
                        answer.body(check, &bytes);
                    }
                    end
                }
                Heard::Trailers => true,
            };
            over.then(|| answer.take().map_or(Reply::broken(true), |answer| answer.verdict(check)))
        })
    }
}
