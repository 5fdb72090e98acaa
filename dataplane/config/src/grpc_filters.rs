//! The HTTP filters for gRPC: what is configured of them.

use std::sync::Arc;

/// Which methods `grpc_stats` counts under names of their own. All others are counted for the cluster alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcMethods {
    /// None: `stats_for_all_methods` false, the default.
    None,
    /// `stats_for_all_methods`: every service and method that a request names.
    All,
    /// `individual_method_stats_allowlist`: `(service, method)`, sorted.
    Listed(Vec<(Arc<str>, Arc<str>)>),
}

/// `extensions.filters.http.grpc_stats.v3.FilterConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcStats {
    /// `per_method_stat_specifier`.
    pub methods: GrpcMethods,
    /// `enable_upstream_stats`: the histogram `upstream_rq_time`.
    pub upstream_time: bool,
    /// `replace_dots_in_grpc_service_name`: `.` of a service becomes `_` in names of statistics. Only with
    /// [`GrpcMethods::All`].
    pub replace_dots: bool,
}

impl GrpcStats {
    /// Whether a method has names of its own.
    pub fn names(&self, service: &str, method: &str) -> bool {
        match &self.methods {
            GrpcMethods::None => false,
            GrpcMethods::All => true,
            GrpcMethods::Listed(list) => {
                list.binary_search_by(|(s, m)| (&**s, &**m).cmp(&(service, method))).is_ok()
            }
        }
    }
}

/// `extensions.filters.http.grpc_http1_bridge.v3.Config`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrpcHttp1Bridge {
    /// `upgrade_protobuf_to_grpc`: `application/x-protobuf` becomes a gRPC call of one message.
    pub upgrade_protobuf: bool,
    /// `ignore_query_parameters`: the query is cut off the path.
    pub ignore_query: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_methods_have_names_of_their_own() {
        let mut stats = GrpcStats {
            methods: GrpcMethods::Listed(vec![
                ("a.A".into(), "X".into()),
                ("a.A".into(), "Y".into()),
                ("b".into(), "X".into()),
            ]),
            upstream_time: false,
            replace_dots: false,
        };
        assert!(stats.names("a.A", "Y") && stats.names("b", "X"));
        assert!(!stats.names("b", "Y") && !stats.names("a", "X"));
        stats.methods = GrpcMethods::All;
        assert!(stats.names("any", "thing"));
        stats.methods = GrpcMethods::None;
        assert!(!stats.names("a.A", "X"));
    }
}
