//! Small numbers that stand for names on the hot path.

/// A cluster's name, interned by the control thread. Stays the same across snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u32);

/// A route table that comes over RDS, interned by the control thread. Stays the same across updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteTableId(pub u32);

/// The scopes of a connection manager that come over SRDS, interned by the control thread. Stays the same across updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeTableId(pub u32);

/// A place that configuration comes from (`core.v3.ConfigSource`), interned by the control thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// A secret that comes over SDS (a name at a source), interned by the control thread. Stays the same across updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretId(pub u32);

/// A statistics scope (one listener, one `http.<stat_prefix>`, one cluster ...), interned by the control
/// thread. A shard holds the scope's counters in an array; names exist only when somebody scrapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId(pub u32);

/// Position of an HTTP filter in its chain's list; keys `typed_per_filter_config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilterConfigId(pub u16);

/// `RuntimeFractionalPercent` after the runtime was looked up: true for `numerator` of `denominator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// How many of `denominator` match.
    pub numerator: u32,
    /// 100, 10,000 or 1,000,000.
    pub denominator: u32,
}
