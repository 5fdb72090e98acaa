//! `config.bootstrap.v3.Admin`.

use std::sync::Arc;

use millrace_config::{AccessLog, Address, StringMatcher};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::bootstrap::v3::Admin;

use crate::access_log::{access_logs, default_file};
use crate::context::Context;
use crate::error::Rejection;
use crate::{address, matcher};

/// The admin server.
#[derive(Clone, Debug, Default)]
pub struct AdminConfig {
    /// Where it listens; `None` when there is none.
    pub address: Option<Address>,
    /// `access_log`, and `access_log_path` in the default format.
    pub access_logs: Vec<Arc<AccessLog>>,
    /// `ignore_global_conn_limit`.
    pub ignore_global_conn_limit: bool,
    /// `allow_paths`; empty allows all.
    pub allow_paths: Vec<StringMatcher>,
}

pub(crate) fn admin(admin: Option<&Admin>, path: &Path, cx: &mut Context) -> Result<AdminConfig, Rejection> {
    let Some(admin) = admin else {
        return Ok(AdminConfig::default());
    };
    let place = admin.address.as_ref().map(|a| address::address(a, &path.join("address"))).transpose()?;
    let mut logs = access_logs(&admin.access_log, &path.join("access_log"), cx)?;
    if !admin.access_log_path.is_empty() {
        logs.push(Arc::new(default_file(&admin.access_log_path, &path.join("access_log_path"))?));
    }
    let paths = path.join("allow_paths");
    let allowed = admin.allow_paths.iter().enumerate();
    Ok(AdminConfig {
        address: place,
        access_logs: logs,
        ignore_global_conn_limit: admin.ignore_global_conn_limit,
        allow_paths: allowed.map(|(i, m)| matcher::string(m, &paths.at(i))).collect::<Result<_, _>>()?,
    })
}
