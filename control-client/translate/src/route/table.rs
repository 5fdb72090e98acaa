//! A route table of RDS, to which virtual hosts may be added that come on their own (VHDS).

use std::borrow::Cow;
use std::sync::Arc;

use millrace_config::{RouteConfiguration, VirtualHost};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3 as pb;

use super::{Scope, duplicate, routes_with, scope_of_table, virtual_host};
use crate::context::Context;
use crate::error::Rejection;
use crate::source::{self, Subscription};

/// A route table that came on its own.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// The table with the virtual hosts that it holds itself.
    pub routes: RouteConfiguration,
    /// `vhds`: where more virtual hosts come from.
    pub vhds: Option<Subscription>,
    /// What it demands of every virtual host.
    scope: Scope<'static>,
}

impl RouteTable {
    /// `hosts` are the virtual hosts, which `config` need not hold.
    pub(crate) fn with<'a>(
        config: &pb::RouteConfiguration,
        hosts: impl ExactSizeIterator<Item = Result<Cow<'a, pb::VirtualHost>, Rejection>>,
        path: &Path,
        cx: &mut Context,
    ) -> Result<Self, Rejection> {
        let routes = routes_with(config, hosts, false, path, cx)?;
        let vhds = match &config.vhds {
            Some(vhds) => {
                let path = path.join("vhds").join("config_source");
                Some(source::delta_subscription(vhds.config_source.as_ref(), &path, cx)?)
            }
            None => None,
        };
        Ok(Self { routes, vhds, scope: scope_of_table(config, false, path, cx)? })
    }

    pub(crate) fn host(&self, host: &pb::VirtualHost, cx: &mut Context) -> Result<VirtualHost, Rejection> {
        virtual_host::virtual_host(host, &self.scope, &Path::default(), cx)
    }

    /// The table with these virtual hosts behind its own.
    ///
    /// # Errors
    /// Two of them have a domain in common.
    pub fn with_hosts<'h>(
        &self,
        hosts: impl IntoIterator<Item = &'h Arc<VirtualHost>>,
    ) -> Result<RouteConfiguration, String> {
        let mut routes = self.routes.clone();
        routes.virtual_hosts.extend(hosts.into_iter().cloned());
        routes.compile().map_err(|domain| self.duplicate(&domain))
    }

    /// Why a domain that two virtual hosts have is refused.
    pub fn duplicate(&self, domain: &str) -> String {
        duplicate(domain, &self.routes.name)
    }
}
