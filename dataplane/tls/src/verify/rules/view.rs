//! The extensions of a certificate that rules look at, found once.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{
    AuthorityInfoAccess, AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyIdentifier, KeyUsage,
    NameConstraints, ParsedExtension, PolicyConstraints, SubjectAlternativeName,
};
use x509_parser::oid_registry::{
    OID_PKIX_AUTHORITY_INFO_ACCESS, OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE, OID_X509_EXT_NAME_CONSTRAINTS,
    OID_X509_EXT_POLICY_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, Oid,
};

use super::Place;

/// Those of [`View`]'s fields.
const LOOKED_AT: [Oid<'static>; 9] = [
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
    OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
    OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_SUBJECT_ALT_NAME,
    OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_NAME_CONSTRAINTS,
    OID_X509_EXT_POLICY_CONSTRAINTS,
    OID_X509_EXT_EXTENDED_KEY_USAGE,
    OID_PKIX_AUTHORITY_INFO_ACCESS,
];

/// An extension.
pub(super) struct Found<'a, T> {
    pub(super) critical: bool,
    pub(super) value: &'a T,
}

/// A certificate and its place.
pub(super) struct View<'a> {
    pub(super) certificate: &'a X509Certificate<'a>,
    pub(super) place: Place,
    /// One of the extensions below cannot be read.
    pub(super) unreadable: bool,
    /// A critical extension is none that the parser knows.
    pub(super) unknown_critical: bool,
    pub(super) authority_key: Option<Found<'a, AuthorityKeyIdentifier<'a>>>,
    pub(super) subject_key: Option<Found<'a, KeyIdentifier<'a>>>,
    pub(super) key_usage: Option<Found<'a, KeyUsage>>,
    pub(super) names: Option<Found<'a, SubjectAlternativeName<'a>>>,
    pub(super) basic: Option<Found<'a, BasicConstraints>>,
    pub(super) name_constraints: Option<Found<'a, NameConstraints<'a>>>,
    pub(super) policy_constraints: Option<Found<'a, PolicyConstraints>>,
    pub(super) purposes: Option<Found<'a, ExtendedKeyUsage<'a>>>,
    pub(super) information: Option<Found<'a, AuthorityInfoAccess<'a>>>,
}

impl<'a> View<'a> {
    pub(super) fn new(certificate: &'a X509Certificate<'a>, place: Place) -> Self {
        let mut view = Self {
            certificate,
            place,
            unreadable: false,
            unknown_critical: false,
            authority_key: None,
            subject_key: None,
            key_usage: None,
            names: None,
            basic: None,
            name_constraints: None,
            policy_constraints: None,
            purposes: None,
            information: None,
        };
        for extension in certificate.extensions() {
            let critical = extension.critical;
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(value) => {
                    view.authority_key = Some(Found { critical, value });
                }
                ParsedExtension::SubjectKeyIdentifier(value) => {
                    view.subject_key = Some(Found { critical, value });
                }
                ParsedExtension::KeyUsage(value) => view.key_usage = Some(Found { critical, value }),
                ParsedExtension::SubjectAlternativeName(value) => {
                    view.names = Some(Found { critical, value });
                }
                ParsedExtension::BasicConstraints(value) => view.basic = Some(Found { critical, value }),
                ParsedExtension::NameConstraints(value) => {
                    view.name_constraints = Some(Found { critical, value });
                }
                ParsedExtension::PolicyConstraints(value) => {
                    view.policy_constraints = Some(Found { critical, value });
                }
                ParsedExtension::ExtendedKeyUsage(value) => view.purposes = Some(Found { critical, value }),
                ParsedExtension::AuthorityInfoAccess(value) => {
                    view.information = Some(Found { critical, value });
                }
                ParsedExtension::ParseError { .. } => view.unreadable |= LOOKED_AT.contains(&extension.oid),
                ParsedExtension::UnsupportedExtension { .. } => view.unknown_critical |= critical,
                _ => {}
            }
        }
        view
    }

    /// Basic constraints say so.
    pub(super) fn is_authority(&self) -> bool {
        self.basic.as_ref().is_some_and(|basic| basic.value.ca)
    }

    /// It stands where only authorities stand.
    pub(super) fn issues(&self) -> bool {
        self.place != Place::Leaf
    }

    /// Issuer and subject are the same (RFC 5280 3.2).
    pub(super) fn is_self_issued(&self) -> bool {
        self.certificate.issuer().as_raw() == self.certificate.subject().as_raw()
    }

    /// The subject is an empty sequence.
    pub(super) fn is_nameless(&self) -> bool {
        self.certificate.subject().iter().next().is_none()
    }
}
