//! What certificates must look like beyond the signatures of their path: one table of rules, three profiles.
//!
//! A rule looks at one certificate of a path that webpki found. Which profile holds which rule, and why the mesh's own
//! authorities keep those of [`CertificateRules::Mesh`], is in `docs/decisions/0015-certificate-rules.md`.

mod fields;
mod identifiers;
mod names;
mod usage;
mod view;

use x509_parser::certificate::X509Certificate;

use view::View;

/// Which rules certificates are held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateRules {
    /// What no authority of a mesh issues is refused, whatever else a certificate lacks.
    #[default]
    Mesh,
    /// The profile of RFC 5280.
    Rfc5280,
    /// The same with the CA/Browser Forum's baseline requirements for servers of the web.
    WebPki,
}

impl CertificateRules {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mesh, Self::Rfc5280, Self::WebPki];

    /// As the command line names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Rfc5280 => "rfc5280",
            Self::WebPki => "webpki",
        }
    }

    /// Whether revocation lists must have a number (RFC 5280 5.2.3).
    pub(super) const fn asks_for_crl_numbers(self) -> bool {
        !matches!(self, Self::Mesh)
    }
}

/// The rule that a certificate breaks. Sections are of RFC 5280, or of the baseline requirements (BR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleBreach {
    /// An extension that the rules look at cannot be read, or holds nothing where it must (4.2).
    MalformedExtension,
    /// A critical extension that nobody knows, in a root too (4.2).
    UnknownCriticalExtension,
    /// The serial number is below zero (4.1.2.2).
    NegativeSerial,
    /// The serial number has more than 20 octets (4.1.2.2).
    LongSerial,
    /// An RSA key below 2,048 bits, with which no handshake could be signed either (BR 6.1.5).
    WeakKey,
    /// A key identifier is critical (4.2.1.1, 4.2.1.2).
    CriticalKeyIdentifier,
    /// It may sign certificates and is no authority (4.2.1.3, 4.2.1.9).
    SignsWithoutAuthority,
    /// Name constraints in a leaf (4.2.1.10).
    ConstrainedLeaf,
    /// Name constraints that constrain nothing (4.2.1.10).
    EmptyNameConstraints,
    /// A DNS name that no resolver could be asked for (4.2.1.6).
    ImpossibleName,
    /// The serial number is zero (4.1.2.2).
    ZeroSerial,
    /// It is not of version 3 (4.1.2.1).
    OldVersion,
    /// Issuer or subject have unique identifiers (4.1.2.8).
    UniqueIdentifier,
    /// An authority without a name (4.1.2.6).
    NamelessAuthority,
    /// No key identifier of the issuer (4.2.1.1).
    NoAuthorityKey,
    /// An authority without a key identifier (4.2.1.2).
    NoSubjectKey,
    /// An authority without basic constraints, or such that are not critical (4.2.1.9).
    LooseAuthority,
    /// A path length where there is no authority to sign certificates (4.2.1.9).
    StrayPathLength,
    /// Name constraints that are not critical (4.2.1.10). The web allows them.
    LooseNameConstraints,
    /// A DNS constraint that begins with a dot (4.2.1.10).
    DottedConstraint,
    /// Policy constraints that are not critical (4.2.1.11).
    LoosePolicyConstraints,
    /// No subject, and no critical alternative names (4.2.1.6).
    LooseNames,
    /// Alternative names without a name (4.2.1.6).
    NoNames,
    /// A DNS name not in the preferred syntax (4.2.1.6).
    NameSyntax,
    /// A root's own authority key identifier has another form than just the key's (BR 7.1.2.1.3).
    RootAuthorityKeyForm,
    /// A root's authority key identifier is not its own (BR 7.1.2.1.3).
    RootAuthorityKeyMismatch,
    /// A root that is for some purposes (BR 7.1.2.1.2).
    RootPurpose,
    /// A leaf for no purpose in particular, for any, or critically for some (BR 7.1.2.7.6, 7.1.2.7.10).
    LeafPurpose,
    /// Alternative names that are critical beside a subject (BR 7.1.2.7.12).
    CriticalNames,
    /// A common name that the alternative names do not vouch for, to the letter (BR 7.1.4.3).
    CommonName,
    /// An RSA key whose bits are no multiple of 8 (BR 6.1.5).
    OddKeySize,
}

