//! `DownstreamTlsContext` and `UpstreamTlsContext` as flow YAML, from a few parts.

use super::{Authority, Identity};

/// A context under construction; fields are flow YAML without braces (`alpn_protocols: [h2]`).
#[derive(Clone, Debug, Default)]
pub struct Context {
    certificates: Vec<String>,
    validation: Vec<String>,
    common: Vec<String>,
    fields: Vec<String>,
}

/// A `DataSource` with this text in a double-quoted scalar.
pub fn inline(text: &str) -> String {
    format!("{{inline_string: \"{}\"}}", text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\""))
}

/// A `TlsCertificate`.
pub fn certificate(identity: &Identity) -> String {
    format!("{{certificate_chain: {}, private_key: {}}}", inline(&identity.pem()), inline(identity.key_pem()))
}

impl Context {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows this certificate.
    #[must_use]
    pub fn certificate(mut self, identity: &Identity) -> Self {
        self.certificates.push(certificate(identity));
        self
    }

    /// Believes this authority.
    #[must_use]
    pub fn trusts(self, authority: &Authority) -> Self {
        self.trusts_pem(authority.pem())
    }

    /// Believes the authorities of this bundle.
    #[must_use]
    pub fn trusts_pem(self, pem: &str) -> Self {
        self.validation(&format!("trusted_ca: {}", inline(pem)))
    }

    /// More fields of `validation_context`.
    #[must_use]
    pub fn validation(mut self, fields: &str) -> Self {
        self.validation.push(fields.into());
        self
    }

    /// More fields of `common_tls_context`.
    #[must_use]
    pub fn common(mut self, fields: &str) -> Self {
        self.common.push(fields.into());
        self
    }

    /// More fields of the context itself.
    #[must_use]
    pub fn field(mut self, fields: &str) -> Self {
        self.fields.push(fields.into());
        self
    }

    /// `alpn_protocols`.
    #[must_use]
    pub fn alpn(self, protocols: &[&str]) -> Self {
        let list: Vec<String> = protocols.iter().map(|p| format!("\"{p}\"")).collect();
        self.common(&format!("alpn_protocols: [{}]", list.join(", ")))
    }

    /// `require_client_certificate`.
    #[must_use]
    pub fn required(self) -> Self {
        self.field("require_client_certificate: true")
    }

    /// `transport_socket` with a `DownstreamTlsContext`, one line of block YAML.
    pub fn downstream(&self) -> String {
        format!("transport_socket: {}\n", self.socket("DownstreamTlsContext"))
    }

    /// `transport_socket` with an `UpstreamTlsContext`, one line of block YAML.
    pub fn upstream(&self) -> String {
        format!("transport_socket: {}\n", self.socket("UpstreamTlsContext"))
    }

    /// The `TransportSocket` alone, with this kind of context.
    pub fn socket(&self, kind: &str) -> String {
        let mut common = self.common.clone();
        if !self.certificates.is_empty() {
            common.push(format!("tls_certificates: [{}]", self.certificates.join(", ")));
        }
        if !self.validation.is_empty() {
            common.push(format!("validation_context: {{{}}}", self.validation.join(", ")));
        }
        let mut fields =
            vec![format!("\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}")];
        fields.extend(self.fields.iter().cloned());
        fields.push(format!("common_tls_context: {{{}}}", common.join(", ")));
        format!("{{name: envoy.transport_sockets.tls, typed_config: {{{}}}}}", fields.join(", "))
    }
}
