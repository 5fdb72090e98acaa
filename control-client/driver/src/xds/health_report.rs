//! Health discovery (HDS): what a control plane wants checked, and when it is told what was found; the checks are the
//! owner's.

use std::sync::Arc;
use std::time::Duration;

use millrace_ads::source::GrpcService;
use millrace_proto::pb::envoy::config::core::v3::Node;
use millrace_proto::pb::envoy::service::health::v3::EndpointHealthResponse;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::grpc::{Ended, HealthStream, Service};
use super::pauses::Pauses;
use super::told::Owned;
use crate::dns::SystemResolver;

/// Shortest interval that a server gets.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What the owner of the checks is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthEvent {
    /// A stream is being opened, with a first message that holds no report (`hds_delegate.responses` counts it).
    Opening,
    /// The bytes of a `HealthCheckSpecifier`.
    Assigned(Vec<u8>),
    /// An interval is over: hand what is known to [`HealthReporter::report`].
    Due,
    /// The stream has ended or could not be opened; another attempt follows by itself. No report is due until the next
    /// [`HealthReporter::report_every`].
    Disconnected {
        /// One line for the log.
        reason: String,
        /// It has not ended with the status OK.
        failed: bool,
    },
}

/// One `hds_config`.
pub struct HealthReporter {
    events: mpsc::Receiver<HealthEvent>,
    reports: mpsc::Sender<Option<EndpointHealthResponse>>,
    interval: Duration,
    due_at: Option<Instant>,
    _task: Owned,
}

impl HealthReporter {
    /// Connects and keeps connected. Must run inside the runtime.
    pub fn start(service: GrpcService, node: Node, seed: u64) -> Self {
        let (tell, events) = mpsc::channel(4);
        let (reports, mut inbox) = mpsc::channel(1);
        let service = Service::new(service, Arc::new(SystemResolver::default()));
        let task = tokio::spawn(async move {
            let mut pauses = Pauses::new(seed);
            loop {
                // Without a receiver the task is about to be aborted.
                let _ = tell.send(HealthEvent::Opening).await;
                let stream =
                    HealthStream { service: &service, node: &node, events: &tell, reports: &mut inbox };
                let Ended { answered, failed, reason } = stream.run().await;
                let _ = tell.send(HealthEvent::Disconnected { reason, failed }).await;
                pauses.pause(answered).await;
            }
        });
        Self { events, reports, interval: Duration::ZERO, due_at: None, _task: Owned(task) }
    }

    /// The next event. Cancel safe; never ends.
    pub async fn next(&mut self) -> HealthEvent {
        let due_at = self.due_at;
        let due = async move {
            match due_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = self.events.recv() => match event {
                Some(event) => {
                    if matches!(event, HealthEvent::Disconnected { .. }) {
                        self.due_at = None;
                    }
                    event
                }
                // The task ends with `self` only.
                None => std::future::pending().await,
            },
            () = due => {
                self.due_at = Some(Instant::now() + self.interval);
                HealthEvent::Due
            }
        }
    }

    /// Reports are due at every interval from now on; one that goes on is not begun anew.
    pub fn report_every(&mut self, interval: Duration) {
        let interval = interval.max(INTERVAL_MIN);
        if self.due_at.is_none() || self.interval != interval {
            self.interval = interval;
            self.due_at = Some(Instant::now() + interval);
        }
    }

    /// What is known now; a message that says nothing where nothing is checked, as from Envoy. False when the last report has not been taken yet, and this one is left out.
    pub fn report(&mut self, report: Option<EndpointHealthResponse>) -> bool {
        self.reports.try_send(report).is_ok()
    }
}
