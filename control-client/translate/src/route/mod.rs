//! Route configurations: `config.route.v3`.

mod action;
mod direct_response;
mod matching;
mod policies;
mod redirect;
mod retry;
mod scope;
mod table;
mod virtual_host;
mod weighted;

use std::borrow::Cow;
use std::sync::Arc;

use millrace_config::{Route, RouteAction, RouteConfiguration};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3 as pb;

use crate::context::Context;
use crate::error::Rejection;
use crate::{headers, metadata, per_filter, value};

pub(crate) use policies::mirrors;
pub(crate) use redirect::redirect;
pub(crate) use retry::policy as retry_policy;
pub(crate) use scope::{scope, scope_key};
pub use table::RouteTable;

/// What routes inherit or are checked against.
#[derive(Clone, Debug)]
pub(crate) struct Scope<'a> {
    /// Unknown clusters are errors (`validate_clusters`, true for inline tables).
    pub validate_clusters: bool,
    /// `max_direct_response_body_size_bytes`.
    pub body_bytes_max: usize,
    /// The virtual host's `name`.
    pub virtual_host: &'a str,
    /// The virtual host's `retry_policy`.
    pub retry_policy: Option<Arc<millrace_config::RetryPolicy>>,
    /// `request_mirror_policies` of the levels above.
    pub mirrors: Arc<[millrace_config::MirrorPolicy]>,
    /// The virtual host's `hedge_policy`.
    pub hedges: bool,
    /// The virtual host's limit for what is kept of a body.
    pub body_buffer_limit: Option<millrace_config::BodyBufferLimit>,
}

impl Scope<'_> {
    fn of(config: &pb::RouteConfiguration, inline: bool) -> Self {
        Self {
            validate_clusters: value::flag(config.validate_clusters.as_ref(), inline),
            body_bytes_max: value::number(config.max_direct_response_body_size_bytes.as_ref(), 4096) as usize,
            virtual_host: "",
            retry_policy: None,
            mirrors: Arc::default(),
            hedges: false,
            body_buffer_limit: None,
        }
    }
}

/// What all virtual hosts of a table inherit.
fn scope_of_table(
    config: &pb::RouteConfiguration,
    inline: bool,
    path: &Path,
    cx: &mut Context,
) -> Result<Scope<'static>, Rejection> {
    let mut scope = Scope::of(config, inline);
    let policies = &config.request_mirror_policies;
    scope.mirrors = policies::mirrors(policies, &scope.mirrors, scope.validate_clusters, path, cx)?;
    Ok(scope)
}

/// A route table. `inline` tables refuse unknown clusters unless they say otherwise.
pub(crate) fn route_configuration(
    config: &pb::RouteConfiguration,
    inline: bool,
    path: &Path,
    cx: &mut Context,
) -> Result<RouteConfiguration, Rejection> {
    let hosts = config.virtual_hosts.iter().map(|host| Ok(Cow::Borrowed(host)));
    routes_with(config, hosts, inline, path, cx)
}

/// As [`route_configuration`], with `hosts` as the virtual hosts.
pub(crate) fn routes_with<'a>(
    config: &pb::RouteConfiguration,
    hosts: impl ExactSizeIterator<Item = Result<Cow<'a, pb::VirtualHost>, Rejection>>,
    inline: bool,
    path: &Path,
    cx: &mut Context,
) -> Result<RouteConfiguration, Rejection> {
    let scope = scope_of_table(config, inline, path, cx)?;
    if inline && config.vhds.is_some() {
        return Err(Rejection::not_served(
            &path.join("vhds"),
            "virtual hosts come on their own for tables of RDS only",
        ));
    }
    let hosts_path = path.join("virtual_hosts");
    let mut virtual_hosts = Vec::with_capacity(hosts.len());
    for (i, host) in hosts.enumerate() {
        virtual_hosts.push(Arc::new(virtual_host::virtual_host(&*host?, &scope, &hosts_path.at(i), cx)?));
    }
    let mut table = RouteConfiguration::default();
    table.name = config.name.as_str().into();
    table.virtual_hosts = virtual_hosts;
    let (add, remove) = (&config.request_headers_to_add, &config.request_headers_to_remove);
    table.request_headers = headers::mutations(add, remove, "request", path)?;
    let (add, remove) = (&config.response_headers_to_add, &config.response_headers_to_remove);
    table.response_headers = headers::mutations(add, remove, "response", path)?;
    table.internal_only_headers =
        config.internal_only_headers.iter().map(|name| value::lower_bytes(name)).collect();
    table.most_specific_mutations_win = config.most_specific_header_mutations_wins;
    table.ignore_port_in_host = config.ignore_port_in_host_matching;
    table.per_filter = per_filter::configs(&config.typed_per_filter_config, path, cx)?;
    table.compile().map_err(|domain| Rejection::new(&hosts_path, duplicate(&domain, &config.name)))
}

/// Two virtual hosts have a domain in common.
fn duplicate(domain: &str, table: &str) -> String {
    match domain {
        "*" => format!("Only a single wildcard domain is permitted in route {table}"),
        domain => format!(
            "Only unique values for domains are permitted. Duplicate entry of domain {domain} in route {table}"
        ),
    }
}

fn body_buffer_limit(
    route: &pb::Route,
    path: &Path,
) -> Result<Option<millrace_config::BodyBufferLimit>, Rejection> {
    let at_most = route.per_request_buffer_limit_bytes.as_ref();
    policies::body_buffer_limit(at_most, route.request_body_buffer_limit.as_ref(), path)
}

fn route(route: &pb::Route, scope: &Scope<'_>, path: &Path, cx: &mut Context) -> Result<Route, Rejection> {
    use pb::route::Action;
    let Some(by) = &route.r#match else {
        return Err(Rejection::new(&path.join("match"), "value is required"));
    };
    let action = match &route.action {
        Some(Action::Route(forward)) => {
            let mut forward = action::forward(forward, scope, &path.join("route"), cx)?;
            forward.body_buffer_limit = body_buffer_limit(route, path)?.or(scope.body_buffer_limit);
            RouteAction::Forward(Box::new(forward))
        }
        Some(Action::Redirect(to)) => {
            RouteAction::Redirect(Box::new(redirect::redirect(to, &path.join("redirect"))?))
        }
        Some(Action::DirectResponse(response)) => {
            let path = path.join("direct_response");
            RouteAction::DirectResponse(Box::new(direct_response::direct_response(
                response, scope, &path, cx,
            )?))
        }
        Some(Action::FilterAction(_) | Action::NonForwardingAction(_)) => {
            return Err(Rejection::not_served(
                path,
                "routes without a forwarding, redirecting or direct action are not served by this build",
            ));
        }
        None => return Err(Rejection::new(&path.join("action"), "is required")),
    };
    let stat_scope = (!route.stat_prefix.is_empty())
        .then(|| cx.scope(ScopeKind::Route, &format!("{}.route.{}", scope.virtual_host, route.stat_prefix)));
    Ok(Route {
        name: value::text(&route.name),
        matcher: matching::route_match(by, &path.join("match"), cx)?,
        action,
        request_headers: headers::mutations(
            &route.request_headers_to_add,
            &route.request_headers_to_remove,
            "request",
            path,
        )?,
        response_headers: headers::mutations(
            &route.response_headers_to_add,
            &route.response_headers_to_remove,
            "response",
            path,
        )?,
        per_filter: per_filter::configs(&route.typed_per_filter_config, path, cx)?,
        metadata: metadata::configured(route.metadata.as_ref()),
        stat_scope,
    })
}

#[cfg(test)]
mod tests;
