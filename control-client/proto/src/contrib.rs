//! Messages of Envoy's contrib extensions, which the `envoy-types` package lacks (`proto/contrib` has their descriptors).

use crate::pb::google::protobuf::{DoubleValue, Duration, UInt32Value};

/// `envoy.extensions.load_balancing_policies.peak_ewma.v3alpha.PeakEwma`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PeakEwma {
    /// Within it an estimate loses all but 1/e of its weight.
    #[prost(message, optional, tag = "1")]
    pub decay_time: Option<Duration>,
    /// How often the threads of Envoy exchange what they measured.
    #[prost(message, optional, tag = "2")]
    pub aggregation_interval: Option<Duration>,
    /// How many times they keep in between.
    #[prost(message, optional, tag = "3")]
    pub max_samples_per_host: Option<UInt32Value>,
    /// The time of endpoints that nothing is known of.
    #[prost(message, optional, tag = "4")]
    pub default_rtt: Option<Duration>,
    /// Milliseconds that an endpoint counts with while it has requests and has answered none.
    #[prost(message, optional, tag = "5")]
    pub penalty_value: Option<DoubleValue>,
}
