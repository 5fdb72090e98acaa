//! Time formats of `%START_TIME(...)%`: `strftime` with Envoy's fractions.

/// A compiled time format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat {
    /// Pieces in order.
    pub parts: Vec<TimePart>,
}

/// One piece of a [`TimeFormat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimePart {
    /// Copied as it stands.
    Text(Box<str>),
    /// A `strftime` conversion character.
    Conversion(char),
    /// `%s` and `%Ns`: Unix seconds followed by this many digits of the fraction.
    UnixSeconds(u8),
    /// `%f` and `%Nf`: this many digits of the fraction, without the point.
    Fraction(u8),
}
