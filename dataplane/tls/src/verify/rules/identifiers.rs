//! Rules about key identifiers (RFC 5280 4.2.1.1 and 4.2.1.2, BR 7.1.2.1.3).

use super::Place;
use super::view::View;

pub(super) fn critical(view: &View<'_>) -> bool {
    view.authority_key.as_ref().is_some_and(|found| found.critical)
        || view.subject_key.as_ref().is_some_and(|found| found.critical)
}

/// Only a root that issued itself may leave it out.
pub(super) fn no_authority_key(view: &View<'_>) -> bool {
    let may = view.place == Place::Root && view.is_self_issued();
    !may && view.authority_key.as_ref().is_none_or(|found| found.value.key_identifier.is_none())
}

pub(super) fn no_subject_key(view: &View<'_>) -> bool {
    view.issues() && view.subject_key.is_none()
}

pub(super) fn root_form(view: &View<'_>) -> bool {
    view.place == Place::Root
        && view.authority_key.as_ref().is_some_and(|found| {
            let value = found.value;
            value.key_identifier.is_none()
                || value.authority_cert_issuer.is_some()
                || value.authority_cert_serial.is_some()
        })
}

pub(super) fn root_mismatch(view: &View<'_>) -> bool {
    let (Some(authority), Some(subject)) = (&view.authority_key, &view.subject_key) else { return false };
    let wanted = authority.value.key_identifier.as_ref();
    view.place == Place::Root
        && view.is_self_issued()
        && wanted.is_some_and(|wanted| wanted.0 != subject.value.0)
}
