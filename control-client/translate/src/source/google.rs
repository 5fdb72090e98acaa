//! `core.v3.GrpcService.GoogleGrpc`: a target URI with credentials of its own instead of a cluster.

use std::time::Duration;

use millrace_ads::source::{Endpoint, GrpcService, Tls, TokenFile, Upstream};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::grpc_service::GoogleGrpc;
use millrace_proto::pb::envoy::config::core::v3::grpc_service::google_grpc as pb;
use millrace_proto::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use millrace_proto::pb::envoy::config::grpc_credential::v3::FileBasedMetadataConfig;

use super::tls;
use crate::context::Context;
use crate::error::Rejection;
use crate::{extension, value};

const FACTORY_DEFAULT: &str = "envoy.grpc_credentials.default";
const FILE_BASED: &str = "envoy.grpc_credentials.file_based_metadata";
const FILE_BASED_TYPE: &str = "envoy.config.grpc_credential.v3.FileBasedMetadataConfig";
/// gRPC's default port, and its default wait for the answer to a keepalive ping.
const PORT: u16 = 443;
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) fn service(google: &GoogleGrpc, path: &Path, cx: &mut Context) -> Result<GrpcService, Rejection> {
    let (endpoint, host, authority) = target(&google.target_uri, &path.join("target_uri"))?;
    let factory = google.credentials_factory_name.as_str();
    if !matches!(factory, "" | FACTORY_DEFAULT | FILE_BASED) {
        let why = format!("Unknown google grpc credentials factory name: {factory}");
        return Err(Rejection::new(&path.join("credentials_factory_name"), why));
    }
    let mut built = GrpcService {
        target: Upstream {
            name: google.target_uri.clone(),
            endpoints: vec![endpoint],
            connect_timeout: CONNECT_TIMEOUT,
            keepalive: None,
            tcp_keepalive: None,
            tls: channel(google.channel_credentials.as_ref(), &host, &path.join("channel_credentials"))?,
        },
        initial_metadata: Vec::new(),
        token_files: Vec::new(),
        authority,
        message_bytes_max: None,
    };
    for (i, call) in google.call_credentials.iter().enumerate() {
        call_credentials(call, factory, &path.join("call_credentials").at(i), &mut built, cx)?;
    }
    if let Some(args) = &google.channel_args {
        channel_args(args, &path.join("channel_args").join("args"), &mut built, cx)?;
    }
    Ok(built)
}

/// The endpoint, the host name to verify, and `:authority`.
fn target(uri: &str, path: &Path) -> Result<(Endpoint, String, String), Rejection> {
    if let Some(rest) = uri.strip_prefix("unix:") {
        let file = rest.strip_prefix("//").unwrap_or(rest);
        return Ok((Endpoint::Unix(file.into()), "localhost".into(), "localhost".into()));
    }
    if let Some(name) = uri.strip_prefix("unix-abstract:") {
        return Ok((Endpoint::Unix(format!("@{name}").into()), "localhost".into(), "localhost".into()));
    }
    let bad = || Rejection::new(path, format!("not a target that gRPC can resolve: '{uri}'"));
    let name = match uri.split_once(':') {
        Some(("dns", rest)) => match rest.strip_prefix("//") {
            // `dns://server/name` asks a certain server, which is left to the system.
            Some(rest) => rest.split_once('/').ok_or_else(bad)?.1,
            None => rest.trim_start_matches('/'),
        },
        Some(("ipv4" | "ipv6", rest)) => rest.trim_start_matches('/'),
        _ => uri,
    };
    let (host, port) = match name.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match name.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => (name, None),
            Some((host, port)) => (host, Some(port)),
            None => (name, None),
        },
    };
    let port = port.map_or(Ok(PORT), str::parse).map_err(|_| bad())?;
    if host.is_empty() || host.contains(['/', ',', ' ']) {
        return Err(bad());
    }
    Ok((Endpoint::Inet(host.to_owned(), port), host.to_owned(), name.to_owned()))
}

fn channel(
    credentials: Option<&pb::ChannelCredentials>,
    host: &str,
    path: &Path,
) -> Result<Option<Tls>, Rejection> {
    use pb::channel_credentials::CredentialSpecifier as By;
    match credentials.map(|credentials| &credentials.credential_specifier) {
        // Without credentials the channel is in clear text, as in Envoy; local ones check that the peer is local.
        None | Some(Some(By::LocalCredentials(_))) => Ok(None),
        Some(Some(By::SslCredentials(ssl))) => {
            let path = path.join("ssl_credentials");
            let mut tls = Tls { sni: host.to_owned(), verify_host: true, ..Tls::default() };
            tls.trusted_ca = tls::optional(ssl.root_certs.as_ref(), &path.join("root_certs"))?;
            tls.system_roots = tls.trusted_ca.is_none();
            let chain = tls::optional(ssl.cert_chain.as_ref(), &path.join("cert_chain"))?;
            let key = tls::optional(ssl.private_key.as_ref(), &path.join("private_key"))?;
            tls.identity = match (chain, key) {
                (Some(chain), Some(key)) => Some((chain, key)),
                (None, None) => None,
                _ => return Err(Rejection::new(&path, "a certificate chain and its key belong together")),
            };
            Ok(Some(tls))
        }
        Some(Some(By::GoogleDefault(_))) => Err(Rejection::not_served(
            &path.join("google_default"),
            "credentials of Google's cloud are not served by this build",
        )),
        Some(None) => Err(Rejection::new(&path.join("credential_specifier"), "is required")),
    }
}

