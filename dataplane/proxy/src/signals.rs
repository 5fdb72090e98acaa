//! Signals, as the control thread hears them.
//!
//! SIGTERM and SIGINT start the drain, a second one ends the process at once, SIGUSR1 reopens log files,
//! SIGHUP does nothing. What a signal leads to is decided in [`crate::control`].

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGUSR1.
    ReopenLogs,
}

impl Signal {
    /// The name that log lines use, as Envoy prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "ENVOY_SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::ReopenLogs => "SIGUSR1",
        }
    }
}

/// The process's signal handlers.
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
    usr1: Stream,
    hangup: Stream,
}

impl Signals {
    /// Installs the handlers. Needs a tokio runtime with io enabled.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            usr1: signal(SignalKind::user_defined1())?,
            // Without a handler SIGHUP would end the process.
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal that means something. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Signal::Terminate,
                _ = self.interrupt.recv() => return Signal::Interrupt,
                _ = self.usr1.recv() => return Signal::ReopenLogs,
                _ = self.hangup.recv() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Raw, getpid, kill_process};

    #[test]
    fn signals_arrive_and_hangup_is_ignored() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let heard = runtime.block_on(async {
            let mut signals = Signals::install().unwrap();
            let mut heard = Vec::new();
            for raw in [Raw::USR1, Raw::TERM, Raw::INT] {
                kill_process(getpid(), Raw::HUP).unwrap();
                kill_process(getpid(), raw).unwrap();
                heard.push(signals.next().await);
            }
            heard
        });
        assert_eq!(heard, [Signal::ReopenLogs, Signal::Terminate, Signal::Interrupt]);
    }
}
