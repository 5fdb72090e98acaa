//! Resources on which we differ from Envoy on purpose, each with the reason.

/// One resource of one file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exception {
    /// Part of the file's path.
    pub file: &'static str,
    /// The resource's name.
    pub resource: &'static str,
    /// Why.
    pub why: &'static str,
}

/// All of them.
pub const EXCEPTIONS: &[Exception] = &[];

/// A scenario that Envoy refuses as a bootstrap and we accept resource by resource.
#[derive(Debug)]
pub struct Accepted {
    /// What its files share.
    pub scenario: &'static str,
    /// Why.
    pub why: &'static str,
}

/// All of them.
pub const ACCEPTED: &[Accepted] = &[];
