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
    pub(super) result: Result<Answer, LookupError>,
}

/// One name of one cluster.
pub(super) struct Watch {
    pub(super) cluster: ClusterId,
    pub(super) generation: u64,
    pub(super) target: usize,
    pub(super) host: Arc<str>,
    pub(super) family: DnsLookupFamily,
    pub(super) logical: bool,
    pub(super) schedule: DnsSchedule,
}

impl Watch {
    /// Resolves until nobody listens any more. An IP literal is answered once.
    pub(super) async fn run(self, lookup: Arc<impl Lookup>, sender: mpsc::Sender<Answered>) {
        // Spreads the clusters of one process, and the processes of one mesh.
        let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut rng = Rng::new(u64::from(seed.subsec_nanos()) ^ (self.generation << 32) ^ self.target as u64);
        let mut failures = 0;
        loop {
            let literal = self.host.parse::<IpAddr>().ok();
            let result = match literal {
                Some(ip) => Ok(Answer { addresses: vec![ip], ..Answer::default() }),
                None => resolve(&*lookup, &self.host, self.family).await,
            };
            let wait = self.wait(&result, &mut failures, &mut rng);
            let answered = Answered {
                cluster: self.cluster,
                generation: self.generation,
                target: self.target,
                host: Arc::clone(&self.host),
                result,
            };
            if sender.send(answered).await.is_err() || literal.is_some() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// The refresh rate, or the answer's time to live when that is respected and not 0, plus jitter; after failures
    /// in a row, of which no answer for a logical cluster is one, their back-off.
    fn wait(&self, result: &Result<Answer, LookupError>, failures: &mut u32, rng: &mut Rng) -> Duration {
        let schedule = &self.schedule;
        let answer = result.as_ref().ok().filter(|answer| !self.logical || !answer.addresses.is_empty());
        let Some(answer) = answer else {
            let Some((base, max)) = schedule.failure_refresh else { return at_least(schedule.refresh_rate) };
            let bound = base.saturating_mul(1 << (*failures).min(20)).min(max);
            *failures += 1;
            return at_least(Duration::from_millis(rng.below(millis(bound).max(1))));
        };
        *failures = 0;
        let ttl =
            answer.ttl.filter(|ttl| schedule.respect_ttl && !answer.addresses.is_empty() && !ttl.is_zero());
        let base = ttl.map_or(schedule.refresh_rate, |ttl| ttl.max(schedule.min_refresh_rate));
        let jitter = millis(schedule.jitter);
        at_least(if jitter == 0 { base } else { base + Duration::from_millis(rng.below(jitter)) })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Nobody is asked without a pause.
fn at_least(wait: Duration) -> Duration {
    wait.max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(schedule: DnsSchedule, logical: bool) -> Watch {
        Watch {
            cluster: ClusterId(0),
            generation: 1,
            target: 0,
            host: "h".into(),
            family: DnsLookupFamily::Auto,
            logical,
            schedule,
        }
    }

    fn answer(ttl: u64) -> Result<Answer, LookupError> {
        Ok(Answer {
            addresses: vec!["1.2.3.4".parse().unwrap()],
            ttl: Some(Duration::from_secs(ttl)),
            ..Answer::default()
        })
    }

    fn failure() -> Result<Answer, LookupError> {
        Err(LookupError::told("x"))
    }

    #[test]
    fn ttl_counts_only_when_respected_and_useful() {
        let mut watch = watch(DnsSchedule::default(), false);
        let mut rng = Rng::new(1);
        let mut wait =
            |watch: &Watch, result: &Result<Answer, LookupError>| watch.wait(result, &mut 0, &mut rng);
        assert_eq!(wait(&watch, &answer(60)).as_secs(), 5);
        watch.schedule.respect_ttl = true;
        assert_eq!(wait(&watch, &answer(60)).as_secs(), 60);
        assert_eq!(wait(&watch, &answer(0)).as_secs(), 5);
        watch.schedule.min_refresh_rate = Duration::from_secs(90);
        assert_eq!(wait(&watch, &answer(60)).as_secs(), 90);
        assert_eq!(wait(&watch, &answer(100)).as_secs(), 100);
        assert_eq!(wait(&watch, &failure()).as_secs(), 5);
        watch.schedule.jitter = Duration::from_millis(500);
        for _ in 0..50 {
            let wait = wait(&watch, &answer(0));
            assert!(wait >= Duration::from_secs(5) && wait < Duration::from_millis(5500), "{wait:?}");
        }
    }

    #[test]
    fn failures_back_off_up_to_the_longest_wait_and_an_answer_ends_it() {
        let rates = Some((Duration::from_millis(100), Duration::from_secs(1)));
        let watch = watch(DnsSchedule { failure_refresh: rates, ..DnsSchedule::default() }, true);
        let (mut rng, mut failures) = (Rng::new(1), 0);
        let mut longest = [Duration::ZERO; 8];
        for _ in 0..300 {
            for longest in &mut longest {
                *longest = watch.wait(&failure(), &mut failures, &mut rng).max(*longest);
            }
            assert_eq!(watch.wait(&answer(1), &mut failures, &mut rng), Duration::from_secs(5));
        }
        for (at, longest) in longest.iter().enumerate() {
            let bound = (100 << at).min(1000);
            assert!(longest.as_millis() < bound && longest.as_millis() > bound * 9 / 10, "{at}: {longest:?}");
        }
        // Of a logical cluster no address is a failure.
        let empty = Ok(Answer::default());
        assert!(watch.wait(&empty, &mut failures, &mut rng) < Duration::from_millis(100));
        assert_eq!(failures, 1);
    }
}
