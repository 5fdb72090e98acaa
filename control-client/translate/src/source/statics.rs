//! What a source of configuration may refer to: the clusters and secrets of the bootstrap, as written.

use std::collections::BTreeMap;

use millrace_proto::Path;
use millrace_proto::pb::envoy::config::bootstrap::v3::Bootstrap;
use millrace_proto::pb::envoy::config::cluster::v3::Cluster;
use millrace_proto::pb::envoy::config::core::v3::api_config_source::ApiType;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};

use crate::error::Rejection;
use crate::secrets::SecretKind;

/// By name, with their place in the bootstrap.
#[derive(Debug, Default)]
pub(crate) struct StaticResources {
    /// Static clusters.
    pub clusters: BTreeMap<String, (usize, Cluster)>,
    secrets: BTreeMap<(String, Kind), (usize, Secret)>,
    /// `dynamic_resources.ads_config` is there.
    pub has_ads: bool,
    /// It speaks the incremental variant.
    pub ads_is_delta: bool,
}

/// Secrets of different kinds may share a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Certificate,
    Validation,
    TicketKeys,
    Other,
}

impl From<SecretKind> for Kind {
    fn from(kind: SecretKind) -> Self {
        match kind {
            SecretKind::Certificate => Self::Certificate,
            SecretKind::Validation => Self::Validation,
            SecretKind::TicketKeys => Self::TicketKeys,
        }
    }
}

impl StaticResources {
    /// Those of a bootstrap.
    ///
    /// # Errors
    /// A secret without a type, or a second one of the same type and name.
    pub fn of(bootstrap: &Bootstrap) -> Result<Self, Rejection> {
        let mut out = Self::default();
        let dynamic = bootstrap.dynamic_resources.as_ref();
        let ads = dynamic.and_then(|dynamic| dynamic.ads_config.as_ref());
        out.has_ads = ads.is_some();
        out.ads_is_delta = ads.is_some_and(|ads| ads.api_type() == ApiType::DeltaGrpc);
        let Some(resources) = &bootstrap.static_resources else {
            return Ok(out);
        };
        for (i, cluster) in resources.clusters.iter().enumerate() {
            out.clusters.entry(cluster.name.clone()).or_insert((i, cluster.clone()));
        }
        for (i, secret) in resources.secrets.iter().enumerate() {
            let path = secret_path(i);
            let kind = match &secret.r#type {
                Some(secret::Type::TlsCertificate(_)) => Kind::Certificate,
                Some(secret::Type::ValidationContext(_)) => Kind::Validation,
                Some(secret::Type::SessionTicketKeys(_)) => Kind::TicketKeys,
                Some(secret::Type::GenericSecret(_)) => Kind::Other,
                None => return Err(Rejection::new(&path, "Secret type not implemented")),
            };
            if kind != Kind::Other
                && out.secrets.insert((secret.name.clone(), kind), (i, secret.clone())).is_some()
            {
                let what = match kind {
                    Kind::Certificate => "TlsCertificate",
                    Kind::TicketKeys => "TlsSessionTicketKeys",
                    Kind::Validation | Kind::Other => "CertificateValidationContext",
                };
                let why = format!("Duplicate static {what} secret name {}", secret.name);
                return Err(Rejection::new(&path.join("name"), why));
            }
        }
        Ok(out)
    }

    /// A secret and where it stands.
    pub fn secret(&self, name: &str, kind: Kind) -> Option<(Path, &Secret)> {
        self.secrets.get(&(name.to_owned(), kind)).map(|(i, secret)| (secret_path(*i), secret))
    }

    /// A cluster and where it stands.
    pub fn cluster(&self, name: &str) -> Option<(Path, &Cluster)> {
        self.clusters.get(name).map(|(i, cluster)| (cluster_path(*i), cluster))
    }
}

pub(crate) fn cluster_path(i: usize) -> Path {
    Path::from("static_resources").join("clusters").at(i)
}

fn secret_path(i: usize) -> Path {
    Path::from("static_resources").join("secrets").at(i)
}
