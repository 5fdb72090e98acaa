//! Severities and the loggers (components) that have one each.

/// Severity, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Critical,
    /// Nothing is logged.
    Off,
}

impl Level {
    const ALL: [Self; 7] =
        [Self::Trace, Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical, Self::Off];

    /// Lower case only; `warn` is another name of `warning`.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "warn" {
            return Some(Self::Warning);
        }
        Self::ALL.into_iter().find(|level| level.name() == name)
    }

    /// `trace` ... `off`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Off => "off",
        }
    }

    /// The letter of the verb `%L`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Trace => "T",
            Self::Debug => "D",
            Self::Info => "I",
            Self::Warning => "W",
            Self::Error => "E",
            Self::Critical => "C",
            Self::Off => "O",
        }
    }

    pub(super) fn from_byte(byte: u8) -> Self {
        Self::ALL.get(usize::from(byte)).copied().unwrap_or(Self::Off)
    }
}

/// The logger names of Envoy 1.40 in the order `/logging` prints them: whatever a mesh passes to
/// `--component-log-level` exists.
pub(super) const NAMES: [&str; 73] = [
    "a2a",
    "admin",
    "ai_protocol_manager",
    "alternate_protocols_cache",
    "aws",
    "assert",
    "backtrace",
    "basic_auth",
    "cache_filter",
    "client",
    "config",
    "connection",
    "conn_handler",
    "compression",
    "credential_injector",
    "decompression",
    "dns",
    "dubbo",
    "envoy_bug",
    "ext_authz",
    "ext_proc",
    "rocketmq",
    "file",
    "filter",
    "forward_proxy",
    "geolocation",
    "grpc",
    "happy_eyeballs",
    "hc",
    "health_checker",
    "http",
    "http2",
    "hystrix",
    "init",
    "io",
    "jwt",
    "json_rpc",
    "kafka",
    "key_value_store",
    "lua",
    "local_rate_limit",
    "main",
    "matcher",
    "mcp",
    "misc",
    "mongo",
    "multi_connection",
    "notification",
    "oauth2",
    "quic",
    "quic_stream",
    "pool",
    "rate_limit_quota",
    "rbac",
    "rds",
    "redis",
    "router",
    "runtime",
    "stats",
    "secret",
    "sse",
    "tap",
    "testing",
    "thrift",
    "tracing",
    "upstream",
    "udp",
    "wasm",
    "websocket",
    "golang",
    "stats_sinks",
    "dynamic_modules",
    "ip_tagging",
];

/// The canonical name of a component, if it exists.
pub fn component(name: &str) -> Option<&'static str> {
    Component::from_name(name).map(Component::name)
}

/// One logger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component(usize);

impl Component {
    /// The admin interface.
    pub const ADMIN: Self = Self(1);
    /// Loading of configuration.
    pub const CONFIG: Self = Self(10);
    /// Connections.
    pub const CONNECTION: Self = Self(11);
    /// Name resolution.
    pub const DNS: Self = Self(16);
    /// The io back ends.
    pub const IO: Self = Self(34);
    /// The process itself.
    pub const MAIN: Self = Self(41);
    /// Clusters.
    pub const UPSTREAM: Self = Self(65);

    /// Looks a component up.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES.get(self.0).copied().unwrap_or("misc")
    }

    pub(super) fn index(self) -> usize {
        self.0
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..NAMES.len()).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_constants_agree() {
        for (component, name) in [
            (Component::ADMIN, "admin"),
            (Component::CONFIG, "config"),
            (Component::CONNECTION, "connection"),
            (Component::DNS, "dns"),
            (Component::IO, "io"),
            (Component::MAIN, "main"),
            (Component::UPSTREAM, "upstream"),
        ] {
            assert_eq!(Component::from_name(name), Some(component));
            assert_eq!(component.name(), name);
        }
        assert_eq!(component("nope"), None);
        assert_eq!(Component::all().count(), NAMES.len());
    }

    #[test]
    fn levels_have_names_in_lower_case() {
        assert_eq!(Level::from_name("warn"), Some(Level::Warning));
        assert_eq!(Level::from_name("WARN"), None);
        for level in Level::ALL {
            assert_eq!(Level::from_name(level.name()), Some(level));
            assert_eq!(Level::from_byte(level as u8), level);
        }
    }
}