impl RuleBreach {
    /// For logs.
    pub const fn words(self) -> &'static str {
        match self {
            Self::MalformedExtension => "malformed extension",
            Self::UnknownCriticalExtension => "unknown critical extension",
            Self::NegativeSerial => "negative serial number",
            Self::LongSerial => "serial number longer than 20 octets",
            Self::WeakKey => "RSA key below 2048 bits",
            Self::CriticalKeyIdentifier => "critical key identifier",
            Self::SignsWithoutAuthority => "signs certificates without being an authority",
            Self::ConstrainedLeaf => "name constraints in a leaf",
            Self::EmptyNameConstraints => "empty name constraints",
            Self::ImpossibleName => "impossible DNS name",
            Self::ZeroSerial => "serial number zero",
            Self::OldVersion => "not version 3",
            Self::UniqueIdentifier => "unique identifiers",
            Self::NamelessAuthority => "authority without a name",
            Self::NoAuthorityKey => "no authority key identifier",
            Self::NoSubjectKey => "no subject key identifier",
            Self::LooseAuthority => "authority without critical basic constraints",
            Self::StrayPathLength => "path length without an authority",
            Self::LooseNameConstraints => "name constraints are not critical",
            Self::DottedConstraint => "DNS constraint with a leading dot",
            Self::LoosePolicyConstraints => "policy constraints are not critical",
            Self::LooseNames => "neither subject nor critical alternative names",
            Self::NoNames => "empty alternative names",
            Self::NameSyntax => "DNS name not in preferred syntax",
            Self::RootAuthorityKeyForm => "root's authority key identifier has more than a key identifier",
            Self::RootAuthorityKeyMismatch => "root's authority key identifier is not its own",
            Self::RootPurpose => "root with extended key usage",
            Self::LeafPurpose => "leaf without a plain extended key usage",
            Self::CriticalNames => "critical alternative names beside a subject",
            Self::CommonName => "common name is no alternative name",
            Self::OddKeySize => "RSA key with an odd size",
        }
    }
}

/// Where in a path a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Leaf,
    Intermediate,
    Root,
}

/// Which profiles hold a rule.
type Holders = &'static [CertificateRules];
const EVERY: Holders = &CertificateRules::ALL;
const STRICT: Holders = &[CertificateRules::Rfc5280, CertificateRules::WebPki];
const RFC: Holders = &[CertificateRules::Rfc5280];
const WEB: Holders = &[CertificateRules::WebPki];

type Rule = (Holders, RuleBreach, fn(&View<'_>) -> bool);

/// In the order in which a breach is told.
const RULES: [Rule; 31] = [
    (EVERY, RuleBreach::MalformedExtension, fields::malformed_extension),
    (EVERY, RuleBreach::UnknownCriticalExtension, fields::unknown_critical_extension),
    (EVERY, RuleBreach::NegativeSerial, fields::negative_serial),
    (EVERY, RuleBreach::LongSerial, fields::long_serial),
    (EVERY, RuleBreach::WeakKey, fields::weak_key),
    (EVERY, RuleBreach::CriticalKeyIdentifier, identifiers::critical),
    (EVERY, RuleBreach::SignsWithoutAuthority, usage::signs_without_authority),
    (EVERY, RuleBreach::ConstrainedLeaf, usage::constrained_leaf),
    (EVERY, RuleBreach::EmptyNameConstraints, usage::empty_name_constraints),
    (EVERY, RuleBreach::ImpossibleName, names::impossible),
    (STRICT, RuleBreach::ZeroSerial, fields::zero_serial),
    (STRICT, RuleBreach::OldVersion, fields::old_version),
    (STRICT, RuleBreach::UniqueIdentifier, fields::unique_identifier),
    (STRICT, RuleBreach::NamelessAuthority, names::nameless_authority),
    (STRICT, RuleBreach::NoAuthorityKey, identifiers::no_authority_key),
    (STRICT, RuleBreach::NoSubjectKey, identifiers::no_subject_key),
    (STRICT, RuleBreach::LooseAuthority, usage::loose_authority),
    (STRICT, RuleBreach::StrayPathLength, usage::stray_path_length),
    (RFC, RuleBreach::LooseNameConstraints, usage::loose_name_constraints),
    (STRICT, RuleBreach::DottedConstraint, usage::dotted_constraint),
    (STRICT, RuleBreach::LoosePolicyConstraints, usage::loose_policy_constraints),
    (STRICT, RuleBreach::LooseNames, names::loose),
    (STRICT, RuleBreach::NoNames, names::none),
    (STRICT, RuleBreach::NameSyntax, names::syntax),
    (WEB, RuleBreach::RootAuthorityKeyForm, identifiers::root_form),
    (WEB, RuleBreach::RootAuthorityKeyMismatch, identifiers::root_mismatch),
    (WEB, RuleBreach::RootPurpose, usage::root_purpose),
    (WEB, RuleBreach::LeafPurpose, usage::leaf_purpose),
    (WEB, RuleBreach::CriticalNames, names::critical),
    (WEB, RuleBreach::CommonName, names::common_name),
    (WEB, RuleBreach::OddKeySize, fields::odd_key_size),
];

/// The first rule of a profile that `certificate` breaks in this place.
pub(super) fn check(
    rules: CertificateRules,
    certificate: &X509Certificate<'_>,
    place: Place,
) -> Result<(), RuleBreach> {
    let view = View::new(certificate, place);
    let broken = |(holders, _, breaks): &&Rule| holders.contains(&rules) && breaks(&view);
    RULES.iter().find(broken).map_or(Ok(()), |(_, breach, _)| Err(*breach))
}
