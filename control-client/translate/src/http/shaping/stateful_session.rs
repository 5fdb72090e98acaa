//! `extensions.filters.http.stateful_session.v3` and the places that sessions are kept in.

use std::sync::Arc;

use millrace_config::{
    HttpFilterKind, PerFilterConfig, SessionCookie, SessionState, StatefulSession, StatefulSessionFilter,
};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use millrace_proto::pb::envoy::extensions::filters::http::stateful_session::v3 as pb;
use millrace_proto::pb::envoy::extensions::filters::http::stateful_session::v3::stateful_session_per_route::Override;
use millrace_proto::pb::envoy::extensions::http::stateful_session as states;

use crate::context::Context;
use crate::error::Rejection;
use crate::{extension, value};

pub(super) const TYPE: &str = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession";
pub(super) const PER_ROUTE: &str =
    "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute";

const PREFIX: &str = "envoy.extensions.http.stateful_session.";

pub(super) fn filter(
    config: &pb::StatefulSession,
    stat_prefix: &str,
    path: &Path,
    cx: &Context,
) -> Result<HttpFilterKind, Rejection> {
    let session = Arc::new(session(config, path)?);
    let own = &config.stat_prefix;
    let scope = (!own.is_empty())
        .then(|| cx.scope(ScopeKind::HttpStatefulSession, &format!("{stat_prefix}.stateful_session.{own}")));
    Ok(HttpFilterKind::StatefulSession(Arc::new(StatefulSessionFilter { session, scope })))
}

pub(super) fn of_route(
    config: &pb::StatefulSessionPerRoute,
    path: &Path,
) -> Result<PerFilterConfig, Rejection> {
    match &config.r#override {
        Some(Override::Disabled(_)) => Ok(PerFilterConfig::StatefulSession(None)),
        Some(Override::StatefulSession(config)) => {
            let session = session(config, &path.join("stateful_session"))?;
            Ok(PerFilterConfig::StatefulSession(Some(Arc::new(session))))
        }
        None => Err(Rejection::new(&path.join("override"), "is required")),
    }
}

fn session(config: &pb::StatefulSession, path: &Path) -> Result<StatefulSession, Rejection> {
    let state = config.session_state.as_ref();
    let state = state.map(|state| self::state(state, &path.join("session_state"))).transpose()?;
    let status = match config.status_on_strict_destination_not_found {
        status @ 200..=599 if config.strict => status as u16,
        0 => 503,
        _ if !config.strict => 503,
        other => {
            let why = format!("{other} is no status of an answer");
            return Err(Rejection::new(&path.join("status_on_strict_destination_not_found"), why));
        }
    };
    Ok(StatefulSession { state, strict: config.strict, status_when_missing: status })
}

fn state(config: &TypedExtensionConfig, path: &Path) -> Result<SessionState, Rejection> {
    let Some(any) = &config.typed_config else {
        return Err(extension::not_served("session state", &config.name, None, path));
    };
    let kind = extension::type_of(any);
    let path = path.join("typed_config");
    match kind.strip_prefix(PREFIX) {
        Some("cookie.v3.CookieBasedSessionState") => {
            let config: states::cookie::v3::CookieBasedSessionState = extension::open(any, &path)?;
            let Some(cookie) = config.cookie else {
                return Err(Rejection::new(&path.join("cookie"), "value is required"));
            };
            let attribute = |(name, value): (&str, &str)| (value::text(name), value::text(value));
            Ok(SessionState::Cookie(SessionCookie {
                name: cookie.name.as_bytes().into(),
                ttl: cookie.ttl.as_ref().map(value::duration).unwrap_or_default(),
                path: value::text(&cookie.path),
                attributes: cookie.attributes.iter().map(|one| attribute((&one.name, &one.value))).collect(),
            }))
        }
        Some("header.v3.HeaderBasedSessionState") => {
            let config: states::header::v3::HeaderBasedSessionState = extension::open(any, &path)?;
            Ok(SessionState::Header(value::lower_bytes(&config.name)))
        }
        Some("envelope.v3.EnvelopeSessionState") => {
            let config: states::envelope::v3::EnvelopeSessionState = extension::open(any, &path)?;
            let name = config.header.map(|header| header.name).unwrap_or_default();
            Ok(SessionState::Envelope(value::lower_bytes(&name)))
        }
        _ => Err(extension::not_served("session state", &config.name, Some(any), &path)),
    }
}