fn call_credentials(
    call: &pb::CallCredentials,
    factory: &str,
    path: &Path,
    built: &mut GrpcService,
    cx: &mut Context,
) -> Result<(), Rejection> {
    use pb::call_credentials::CredentialSpecifier as By;
    let refused = |name: &'static str, what: &str| {
        Err(Rejection::not_served(&path.join(name), format!("{what} are not served by this build")))
    };
    match &call.credential_specifier {
        Some(By::AccessToken(token)) => {
            built.initial_metadata.push(("authorization".into(), format!("Bearer {token}")));
            Ok(())
        }
        Some(By::FromPlugin(plugin)) => from_plugin(plugin, factory, &path.join("from_plugin"), built, cx),
        Some(By::GoogleComputeEngine(_)) => refused("google_compute_engine", "tokens of Google's cloud"),
        Some(By::GoogleRefreshToken(_)) => refused("google_refresh_token", "tokens of Google's cloud"),
        Some(By::ServiceAccountJwtAccess(_)) => refused("service_account_jwt_access", "signed tokens"),
        Some(By::GoogleIam(_)) => refused("google_iam", "tokens of Google's cloud"),
        Some(By::StsService(_)) => refused("sts_service", "security token services"),
        None => Err(Rejection::new(&path.join("credential_specifier"), "is required")),
    }
}

fn from_plugin(
    plugin: &pb::call_credentials::MetadataCredentialsFromPlugin,
    factory: &str,
    path: &Path,
    built: &mut GrpcService,
    cx: &mut Context,
) -> Result<(), Rejection> {
    use pb::call_credentials::metadata_credentials_from_plugin::ConfigType;
    let any = plugin.config_type.as_ref().map(|ConfigType::TypedConfig(any)| any);
    if plugin.name != FILE_BASED {
        return Err(extension::not_served("call credentials", &plugin.name, any, path));
    }
    if factory != FILE_BASED {
        let why = format!("only credentials_factory_name {FILE_BASED} reads it, as in Envoy");
        cx.report(path, why);
        return Ok(());
    }
    let path = path.join("typed_config");
    let config: FileBasedMetadataConfig = match any {
        Some(any) if extension::type_of(any) == FILE_BASED_TYPE => extension::open(any, &path)?,
        other => return Err(extension::not_served("call credentials", &plugin.name, other, &path)),
    };
    let header = match config.header_key.as_str() {
        "" => "authorization".to_owned(),
        key => key.to_ascii_lowercase(),
    };
    let source = config.secret_data.unwrap_or_default();
    match &source.specifier {
        Some(Specifier::Filename(name)) => {
            built.token_files.push(TokenFile { path: name.into(), header, prefix: config.header_prefix })
        }
        _ => {
            let token = inline(&source, &path.join("secret_data"))?;
            built.initial_metadata.push((header, format!("{}{token}", config.header_prefix)));
        }
    }
    Ok(())
}

fn inline(source: &DataSource, path: &Path) -> Result<String, Rejection> {
    let bytes = value::data_source(source, path)?;
    String::from_utf8(bytes).map_err(|_| Rejection::new(path, "a token must be text"))
}

fn channel_args(
    args: &pb::ChannelArgs,
    path: &Path,
    built: &mut GrpcService,
    cx: &mut Context,
) -> Result<(), Rejection> {
    use pb::channel_args::value::ValueSpecifier;
    let (mut time, mut timeout) = (None, KEEPALIVE_TIMEOUT);
    let mut names: Vec<&String> = args.args.keys().collect();
    names.sort();
    for name in names {
        let mut path = path.clone();
        path.key(name);
        let number = match args.args.get(name).and_then(|value| value.value_specifier.as_ref()) {
            Some(ValueSpecifier::IntValue(number)) => Some(*number),
            Some(ValueSpecifier::StringValue(_)) | None => None,
        };
        let millis = |number: Option<i64>| {
            let millis = number.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
            millis.map(Duration::from_millis).ok_or_else(|| Rejection::new(&path, "a positive number of ms"))
        };
        match name.as_str() {
            // The largest number is gRPC's way to say never.
            "grpc.keepalive_time_ms" if number == Some(i64::from(i32::MAX)) => time = None,
            "grpc.keepalive_time_ms" => time = Some(millis(number)?),
            "grpc.keepalive_timeout_ms" => timeout = millis(number)?,
            "grpc.max_receive_message_length" => {
                built.message_bytes_max = match number {
                    Some(-1) => Some(usize::MAX),
                    number => number.and_then(|n| usize::try_from(n).ok()),
                };
            }
            _ => cx.report(&path, "the channel argument has no effect"),
        }
    }
    built.target.keepalive = time.map(|time| (time, timeout));
    Ok(())
}
