//! Envoy v3 bootstraps as YAML text, put together from small templates. Every port is 0: the
//! subject's admin endpoint tells which ports the kernel gave.
//!
//! `@DIR@` in any text is replaced by the subject's own directory when it starts.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// One line per request or connection, as `key=value` pairs joined by tabs; see
/// [`crate::access_log::Line`].
const LOG_FORMAT: &str = "code=%RESPONSE_CODE%\\tflags=%RESPONSE_FLAGS%\\tdetails=%RESPONSE_CODE_DETAILS%\
\\tmethod=%REQ(:METHOD)%\\tpath=%REQ(:PATH)%\\tprotocol=%PROTOCOL%\\trx=%BYTES_RECEIVED%\\ttx=%BYTES_SENT%\
\\tattempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT%\\tcluster=%UPSTREAM_CLUSTER%\\thost=%UPSTREAM_HOST%\
\\troute=%ROUTE_NAME%\\tid=%REQ(X-CASE)%\\tterm=%CONNECTION_TERMINATION_DETAILS%\
\\tduration=%DURATION%\\tfail=%UPSTREAM_TRANSPORT_FAILURE_REASON%";

/// Moves every line of `text` right by `by` spaces.
fn indent(text: &str, by: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if line.trim().is_empty() {
            out.push('\n');
        } else {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{:by$}{line}", "");
        }
    }
    out
}

fn type_url(name: &str) -> String {
    format!("\"@type\": type.googleapis.com/{name}")
}

fn access_log(more: &str) -> String {
    let kind = type_url("envoy.extensions.access_loggers.file.v3.FileAccessLog");
    format!(
        "access_log:\n- name: envoy.access_loggers.file\n  typed_config:\n    {kind}\n    path: \"@DIR@/access.log\"\n    \
         log_format: {{text_format_source: {{inline_string: \"{LOG_FORMAT}{more}\\n\"}}}}\n"
    )
}

/// An HTTP listener with an inline route table, the router filter, and an access log.
#[derive(Clone, Debug)]
pub struct Http {
    name: String,
    hcm: String,
    virtual_hosts: Option<String>,
    routes: String,
    route_config: String,
    listener: String,
    chain: String,
    rds: Option<String>,
    log: bool,
    log_more: String,
}

impl Http {
    /// Forwards every path to one cluster.
    pub fn to(cluster: &str) -> Self {
        Self::routes(&format!("- match: {{prefix: \"/\"}}\n  route: {{cluster: {cluster}}}\n"))
    }

    /// These routes under the domain `*`.
    pub fn routes(routes: &str) -> Self {
        Self {
            name: "main".into(),
            hcm: String::new(),
            virtual_hosts: None,
            routes: routes.into(),
            route_config: String::new(),
            listener: String::new(),
            chain: String::new(),
            rds: None,
            log: true,
            log_more: String::new(),
        }
    }

    /// These virtual hosts.
    pub fn virtual_hosts(hosts: &str) -> Self {
        Self { virtual_hosts: Some(hosts.into()), ..Self::routes("") }
    }

    /// The route table of this name from RDS; `source` is a `ConfigSource` as flow YAML.
    pub fn rds(name: &str, source: &str) -> Self {
        let rds = format!("rds: {{route_config_name: {name}, config_source: {source}}}\n");
        Self { rds: Some(rds), ..Self::routes("") }
    }

    /// These `scoped_routes`, as flow YAML.
    pub fn scoped(yaml: &str) -> Self {
        Self { rds: Some(format!("scoped_routes: {yaml}\n")), ..Self::routes("") }
    }

    /// Another name than `main`.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// More fields of the HTTP connection manager.
    #[must_use]
    pub fn hcm(mut self, yaml: &str) -> Self {
        self.hcm.push_str(yaml.trim_end());
        self.hcm.push('\n');
        self
    }

    /// More fields of the route configuration.
    #[must_use]
    pub fn route_config(mut self, yaml: &str) -> Self {
        self.route_config = yaml.into();
        self
    }

    /// More fields of the listener.
    #[must_use]
    pub fn listener(mut self, yaml: &str) -> Self {
        self.listener = yaml.into();
        self
    }

    /// More fields of the filter chain.
    #[must_use]
    pub fn chain(mut self, yaml: &str) -> Self {
        self.chain.push_str(yaml);
        self
    }

    /// One more pair in every line of the access log: a key and a format.
    #[must_use]
    pub fn logs(mut self, key: &str, format: &str) -> Self {
        self.log_more.push_str(&format!("\\t{key}={format}"));
        self
    }

    /// No access log.
    #[must_use]
    pub fn without_log(mut self) -> Self {
        self.log = false;
        self
    }

    /// The listener as a YAML list with one item.
    pub fn yaml(&self) -> String {
        listener(&self.name, &self.listener, &self.filter_chain())
    }

    /// The filter chain as a YAML list with one item.
    pub fn filter_chain(&self) -> String {
        filter_chain(&self.chain, &self.filter())
    }

