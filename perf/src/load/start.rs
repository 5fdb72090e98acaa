//! Start-up: from exec to the first response that came through the last cluster of the configuration.

use std::time::{Duration, Instant};

use super::idle::request_once;
use crate::peer::Running;
use crate::process::{cpu_seconds, resident_kib};
use crate::result::Sample;
use crate::scenario::Load;
use crate::template::service;

const LIMIT: Duration = Duration::from_secs(90);

pub(super) fn measure(proxy: &mut Running, load: &Load) -> Result<Sample, String> {
    let host = service(load.clusters - 1);
    while let Err(error) = request_once(proxy.address(), &host) {
        proxy.check_alive("stderr")?;
        if proxy.began.elapsed() > LIMIT {
            return Err(format!("no response within {} s: {error}", LIMIT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let ready = proxy.began.elapsed();
    let cpu = cpu_seconds(proxy.measured());
    settle(proxy);
    Ok(Sample {
        operations: 1.0,
        rss_mib: resident_kib(proxy.measured()) as f64 / 1024.0,
        ready_ms: Some(ready.as_secs_f64() * 1000.0),
        start_cpu_ms: Some(cpu * 1000.0),
        ..Sample::default()
    })
}

/// Memory is read when start-up work after the first response has ended.
fn settle(proxy: &Running) {
    let begin = Instant::now();
    let mut before = cpu_seconds(proxy.measured());
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = cpu_seconds(proxy.measured());
        if now - before < 0.05 || begin.elapsed() > Duration::from_secs(3) {
            return;
        }
        before = now;
    }
}
