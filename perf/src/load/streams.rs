//! Memory: streams that are all open at once, on an origin that answers none of them before the last has come.

use std::time::Duration;

use super::http2::Batch;
use crate::peer::Running;
use crate::process::resident_kib;
use crate::result::Sample;
use crate::scenario::Load;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The highest resident memory meanwhile. Every answer is proof that all streams were open.
pub(super) fn measure(proxy: &Running, load: &Load) -> Result<Sample, String> {
    std::thread::sleep(Duration::from_millis(500));
    let before = resident_kib(proxy.measured());
    let mut generator = Batch::once(load).start(load, proxy.address(), proxy.directory())?;
    let mut highest = before;
    while !generator.has_ended() {
        std::thread::sleep(LOOK);
        highest = highest.max(resident_kib(proxy.measured()));
    }
    let tally = generator.wait()?;
    let grown = highest.saturating_sub(before) as f64;
    Ok(Sample {
        operations: tally.operations,
        rss_mib: highest as f64 / 1024.0,
        errors: tally.errors,
        kib_per_connection: (tally.operations > 0.0).then(|| grown / tally.operations),
        ..Sample::default()
    })
}
