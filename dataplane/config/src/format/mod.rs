//! Substitution formats (`%REQ(:PATH)%` and its kin), parsed once when the configuration is compiled.
//! Evaluation lives in `observe`.

mod command;
mod operator;
mod parse;
mod peer;
mod time;

pub use operator::{
    AddressSide, AddressView, Attempted, DurationUnit, GrpcStatusForm, HeaderSource, MetadataOwner, Op,
    Operator, PathSource, ServerNameSource, StateView, TimePoint, TimeSource,
};
pub use peer::{SanType, TlsFact, TlsSide};
pub use time::{TimeFormat, TimePart};

/// The format of an access log that names none.
pub const DEFAULT_ACCESS_LOG: &str = concat!(
    "[%START_TIME%] \"%REQUEST_HEADER(:METHOD)% %REQUEST_HEADER(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESPONSE_HEADER(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQUEST_HEADER(X-FORWARDED-FOR)%\" ",
    "\"%REQUEST_HEADER(USER-AGENT)%\" \"%REQUEST_HEADER(X-REQUEST-ID)%\" ",
    "\"%REQUEST_HEADER(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n"
);

/// A parsed format string.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    /// Literal text and operators in order.
    pub parts: Vec<Part>,
    /// `omit_empty_values` of a text format: operators without a value print nothing even in logs.
    pub omit_empty: bool,
}

/// One piece of a [`Template`].
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Copied as it stands.
    Text(Box<str>),
    /// Evaluated for every request or connection.
    Operator(Operator),
}

/// Why a format string was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// Byte offset of the operator.
    pub position: usize,
    /// Envoy's wording.
    pub message: String,
}

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FormatError {}

impl Template {
    /// Parses a format string. `%ENVIRONMENT(X)%` is looked up now, in this process.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        Ok(Self { parts: parse::parts(text)?, omit_empty: false })
    }

    /// A template that is just this text, without any operator.
    pub fn literal(text: &str) -> Self {
        match text {
            "" => Self::default(),
            _ => Self { parts: vec![Part::Text(text.into())], omit_empty: false },
        }
    }

    /// The only operator, when there is nothing else: JSON formats keep its type.
    pub fn lone_operator(&self) -> Option<&Operator> {
        match self.parts.as_slice() {
            [Part::Operator(operator)] => Some(operator),
            _ => None,
        }
    }

    /// The text, when no operator stands in it.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
