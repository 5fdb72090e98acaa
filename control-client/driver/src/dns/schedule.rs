//! When one name is resolved again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::Rng;
use millrace_config::{ClusterId, DnsLookupFamily, DnsSchedule};
use tokio::sync::mpsc;

use super::lookup::{Answer, Lookup, LookupError, resolve};

/// The result of one resolution on its way to the control loop.
pub(super) struct Answered {
    pub(super) cluster: ClusterId,
    pub(super) generation: u64,
    pub(super) target: usize,
    pub(super) host: Arc<str>,
    pub(super) result: Result<Vec<IpAddr>, LookupError>,
}

/// One name of one cluster.
pub(super) struct Watch {
    pub(super) cluster: ClusterId,
    pub(super) generation: u64,
    pub(super) target: usize,
    pub(super) host: Arc<str>,
    pub(super) family: DnsLookupFamily,
    pub(super) schedule: DnsSchedule,
}

impl Watch {
    /// Resolves until nobody listens any more. An IP literal is answered once.
    pub(super) async fn run(self, lookup: Arc<impl Lookup>, sender: mpsc::Sender<Answered>) {
        // Spreads the clusters of one process, and the processes of one mesh.
        let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut rng = Rng::new(u64::from(seed.subsec_nanos()) ^ (self.generation << 32) ^ self.target as u64);
        loop {
            let literal = self.host.parse::<IpAddr>().ok();
            let result = match literal {
                Some(ip) => Ok(Answer { addresses: vec![ip], ttl: None }),
                None => resolve(&*lookup, &self.host, self.family).await,
            };
            let wait = self.wait(&result, &mut rng);
            let answered = Answered {
                cluster: self.cluster,
                generation: self.generation,
                target: self.target,
                host: Arc::clone(&self.host),
                result: result.map(|answer| answer.addresses),
            };
            if sender.send(answered).await.is_err() || literal.is_some() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// The refresh rate, or the answer's time to live when that is respected and not 0, plus jitter.
    fn wait(&self, result: &Result<Answer, LookupError>, rng: &mut Rng) -> Duration {
        let ttl = match result {
            Ok(answer) if self.schedule.respect_ttl && !answer.addresses.is_empty() => answer.ttl,
            _ => None,
        };
        let base = ttl
            .filter(|ttl| !ttl.is_zero())
            .unwrap_or(self.schedule.refresh_rate)
            .max(Duration::from_millis(1));
        let jitter = u64::try_from(self.schedule.jitter.as_millis()).unwrap_or(u64::MAX);
        if jitter == 0 { base } else { base + Duration::from_millis(rng.below(jitter)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttl_counts_only_when_respected_and_useful() {
        let mut watch = Watch {
            cluster: ClusterId(0),
            generation: 1,
            target: 0,
            host: "h".into(),
            family: DnsLookupFamily::Auto,
            schedule: DnsSchedule::default(),
        };
        let mut rng = Rng::new(1);
        let answer = |ttl: u64| {
            Ok(Answer { addresses: vec!["1.2.3.4".parse().unwrap()], ttl: Some(Duration::from_secs(ttl)) })
        };
        assert_eq!(watch.wait(&answer(60), &mut rng).as_secs(), 5);
        watch.schedule.respect_ttl = true;
        assert_eq!(watch.wait(&answer(60), &mut rng).as_secs(), 60);
        assert_eq!(watch.wait(&answer(0), &mut rng).as_secs(), 5);
        assert_eq!(watch.wait(&Err(LookupError("x".into())), &mut rng).as_secs(), 5);
        watch.schedule.jitter = Duration::from_millis(500);
        for _ in 0..50 {
            let wait = watch.wait(&answer(0), &mut rng);
            assert!(wait >= Duration::from_secs(5) && wait < Duration::from_millis(5500), "{wait:?}");
        }
    }
}
