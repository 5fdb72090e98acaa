//! Rules about what a certificate may be used for: basic constraints, key usage, purposes, constraints.

use x509_parser::extensions::{GeneralName, GeneralSubtree};

use super::Place;
use super::view::View;

pub(super) fn signs_without_authority(view: &View<'_>) -> bool {
    let signs = view.key_usage.as_ref().is_some_and(|found| found.value.key_cert_sign());
    // A root may do without basic constraints altogether: those that were made before there were any do.
    let contradicts = view.basic.is_some() || view.place != Place::Root;
    signs && contradicts && !view.is_authority()
}

pub(super) fn constrained_leaf(view: &View<'_>) -> bool {
    view.name_constraints.is_some() && !view.issues()
}

pub(super) fn empty_name_constraints(view: &View<'_>) -> bool {
    view.name_constraints.as_ref().is_some_and(|found| {
        let empty = |list: &Option<Vec<GeneralSubtree<'_>>>| list.as_ref().is_none_or(Vec::is_empty);
        empty(&found.value.permitted_subtrees) && empty(&found.value.excluded_subtrees)
    })
}

pub(super) fn loose_authority(view: &View<'_>) -> bool {
    view.issues() && view.basic.as_ref().is_none_or(|found| !found.critical)
}

pub(super) fn stray_path_length(view: &View<'_>) -> bool {
    let signs = view.key_usage.as_ref().is_none_or(|found| found.value.key_cert_sign());
    let limited = view.basic.as_ref().is_some_and(|found| found.value.path_len_constraint.is_some());
    limited && !(view.is_authority() && signs)
}

pub(super) fn loose_name_constraints(view: &View<'_>) -> bool {
    view.name_constraints.as_ref().is_some_and(|found| !found.critical)
}

pub(super) fn dotted_constraint(view: &View<'_>) -> bool {
    let Some(found) = &view.name_constraints else { return false };
    let lists = [&found.value.permitted_subtrees, &found.value.excluded_subtrees];
    let mut bases = lists.into_iter().flatten().flatten().map(|subtree| &subtree.base);
    bases.any(|base| matches!(base, GeneralName::DNSName(name) if name.starts_with('.')))
}

pub(super) fn loose_policy_constraints(view: &View<'_>) -> bool {
    view.policy_constraints.as_ref().is_some_and(|found| !found.critical)
}

pub(super) fn root_purpose(view: &View<'_>) -> bool {
    view.place == Place::Root && view.purposes.is_some()
}

pub(super) fn leaf_purpose(view: &View<'_>) -> bool {
    view.place == Place::Leaf && view.purposes.as_ref().is_none_or(|found| found.critical || found.value.any)
}
