//! What balancers count besides panic (`cluster.<name>.lb_*`).

/// Counters of one cluster, in Envoy's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LbStat {
    /// `lb_healthy_panic`, of choices that failed in panic.
    HealthyPanic,
    /// `lb_recalculate_zone_structures`.
    RecalculateZoneStructures,
    /// `lb_local_cluster_not_ok`.
    LocalClusterNotOk,
    /// `lb_zone_cluster_too_small`.
    ZoneClusterTooSmall,
    /// `lb_zone_no_capacity_left`.
    ZoneNoCapacityLeft,
    /// `lb_zone_routing_all_directly`.
    ZoneRoutingAllDirectly,
    /// `lb_zone_routing_cross_zone`.
    ZoneRoutingCrossZone,
    /// `lb_zone_routing_sampled`.
    ZoneRoutingSampled,
    /// `lb_subsets_created`; raises `lb_subsets_active`.
    SubsetsCreated,
    /// `lb_subsets_removed`; lowers `lb_subsets_active`.
    SubsetsRemoved,
    /// `lb_subsets_selected`.
    SubsetsSelected,
    /// `lb_subsets_fallback`.
    SubsetsFallback,
    /// `lb_subsets_fallback_panic`.
    SubsetsFallbackPanic,
}

impl LbStat {
    const ALL: [Self; 13] = [
        Self::HealthyPanic,
        Self::RecalculateZoneStructures,
        Self::LocalClusterNotOk,
        Self::ZoneClusterTooSmall,
        Self::ZoneNoCapacityLeft,
        Self::ZoneRoutingAllDirectly,
        Self::ZoneRoutingCrossZone,
        Self::ZoneRoutingSampled,
        Self::SubsetsCreated,
        Self::SubsetsRemoved,
        Self::SubsetsSelected,
        Self::SubsetsFallback,
        Self::SubsetsFallbackPanic,
    ];
}

/// Counts that nobody has fetched yet.
#[derive(Debug, Default)]
pub(crate) struct LbStats {
    counts: [u32; LbStat::ALL.len()],
    any: bool,
}

impl LbStats {
    pub fn add(&mut self, stat: LbStat, count: u32) {
        if let Some(sum) = self.counts.get_mut(stat as usize) {
            *sum = sum.saturating_add(count);
            self.any |= count > 0;
        }
    }

    #[inline]
    pub fn take(&mut self, mut each: impl FnMut(LbStat, u32)) {
        if !std::mem::take(&mut self.any) {
            return;
        }
        for (stat, count) in LbStat::ALL.into_iter().zip(&mut self.counts) {
            if *count > 0 {
                each(stat, std::mem::take(count));
            }
        }
    }
}
