//! How connections to endpoints are opened: from where, with which socket options, to which address first.

use std::net::SocketAddr;
use std::sync::Arc;

/// `core.v3.BindConfig`: where connections to endpoints come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindConfig {
    /// `source_address`, then that of `extra_source_addresses` or `additional_source_addresses`: the first of the
    /// endpoint's family is used, else the first.
    pub sources: Vec<BindSource>,
    /// `freebind`.
    pub freebind: bool,
    /// `socket_options` of connections that have no source address.
    pub socket_options: Vec<SocketOption>,
}

/// One source address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindSource {
    /// `address`; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// `socket_options`, its own or those of the configuration.
    pub socket_options: Vec<SocketOption>,
}

/// `core.v3.SocketOption` in the state `STATE_PREBIND`, for stream sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOption {
    /// `level`.
    pub level: i32,
    /// `name`.
    pub name: i32,
    /// `int_value` in the machine's order, or `buf_value`.
    pub value: Arc<[u8]>,
    /// `ip_version`: only sockets of this family; true is IPv6.
    pub ipv6: Option<bool>,
}

/// `UpstreamConnectionOptions.HappyEyeballsConfig`: the order in which the addresses of one endpoint are tried
/// (RFC 8305 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HappyEyeballs {
    /// `first_address_family_version`: true for IPv6; `None` for that of the first address.
    pub first_is_ipv6: Option<bool>,
    /// `first_address_family_count`, default 1, at least 1.
    pub first_count: u32,
}

impl Default for HappyEyeballs {
    fn default() -> Self {
        Self { first_is_ipv6: None, first_count: 1 }
    }
}

impl BindConfig {
    /// What a connection to an address of this family is bound to.
    pub fn source_for(&self, ipv6: bool) -> Option<&BindSource> {
        self.sources.iter().find(|source| source.address.is_ipv6() == ipv6).or(self.sources.first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_of_the_endpoints_family_if_there_is_one() {
        let source = |text: &str| BindSource { address: text.parse().unwrap(), socket_options: Vec::new() };
        let of = |config: &BindConfig, ipv6| config.source_for(ipv6).map(|source| source.address.to_string());
        let mut config = BindConfig::default();
        assert_eq!(of(&config, false), None);
        config.sources = vec![source("127.0.0.6:0"), source("[::6]:0")];
        assert_eq!(of(&config, false).as_deref(), Some("127.0.0.6:0"));
        assert_eq!(of(&config, true).as_deref(), Some("[::6]:0"));
        config.sources.pop();
        assert_eq!(of(&config, true).as_deref(), Some("127.0.0.6:0"));
    }
}