    fn filter(&self) -> String {
        let hosts = self.virtual_hosts.clone().unwrap_or_else(|| {
            format!("- name: all\n  domains: [\"*\"]\n  routes:\n{}", indent(&self.routes, 2))
        });
        let router = type_url("envoy.extensions.filters.http.router.v3.Router");
        let manager =
            type_url("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager");
        let mut config = format!("{manager}\nstat_prefix: {}\n{}", self.name, self.hcm);
        if self.log {
            config.push_str(&access_log(&self.log_more));
        }
        if !self.hcm.contains("http_filters:") {
            config.push_str(&format!(
                "http_filters:\n- name: envoy.filters.http.router\n  typed_config: {{{router}}}\n"
            ));
        }
        if let Some(rds) = &self.rds {
            config.push_str(rds);
        } else {
            config.push_str(&format!("route_config:\n  name: routes\n{}", indent(&self.route_config, 2)));
            config.push_str(&format!("  virtual_hosts:\n{}", indent(&hosts, 2)));
        }
        format!(
            "- name: envoy.filters.network.http_connection_manager\n  typed_config:\n{}",
            indent(&config, 4)
        )
    }
}

/// A TCP proxy as a filter chain, a YAML list with one item; `fields` must say where to, `chain` are more fields of the
/// chain, and `log_more` more pairs of the access log (`\\tkey=%OPERATOR%`).
pub fn tcp_chain(name: &str, fields: &str, chain: &str, log_more: &str) -> String {
    let kind = type_url("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy");
    let config = format!("{kind}\nstat_prefix: {name}\n{}\n{}", fields.trim_end(), access_log(log_more));
    let filter = format!("- name: envoy.filters.network.tcp_proxy\n  typed_config:\n{}", indent(&config, 4));
    filter_chain(chain, &filter)
}

/// A listener with these filter chains, a YAML list with one item; `extra` are more of its fields.
pub fn listener(name: &str, extra: &str, chains: &str) -> String {
    let address = "address: {socket_address: {address: 127.0.0.1, port_value: 0}}";
    format!("- name: {name}\n  {address}\n{}  filter_chains:\n{}", indent(extra, 2), indent(chains, 2))
}

fn filter_chain(extra: &str, filters: &str) -> String {
    format!("- filters:\n{}{}", indent(filters, 2), indent(extra, 2))
}

/// A bootstrap under construction.
#[derive(Clone, Debug, Default)]
pub struct Bootstrap {
    listeners: String,
    clusters: String,
    extra: String,
}

impl Bootstrap {
    /// Nothing but the admin endpoint.
    pub fn new() -> Self {
        Self::default()
    }

    /// One HTTP listener `main` that forwards everything to the cluster `up` with this endpoint.
    pub fn forward(endpoint: SocketAddr) -> Self {
        Self::new().http(Http::to("up")).cluster("up", &[endpoint], "")
    }

    /// Adds an HTTP listener.
    #[must_use]
    pub fn http(mut self, http: Http) -> Self {
        self.listeners.push_str(&http.yaml());
        self
    }

    /// Adds a TCP proxy listener; `fields` are more fields of the filter, and must say where to.
    #[must_use]
    pub fn tcp(mut self, name: &str, fields: &str) -> Self {
        self.listeners.push_str(&listener(name, "", &tcp_chain(name, fields, "", "")));
        self
    }

    /// Adds a listener given whole.
    #[must_use]
    pub fn listener(mut self, yaml: &str) -> Self {
        self.listeners.push_str(yaml.trim_end());
        self.listeners.push('\n');
        self
    }

    /// Adds a STATIC cluster, unless `fields` name another type.
    #[must_use]
    pub fn cluster(mut self, name: &str, endpoints: &[SocketAddr], fields: &str) -> Self {
        let kind = if fields.contains("type:") { "" } else { "  type: STATIC\n" };
        let mut list = String::new();
        for endpoint in endpoints {
            let (ip, port) = (endpoint.ip(), endpoint.port());
            list.push_str(&format!(
                "    - endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}\n"
            ));
        }
        self.clusters.push_str(&format!("- name: {name}\n{kind}{}", indent(fields, 2)));
        if !list.is_empty() {
            self.clusters.push_str(&format!(
                "  load_assignment:\n    cluster_name: {name}\n    endpoints:\n    - lb_endpoints:\n"
            ));
            self.clusters.push_str(&indent(&list, 2));
        }
        self
    }

    /// Adds top-level fields.
    #[must_use]
    pub fn top(mut self, yaml: &str) -> Self {
        self.extra.push_str(yaml.trim_end());
        self.extra.push('\n');
        self
    }

    /// The whole document.
    pub fn yaml(&self) -> String {
        let mut out = String::new();
        if !self.extra.contains("admin:") {
            out.push_str("admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n");
        }
        out.push_str(&self.extra);
        out.push_str("static_resources:\n");
        for (key, list) in [("listeners", &self.listeners), ("clusters", &self.clusters)] {
            if !list.is_empty() {
                out.push_str(&format!("  {key}:\n{}", indent(list, 2)));
            }
        }
        out
    }
}
