//! Typed positions of metrics in a scope's arrays, and the macro that declares a table of them.

/// A counter of one kind of scope; a constant of one of the modules in `tables`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counter(pub(crate) u16);

/// A gauge of one kind of scope; a constant of one of the modules in `tables`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gauge(pub(crate) u16);

/// A histogram of one kind of scope; a constant of one of the modules in `tables`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Histogram(pub(crate) u16);

/// Metrics that exist only when something is configured or has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Always there.
    Always,
    /// There once it was used.
    OnUse,
    /// Clusters with `health_checks`.
    HealthCheck,
    /// Clusters with `outlier_detection`.
    OutlierDetection,
    /// Connection managers with a router: all but the admin's.
    Router,
    /// Connection managers of listeners other than the admin's.
    Tracing,
    /// Listeners other than the admin's.
    Extensions,
    /// Clusters whose endpoints may be spoken to in HTTP/2.
    Http2,
    /// Clusters whose endpoints are asked for streams of load reports.
    LoadReports,
}

impl Group {
    pub(crate) fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// Whether a value counts up or goes up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// Only counts up.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// What is printed of a value that several threads count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The sum.
    Sum,
    /// The sum, and every thread's own value under `<scope><thread>.<name>`.
    SumAndThreads,
    /// Only every thread's own value.
    Threads,
}

/// One row of a table.
#[derive(Clone, Copy, Debug)]
pub struct ValueDef {
    /// Envoy's name after the scope's prefix.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Counter or gauge.
    pub ty: ValueType,
    /// When it exists.
    pub group: Group,
    /// How threads are printed.
    pub spread: Spread,
}

/// One histogram row of a table.
#[derive(Clone, Copy, Debug)]
pub struct HistogramDef {
    /// Envoy's name after the scope's prefix.
    pub name: &'static str,
    /// What it records.
    pub help: &'static str,
    /// When it exists.
    pub group: Group,
}

/// Everything a kind of scope can count.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Counters and gauges, by position.
    pub values: &'static [ValueDef],
    /// Histograms, by position.
    pub histograms: &'static [HistogramDef],
}

/// Declares one table: a constant per row and the `TABLE` that holds names and help.
macro_rules! metrics {
    (
        values { $($name:ident = $ty:ident $text:literal $(in $group:ident)? $(per $spread:ident)?, $help:literal;)* }
        histograms { $($hname:ident = $htext:literal $(in $hgroup:ident)?, $hhelp:literal;)* }
    ) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "numbers the constants")]
        #[repr(u16)]
        enum ValueAt { $($name,)* Count }
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "numbers the constants")]
        #[repr(u16)]
        enum HistogramAt { $($hname,)* Count }
        $(
            #[doc = concat!("`", $text, "`: ", $help)]
            pub const $name: metrics!(@type $ty) = metrics!(@make $ty, ValueAt::$name);
        )*
        $(
            #[doc = concat!("`", $htext, "`: ", $hhelp)]
            pub const $hname: $crate::stats::Histogram = $crate::stats::Histogram(HistogramAt::$hname as u16);
        )*
        static VALUES: [$crate::stats::metric::ValueDef; ValueAt::Count as usize] = [$(
            $crate::stats::metric::ValueDef {
                name: $text,
                help: $help,
                ty: metrics!(@kind $ty),
                group: metrics!(@group $($group)?),
                spread: metrics!(@spread $($spread)?),
            },
        )*];
        static HISTOGRAMS: [$crate::stats::metric::HistogramDef; HistogramAt::Count as usize] = [$(
            $crate::stats::metric::HistogramDef {
                name: $htext,
                help: $hhelp,
                group: metrics!(@group $($hgroup)?),
            },
        )*];
        /// The rows of this kind of scope.
        pub static TABLE: $crate::stats::metric::Table =
            $crate::stats::metric::Table { values: &VALUES, histograms: &HISTOGRAMS };
    };
    (@type counter) => { $crate::stats::Counter };
    (@type gauge) => { $crate::stats::Gauge };
    (@make counter, $at:expr) => { $crate::stats::Counter($at as u16) };
    (@make gauge, $at:expr) => { $crate::stats::Gauge($at as u16) };
    (@kind counter) => { $crate::stats::metric::ValueType::Counter };
    (@kind gauge) => { $crate::stats::metric::ValueType::Gauge };
    (@group) => { $crate::stats::Group::Always };
    (@group $group:ident) => { $crate::stats::Group::$group };
    (@spread) => { $crate::stats::metric::Spread::Sum };
    (@spread $spread:ident) => { $crate::stats::metric::Spread::$spread };
}
pub(crate) use metrics;
