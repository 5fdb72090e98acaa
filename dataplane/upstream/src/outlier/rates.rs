//! Success rates of a cluster's endpoints in one interval, and which of them are outliers.

use millrace_config::OutlierDetection;

/// One endpoint's interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HostRate {
    /// The detector's number for it.
    pub index: usize,
    /// Percent.
    pub success: f64,
    /// Requests.
    pub volume: u32,
}

/// What an interval says of one origin.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// Mean and threshold, percent; `None` when too few endpoints had enough requests.
    pub cluster: Option<(f64, f64)>,
    /// Below the threshold.
    pub by_success_rate: Vec<HostRate>,
    /// Too many failures.
    pub by_failures: Vec<HostRate>,
}

/// False when the cluster is too small for anybody to be judged, or to have a rate.
pub(super) fn enough_members(members: usize, config: &OutlierDetection) -> bool {
    members >= config.success_rate.minimum_hosts as usize
        || members >= config.failure_percentage.minimum_hosts as usize
}

/// Judges the endpoints that are not out already. `members` counts all of them.
pub(super) fn judge(rates: &[HostRate], members: usize, config: &OutlierDetection) -> Verdict {
    let (by_rate, by_share) = (&config.success_rate, &config.failure_percentage);
    let mut verdict = Verdict::default();
    if !enough_members(members, config) {
        return verdict;
    }
    let with = |volume: u32| rates.iter().filter(move |rate| rate.volume >= volume).copied();
    let enough = |count: usize, least: u32| count > 0 && count >= least as usize;
    let valid: Vec<HostRate> = with(by_rate.request_volume).collect();
    if enough(valid.len(), by_rate.minimum_hosts) {
        let count = valid.len() as f64;
        let mean = valid.iter().map(|rate| rate.success).sum::<f64>() / count;
        let variance = valid.iter().map(|rate| (rate.success - mean).powi(2)).sum::<f64>() / count;
        let threshold = mean - f64::from(by_rate.stdev_factor) / 1000.0 * variance.sqrt();
        verdict.cluster = Some((mean, threshold));
        verdict.by_success_rate = valid.into_iter().filter(|rate| rate.success < threshold).collect();
    }
    let valid: Vec<HostRate> = with(by_share.request_volume).collect();
    if enough(valid.len(), by_share.minimum_hosts) {
        let limit = f64::from(by_share.threshold);
        verdict.by_failures = valid.into_iter().filter(|rate| 100.0 - rate.success >= limit).collect();
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(successes: &[f64], volume: u32) -> Vec<HostRate> {
        let rate = |(index, success): (usize, &f64)| HostRate { index, success: *success, volume };
        successes.iter().enumerate().map(rate).collect()
    }

    #[test]
    fn far_below_the_mean_is_an_outlier() {
        let config = OutlierDetection::default();
        let verdict = judge(&rates(&[50.0, 100.0, 100.0, 100.0, 100.0], 100), 5, &config);
        assert_eq!(verdict.cluster, Some((90.0, 52.0)));
        assert_eq!(verdict.by_success_rate.iter().map(|rate| rate.index).collect::<Vec<_>>(), [0]);
        assert_eq!(verdict.by_failures, []);
        let same = judge(&rates(&[0.0; 5], 100), 5, &config);
        assert_eq!(
            (same.cluster, same.by_success_rate.len(), same.by_failures.len()),
            (Some((0.0, 0.0)), 0, 5)
        );
    }

    #[test]
    fn too_few_requests_or_endpoints_tell_nothing() {
        let config = OutlierDetection::default();
        assert_eq!(judge(&rates(&[0.0, 100.0, 100.0, 100.0, 100.0], 49), 5, &config), Verdict::default());
        let some = judge(&rates(&[15.0, 100.0, 100.0, 100.0, 100.0], 50), 5, &config);
        assert_eq!((some.cluster, some.by_failures.len()), (None, 1));
        assert_eq!(judge(&rates(&[0.0; 4], 100), 4, &config), Verdict::default());
        assert_eq!(judge(&[], 100, &config), Verdict::default());
    }
}
