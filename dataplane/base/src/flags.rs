//! Response flags as Envoy logs them (`%RESPONSE_FLAGS%`, `%RESPONSE_FLAGS_LONG%`).

use std::fmt;

macro_rules! flags {
    ($($variant:ident = $bit:literal, $short:literal, $long:literal;)*) => {
        /// One reason why a response was not an ordinary one. The discriminant is Envoy's bit number
        /// (`envoy.data.accesslog.v3.ResponseFlags` order in `stream_info.h`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum ResponseFlag { $($variant = $bit,)* }

        impl ResponseFlag {
            /// Every flag, in Envoy's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The short form, e.g. `UF`.
            pub fn short(self) -> &'static str {
                match self { $(Self::$variant => $short,)* }
            }

            /// The long form, e.g. `UpstreamConnectionFailure`.
            pub fn long(self) -> &'static str {
                match self { $(Self::$variant => $long,)* }
            }
        }
    };
}

flags! {
    FailedLocalHealthCheck = 0, "LH", "FailedLocalHealthCheck";
    NoHealthyUpstream = 1, "UH", "NoHealthyUpstream";
    UpstreamRequestTimeout = 2, "UT", "UpstreamRequestTimeout";
    LocalReset = 3, "LR", "LocalReset";
    UpstreamRemoteReset = 4, "UR", "UpstreamRemoteReset";
    UpstreamConnectionFailure = 5, "UF", "UpstreamConnectionFailure";
    UpstreamConnectionTermination = 6, "UC", "UpstreamConnectionTermination";
    UpstreamOverflow = 7, "UO", "UpstreamOverflow";
    NoRouteFound = 8, "NR", "NoRouteFound";
    DelayInjected = 9, "DI", "DelayInjected";
    FaultInjected = 10, "FI", "FaultInjected";
    RateLimited = 11, "RL", "RateLimited";
    UnauthorizedExternalService = 12, "UAEX", "UnauthorizedExternalService";
    RateLimitServiceError = 13, "RLSE", "RateLimitServiceError";
    DownstreamConnectionTermination = 14, "DC", "DownstreamConnectionTermination";
    UpstreamRetryLimitExceeded = 15, "URX", "UpstreamRetryLimitExceeded";
    StreamIdleTimeout = 16, "SI", "StreamIdleTimeout";
    InvalidEnvoyRequestHeaders = 17, "IH", "InvalidEnvoyRequestHeaders";
    DownstreamProtocolError = 18, "DPE", "DownstreamProtocolError";
    UpstreamMaxStreamDurationReached = 19, "UMSDR", "UpstreamMaxStreamDurationReached";
    ResponseFromCacheFilter = 20, "RFCF", "ResponseFromCacheFilter";
    NoFilterConfigFound = 21, "NFCF", "NoFilterConfigFound";
    DurationTimeout = 22, "DT", "DurationTimeout";
    UpstreamProtocolError = 23, "UPE", "UpstreamProtocolError";
    NoClusterFound = 24, "NC", "NoClusterFound";
    OverloadManagerTerminated = 25, "OM", "OverloadManagerTerminated";
    DnsResolutionFailed = 26, "DF", "DnsResolutionFailed";
    DropOverload = 27, "DO", "DropOverload";
    DownstreamRemoteReset = 28, "DR", "DownstreamRemoteReset";
    UnconditionalDropOverload = 29, "UDO", "UnconditionalDropOverload";
}

/// A set of [`ResponseFlag`]s that remembers the order in which they were set, as Envoy's log lines do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags {
    set: u32,
    /// Five bits a flag, the first one lowest; as many as `set` has.
    order: u64,
}

/// Flags whose order fits [`ResponseFlags::order`]; no stream collects more.
const ORDERED_MAX: u32 = u64::BITS / 5;

impl ResponseFlags {
    /// Adds one flag.
    pub fn set(&mut self, flag: ResponseFlag) {
        let count = self.set.count_ones();
        if !self.contains(flag) && count < ORDERED_MAX {
            self.order |= (flag as u64) << (5 * count);
            self.set |= 1 << flag as u8;
        }
    }

    /// True when the flag is in the set.
    pub fn contains(self, flag: ResponseFlag) -> bool {
        self.set & (1 << flag as u8) != 0
    }

    /// True when no flag is set.
    pub fn is_empty(self) -> bool {
        self.set == 0
    }

    /// The flags in the order in which they were set.
    pub fn iter(self) -> impl Iterator<Item = ResponseFlag> {
        let numbers = (0..self.set.count_ones()).map(move |i| (self.order >> (5 * i) & 31) as usize);
        numbers.filter_map(|number| ResponseFlag::ALL.get(number).copied())
    }
}

impl fmt::Display for ResponseFlags {
    /// Short forms joined by commas, `-` for none, as `%RESPONSE_FLAGS%` prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (i, flag) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(flag.short())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_as_envoy_prints_them() {
        let mut flags = ResponseFlags::default();
        assert_eq!(flags.to_string(), "-");
        flags.set(ResponseFlag::UpstreamRetryLimitExceeded);
        flags.set(ResponseFlag::UpstreamConnectionFailure);
        flags.set(ResponseFlag::UpstreamRetryLimitExceeded);
        assert_eq!(flags.to_string(), "URX,UF");
        assert!(flags.contains(ResponseFlag::UpstreamConnectionFailure));
        assert!(!flags.contains(ResponseFlag::NoRouteFound));
    }
}
