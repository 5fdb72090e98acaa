//! `LbSubsetConfig` and `Subset`.

use std::sync::Arc;

use millrace_config::{SelectorFallback, Subset, SubsetFallback, SubsetSelector};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::LbSubsetConfig;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::lb_subset_config as old;
use millrace_proto::pb::envoy::extensions::load_balancing_policies::subset::v3 as new;

use crate::error::Rejection;
use crate::metadata;

/// `None` without selectors: there are no subsets then, whatever else is configured.
pub(super) fn legacy(config: &LbSubsetConfig, path: &Path) -> Result<Option<Arc<Subset>>, Rejection> {
    use old::LbSubsetFallbackPolicy as Fallback;
    use old::lb_subset_selector::LbSubsetSelectorFallbackPolicy as Selector;
    if config.subset_selectors.is_empty() {
        return Ok(None);
    }
    let mut selectors = Vec::with_capacity(config.subset_selectors.len());
    for (i, one) in config.subset_selectors.iter().enumerate() {
        let fallback = match one.fallback_policy() {
            Selector::NotDefined => Some(SelectorFallback::NotDefined),
            Selector::NoFallback => Some(SelectorFallback::NoFallback),
            Selector::AnyEndpoint => Some(SelectorFallback::AnyEndpoint),
            Selector::DefaultSubset => Some(SelectorFallback::DefaultSubset),
            Selector::KeysSubset => None,
        };
        let path = path.join("subset_selectors").at(i);
        let one = (&one.keys[..], &one.fallback_keys_subset[..], one.single_host_per_subset);
        selectors.extend(selector(one, fallback, &path)?);
    }
    Ok(Some(Arc::new(Subset {
        fallback: match config.fallback_policy() {
            Fallback::NoFallback => SubsetFallback::NoFallback,
            Fallback::AnyEndpoint => SubsetFallback::AnyEndpoint,
            Fallback::DefaultSubset => SubsetFallback::DefaultSubset,
        },
        default_subset: config.default_subset.as_ref().map(metadata::pairs).unwrap_or_default().into(),
        selectors,
        locality_weight_aware: config.locality_weight_aware,
        scale_locality_weight: config.scale_locality_weight,
        panic_mode_any: config.panic_mode_any,
        list_as_any: config.list_as_any,
        fallback_list: config.metadata_fallback_policy() == old::LbSubsetMetadataFallbackPolicy::FallbackList,
        allow_redundant_keys: false,
    })))
}

pub(super) fn typed(config: &new::Subset, path: &Path) -> Result<Arc<Subset>, Rejection> {
    use new::subset::LbSubsetFallbackPolicy as Fallback;
    use new::subset::lb_subset_selector::LbSubsetSelectorFallbackPolicy as Selector;
    let mut selectors = Vec::with_capacity(config.subset_selectors.len());
    for (i, one) in config.subset_selectors.iter().enumerate() {
        let fallback = match one.fallback_policy() {
            Selector::NotDefined => Some(SelectorFallback::NotDefined),
            Selector::NoFallback => Some(SelectorFallback::NoFallback),
            Selector::AnyEndpoint => Some(SelectorFallback::AnyEndpoint),
            Selector::DefaultSubset => Some(SelectorFallback::DefaultSubset),
            Selector::KeysSubset => None,
        };
        let path = path.join("subset_selectors").at(i);
        let one = (&one.keys[..], &one.fallback_keys_subset[..], one.single_host_per_subset);
        selectors.extend(selector(one, fallback, &path)?);
    }
    let lists = new::subset::LbSubsetMetadataFallbackPolicy::FallbackList;
    Ok(Arc::new(Subset {
        fallback: match config.fallback_policy() {
            Fallback::NoFallback => SubsetFallback::NoFallback,
            Fallback::AnyEndpoint => SubsetFallback::AnyEndpoint,
            Fallback::DefaultSubset => SubsetFallback::DefaultSubset,
        },
        default_subset: config.default_subset.as_ref().map(metadata::pairs).unwrap_or_default().into(),
        selectors,
        locality_weight_aware: config.locality_weight_aware,
        scale_locality_weight: config.scale_locality_weight,
        panic_mode_any: config.panic_mode_any,
        list_as_any: config.list_as_any,
        fallback_list: config.metadata_fallback_policy() == lists,
        allow_redundant_keys: config.allow_redundant_keys,
    }))
}

/// One selector of keys, fallback keys and whether it has single hosts; `None` when it has no keys, which selects
/// nothing. No `fallback` means `KEYS_SUBSET`.
fn selector(
    (keys, fallback_keys, single_host): (&[String], &[String], bool),
    fallback: Option<SelectorFallback>,
    path: &Path,
) -> Result<Option<SubsetSelector>, Rejection> {
    let keys = sorted(keys);
    let fallback = match fallback {
        Some(fallback) => fallback,
        None => {
            let path = path.join("fallback_keys_subset");
            let fewer = sorted(fallback_keys);
            if fewer.is_empty() {
                return Err(Rejection::new(&path, "fallback_keys_subset cannot be empty"));
            }
            if fewer.iter().any(|key| !keys.contains(key)) {
                let why = "fallback_keys_subset must be a subset of selector keys";
                return Err(Rejection::new(&path, why));
            }
            // Or else a request would fall back for ever.
            if fewer.len() == keys.len() {
                return Err(Rejection::new(&path, "fallback_keys_subset cannot be equal to keys"));
            }
            SelectorFallback::KeysSubset(fewer)
        }
    };
    Ok((!keys.is_empty()).then_some(SubsetSelector { keys, fallback, single_host }))
}

fn sorted(keys: &[String]) -> Vec<Arc<str>> {
    let mut keys: Vec<Arc<str>> = keys.iter().map(|key| Arc::from(key.as_str())).collect();
    keys.sort();
    keys.dedup();
    keys
}
