//! Subsets of a cluster's endpoints by their metadata (`lb_subset_config`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_base::Rng;
use millrace_config::{LbMetadata, MetadataPairs, SelectorFallback, Subset, SubsetFallback, SubsetSelector};

use super::locality::Weights;
use super::stats::{LbStat, LbStats};
use super::tables::Tables;
use super::{ChooseContext, Chosen, Draw, Ground};
use crate::members::Member;
use crate::{Host, HostId};

type Pair = (Arc<str>, Arc<str>);
type Members = Vec<Vec<Member>>;

/// One subset.
#[derive(Debug)]
enum Entry {
    Tables(Box<Tables>),
    /// `single_host_per_subset`: its health does not matter.
    Single(HostId),
}

/// All subsets of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Subsets {
    config: Arc<Subset>,
    any: Option<Box<Tables>>,
    default: Option<Box<Tables>>,
    entries: BTreeMap<MetadataPairs, Entry>,
}

/// Most subsets that one endpoint is in for one selector: lists multiply.
const COMBINATIONS_MAX: usize = 1024;

impl Subsets {
    /// Builds the subsets of `members`.
    pub fn rebuild(
        &mut self,
        config: &Arc<Subset>,
        ground: &Ground<'_>,
        members: &[Vec<Member>],
        rng: &mut Rng,
        stats: &mut LbStats,
    ) {
        self.config = Arc::clone(config);
        let weights = match (config.locality_weight_aware, config.scale_locality_weight) {
            (false, _) => Weights::Absent,
            (true, false) => Weights::Configured,
            (true, true) => Weights::Scaled,
        };
        let mut place = |old: Option<Box<Tables>>, members: &[Vec<Member>], stats: &mut LbStats| {
            let mut tables = old.unwrap_or_default();
            tables.rebuild(ground, members, weights, rng, stats);
            tables
        };
        let uses = |fallback: &SelectorFallback| config.selectors.iter().any(|s| s.fallback == *fallback);
        let any = config.panic_mode_any
            || config.fallback == SubsetFallback::AnyEndpoint
            || uses(&SelectorFallback::AnyEndpoint);
        let default =
            config.fallback == SubsetFallback::DefaultSubset || uses(&SelectorFallback::DefaultSubset);
        self.any = any.then(|| place(self.any.take(), members, stats));
        self.default = default.then(|| {
            let matching = filtered(members, ground, |host| self.config.has_default(host));
            place(self.default.take(), &matching, stats)
        });
        let mut old = std::mem::take(&mut self.entries);
        for (key, found) in collect(config, ground, members) {
            let before = old.remove(&key);
            stats.add(LbStat::SubsetsCreated, u32::from(before.is_none()));
            let entry = match (found, before) {
                (Found::Single(id), _) => Entry::Single(id),
                (Found::Members(members), Some(Entry::Tables(tables))) => {
                    Entry::Tables(place(Some(tables), &members, stats))
                }
                (Found::Members(members), _) => Entry::Tables(place(None, &members, stats)),
            };
            self.entries.insert(key, entry);
        }
        stats.add(LbStat::SubsetsRemoved, old.len() as u32);
    }

    /// Draws a host of the subset that the request asks for, or as the fallbacks say.
    pub fn choose(&mut self, draw: &mut Draw<'_>, context: &ChooseContext<'_>) -> Option<Chosen> {
        let wanted = context.metadata;
        if self.config.fallback_list
            && let Some(fallbacks) = wanted.and_then(|wanted| wanted.fallbacks.as_ref())
        {
            return fallbacks.iter().find_map(|pairs| self.choose_by(Some(pairs), draw, context));
        }
        self.choose_by(wanted.map(|wanted| &*wanted.pairs), draw, context)
    }

    fn choose_by(
        &mut self,
        wanted: Option<&[Pair]>,
        draw: &mut Draw<'_>,
        context: &ChooseContext<'_>,
    ) -> Option<Chosen> {
        let config = Arc::clone(&self.config);
        let wanted = wanted.map(|pairs| config.without_redundant(pairs));
        if let Some(entry) = wanted.as_deref().and_then(|pairs| self.entries.get_mut(pairs)) {
            draw.stats.add(LbStat::SubsetsSelected, 1);
            return match entry {
                Entry::Tables(tables) => tables.choose(draw, context),
                Entry::Single(id) => Some(Chosen { host: *id, panic: false }),
            };
        }
        match wanted.as_deref().map_or(&SelectorFallback::NotDefined, |pairs| config.fallback_of(pairs)) {
            SelectorFallback::NotDefined => self.fall_back(draw, context),
            SelectorFallback::NoFallback => None,
            SelectorFallback::AnyEndpoint => self.any.as_mut()?.choose(draw, context),
            SelectorFallback::DefaultSubset => self.default.as_mut()?.choose(draw, context),
            SelectorFallback::KeysSubset(keys) => {
                // Fewer keys each time, as the configuration's check says; so it ends.
                let pairs: Vec<Pair> = wanted
                    .iter()
                    .flat_map(|p| p.iter())
                    .filter(|(key, _)| keys.contains(key))
                    .cloned()
                    .collect();
                self.choose_by(Some(&pairs), draw, context)
            }
        }
    }

