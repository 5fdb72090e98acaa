//! Substitution formats (`%REQ(:PATH)%` and its kin), parsed once when the configuration is compiled.
//! Evaluation lives in `observe`.

/// A parsed format string.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    /// Literal text and operators in order.
    pub parts: Vec<Part>,
}

/// One piece of a [`Template`].
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Copied as it stands.
    Text(Box<str>),
}