    fn fall_back(&mut self, draw: &mut Draw<'_>, context: &ChooseContext<'_>) -> Option<Chosen> {
        let fallback = match self.config.fallback {
            SubsetFallback::NoFallback => return None,
            SubsetFallback::AnyEndpoint => self.any.as_mut(),
            SubsetFallback::DefaultSubset => self.default.as_mut(),
        };
        if let Some(tables) = fallback {
            if let Some(chosen) = tables.choose(draw, context) {
                draw.stats.add(LbStat::SubsetsFallback, 1);
                return Some(chosen);
            }
            // Nobody is fewer than any share, so this was panic, too.
            draw.stats.add(LbStat::HealthyPanic, u32::from(tables.panics()));
        }
        if !self.config.panic_mode_any {
            return None;
        }
        let chosen = self.any.as_mut()?.choose(draw, context)?;
        draw.stats.add(LbStat::SubsetsFallbackPanic, 1);
        Some(chosen)
    }
}

/// What [`Subset`] means to a request and to a host.
trait Rules {
    fn has_default(&self, host: &Host) -> bool;
    fn without_redundant<'p>(&self, pairs: &'p [Pair]) -> Cow<'p, [Pair]>;
    fn fallback_of(&self, pairs: &[Pair]) -> &SelectorFallback;
}

impl Rules for Subset {
    /// True for a host of the default subset.
    fn has_default(&self, host: &Host) -> bool {
        let metadata = host.lb_metadata.as_deref();
        self.default_subset.iter().all(|(key, value)| match metadata.and_then(|m| m.get(key)) {
            Some((_, Some(elements))) if self.list_as_any => elements.contains(value),
            Some((own, _)) => own == value,
            None => false,
        })
    }

    /// With `allow_redundant_keys`: only the keys of the first selector that the request has all keys of.
    fn without_redundant<'p>(&self, pairs: &'p [Pair]) -> Cow<'p, [Pair]> {
        let has = |key: &Arc<str>| pairs.binary_search_by(|(known, _)| known.cmp(key)).is_ok();
        let selector = self.selectors.iter().find(|selector| selector.keys.iter().all(has));
        match selector.filter(|selector| self.allow_redundant_keys && selector.keys.len() < pairs.len()) {
            Some(selector) => {
                Cow::Owned(pairs.iter().filter(|(key, _)| selector.keys.contains(key)).cloned().collect())
            }
            None => Cow::Borrowed(pairs),
        }
    }

    /// The fallback of the selector with exactly these keys. As in Envoy it is lost when the keys begin those of an
    /// earlier selector.
    fn fallback_of(&self, pairs: &[Pair]) -> &SelectorFallback {
        let same = |selector: &SubsetSelector| selector.keys.iter().eq(pairs.iter().map(|(key, _)| key));
        let first = self.selectors.iter().find(|selector| {
            selector.keys.len() >= pairs.len()
                && selector.keys.iter().zip(pairs).all(|(key, (own, _))| key == own)
        });
        first
            .filter(|selector| same(selector))
            .map_or(&SelectorFallback::NotDefined, |selector| &selector.fallback)
    }
}

/// The hosts of a subset to be.
enum Found {
    Members(Members),
    Single(HostId),
}

fn filtered(members: &[Vec<Member>], ground: &Ground<'_>, keep: impl Fn(&Host) -> bool) -> Members {
    let kept = |member: &Member| ground.hosts.get(member.id.0).is_some_and(&keep);
    members.iter().map(|level| level.iter().copied().filter(kept).collect()).collect()
}

/// Every host in all subsets that it belongs to.
fn collect(config: &Subset, ground: &Ground<'_>, members: &[Vec<Member>]) -> BTreeMap<MetadataPairs, Found> {
    let mut found: BTreeMap<MetadataPairs, Found> = BTreeMap::new();
    let all =
        members.iter().enumerate().flat_map(|(level, of)| of.iter().map(move |member| (level, *member)));
    for (priority, member) in all {
        let Some(metadata) = ground.hosts.get(member.id.0).and_then(|host| host.lb_metadata.as_deref())
        else {
            continue;
        };
        for selector in &config.selectors {
            for key in combinations(&selector.keys, metadata, config.list_as_any) {
                let fresh = || match selector.single_host {
                    true => Found::Single(member.id),
                    false => Found::Members(vec![Vec::new(); members.len()]),
                };
                if let Found::Members(levels) = found.entry(key.into()).or_insert_with(fresh)
                    && levels[priority].last() != Some(&member)
                {
                    levels[priority].push(member);
                }
            }
        }
    }
    found
}

/// The subsets that a host with this metadata is in for the keys of one selector; none unless it has all keys.
fn combinations(keys: &[Arc<str>], metadata: &LbMetadata, list_as_any: bool) -> Vec<Vec<Pair>> {
    let mut all: Vec<Vec<Pair>> = vec![Vec::with_capacity(keys.len())];
    for key in keys {
        match metadata.get(key) {
            None => return Vec::new(),
            Some((_, Some(elements))) if list_as_any => {
                let longer = |pairs: &Vec<Pair>| {
                    let pairs = pairs.clone();
                    elements.iter().map(move |element| {
                        let mut pairs = pairs.clone();
                        pairs.push((Arc::clone(key), Arc::clone(element)));
                        pairs
                    })
                };
                all = all.iter().flat_map(longer).take(COMBINATIONS_MAX).collect();
            }
            Some((value, _)) => {
                all.iter_mut().for_each(|pairs| pairs.push((Arc::clone(key), Arc::clone(value))));
            }
        }
    }
    all
}
