//! `/config_dump`: sections, masks, single resources and name filters.

use regex::Regex;
use serde_json::{Map, Value};

use crate::Response;
use crate::endpoint::Call;
use crate::json::{Object, pretty};
use crate::mask::Mask;
use crate::state::{AdminState, ConfigSection};
use crate::stats::regex_reason;

const TYPE_PREFIX: &str = "type.googleapis.com/envoy.admin.v3.";

/// A repeated field of a section: its name, the message of its elements, the elements' fields and the path
/// to an element's name.
struct List {
    field: &'static str,
    message: &'static str,
    element_fields: &'static [&'static str],
    name: &'static [&'static str],
}

/// One section's message in `envoy/admin/v3/config_dump.proto`.
struct Section {
    id: ConfigSection,
    message: &'static str,
    singular: &'static [&'static str],
    lists: &'static [List],
}

const fn list(
    field: &'static str,
    message: &'static str,
    element_fields: &'static [&'static str],
    name: &'static [&'static str],
) -> List {
    List { field, message, element_fields, name }
}

const STATIC_CLUSTER: &[&str] = &["cluster", "last_updated"];
const DYNAMIC_CLUSTER: &[&str] = &["version_info", "cluster", "last_updated", "error_state", "client_status"];
const STATIC_ENDPOINT: &[&str] = &["endpoint_config", "last_updated"];
const DYNAMIC_ENDPOINT: &[&str] =
    &["version_info", "endpoint_config", "last_updated", "error_state", "client_status"];
const STATIC_LISTENER: &[&str] = &["listener", "last_updated"];
const DYNAMIC_LISTENER: &[&str] =
    &["name", "active_state", "warming_state", "draining_state", "error_state", "client_status"];
const STATIC_ROUTE: &[&str] = &["route_config", "last_updated"];
const DYNAMIC_ROUTE: &[&str] =
    &["version_info", "route_config", "last_updated", "error_state", "client_status"];
const INLINE_SCOPE: &[&str] = &["name", "scoped_route_configs", "last_updated"];
const DYNAMIC_SCOPE: &[&str] =
    &["name", "version_info", "scoped_route_configs", "last_updated", "error_state", "client_status"];
const STATIC_SECRET: &[&str] = &["name", "last_updated", "secret"];
const DYNAMIC_SECRET: &[&str] =
    &["name", "version_info", "last_updated", "secret", "error_state", "client_status"];
const ECDS_FILTER: &[&str] = &["version_info", "ecds_filter", "last_updated", "error_state", "client_status"];

/// In the order of the output.
static SECTIONS: &[Section] = &[
    Section {
        id: ConfigSection::Bootstrap,
        message: "BootstrapConfigDump",
        singular: &["bootstrap", "last_updated"],
        lists: &[],
    },
    Section {
        id: ConfigSection::Clusters,
        message: "ClustersConfigDump",
        singular: &["version_info"],
        lists: &[
            list("static_clusters", "StaticCluster", STATIC_CLUSTER, &["cluster", "name"]),
            list("dynamic_active_clusters", "DynamicCluster", DYNAMIC_CLUSTER, &["cluster", "name"]),
            list("dynamic_warming_clusters", "DynamicCluster", DYNAMIC_CLUSTER, &["cluster", "name"]),
        ],
    },
    Section {
        id: ConfigSection::Ecds,
        message: "EcdsConfigDump",
        singular: &[],
        lists: &[list("ecds_filters", "EcdsFilterConfig", ECDS_FILTER, &["ecds_filter", "name"])],
    },
    Section {
        id: ConfigSection::Endpoints,
        message: "EndpointsConfigDump",
        singular: &[],
        lists: &[
            list(
                "static_endpoint_configs",
                "StaticEndpointConfig",
                STATIC_ENDPOINT,
                &["endpoint_config", "cluster_name"],
            ),
            list(
                "dynamic_endpoint_configs",
                "DynamicEndpointConfig",
                DYNAMIC_ENDPOINT,
                &["endpoint_config", "cluster_name"],
            ),
        ],
    },
    Section {
        id: ConfigSection::Listeners,
        message: "ListenersConfigDump",
        singular: &["version_info"],
        lists: &[
            list("static_listeners", "StaticListener", STATIC_LISTENER, &["listener", "name"]),
            list("dynamic_listeners", "DynamicListener", DYNAMIC_LISTENER, &["name"]),
        ],
    },
    Section {
        id: ConfigSection::ScopedRoutes,
        message: "ScopedRoutesConfigDump",
        singular: &[],
        lists: &[
            list("inline_scoped_route_configs", "InlineScopedRouteConfigs", INLINE_SCOPE, &["name"]),
            list("dynamic_scoped_route_configs", "DynamicScopedRouteConfigs", DYNAMIC_SCOPE, &["name"]),
        ],
    },
    Section {
        id: ConfigSection::Routes,
        message: "RoutesConfigDump",
        singular: &[],
        lists: &[
            list("static_route_configs", "StaticRouteConfig", STATIC_ROUTE, &["route_config", "name"]),
            list("dynamic_route_configs", "DynamicRouteConfig", DYNAMIC_ROUTE, &["route_config", "name"]),
        ],
    },
    Section {
        id: ConfigSection::Secrets,
        message: "SecretsConfigDump",
        singular: &[],
        lists: &[
            list("static_secrets", "StaticSecret", STATIC_SECRET, &["name"]),
            list("dynamic_active_secrets", "DynamicSecret", DYNAMIC_SECRET, &["name"]),
            list("dynamic_warming_secrets", "DynamicSecret", DYNAMIC_SECRET, &["name"]),
        ],
    },
];

impl Section {
    /// `Some(repeated)` for a field of the message.
    fn field(&self, name: &str) -> Option<bool> {
        if self.lists.iter().any(|list| list.field == name) {
            return Some(true);
        }
        self.singular.contains(&name).then_some(false)
    }
}

pub(crate) fn serve(call: &Call<'_>, state: &mut dyn AdminState) -> Response {
    match dump(call, state) {
        Ok(configs) => Response::json(pretty(&Object::default().with_set("configs", configs).build())),
        Err(response) => response,
    }
}

fn dump(call: &Call<'_>, state: &mut dyn AdminState) -> Result<Vec<Value>, Response> {
    let query = &call.query;
    let names = match query.get_non_empty("name_regex") {
        None => None,
        // The whole name must match. The pattern is compiled alone first, so that it cannot end the group.
        Some(pattern) => Some(
            Regex::new(pattern).and_then(|_| Regex::new(&format!("^(?:{pattern})$"))).map_err(|error| {
                let reason = regex_reason(&error);
                let text = format!(
                    "INVALID_ARGUMENT: Error while parsing name_regex from {pattern}: {reason}: {pattern}"
                );
                Response::plain(400, text)
            })?,
        ),
    };
    let include_eds = query.has("include_eds");
    let mask = query.get_non_empty("mask");
    match query.get_non_empty("resource") {
        Some(resource) => one_resource(state, resource, mask, names.as_ref(), include_eds),
        None => all_sections(state, mask, names.as_ref(), include_eds),
    }
}

fn all_sections(
    state: &mut dyn AdminState,
    mask_text: Option<&str>,
    names: Option<&Regex>,
    include_eds: bool,
) -> Result<Vec<Value>, Response> {
    let mask = mask_text.map(Mask::parse);
    let mut configs = Vec::new();
    for section in SECTIONS {
        let wanted = mask.as_ref().is_none_or(|mask| mask.is_valid_for(|name| section.field(name)));
        if !wanted || (section.id == ConfigSection::Endpoints && !include_eds) {
            continue;
        }
        let Some(value) = state.config_dump(section.id) else { continue };
        let value = with_type(section.message, filter_names(section, value, names));
        configs.push(match &mask {
            Some(mask) => mask.trim(value),
            None => value,
        });
    }
    match mask_text {
        Some(mask) if configs.is_empty() => {
            let text = format!("FieldMask {mask} could not be successfully applied to any configs.");
            Err(Response::plain(400, text))
        }
        _ => Ok(configs),
    }
}

fn one_resource(
    state: &mut dyn AdminState,
    resource: &str,
    mask_text: Option<&str>,
    names: Option<&Regex>,
    include_eds: bool,
) -> Result<Vec<Value>, Response> {
    for section in SECTIONS {
        let skipped = section.id == ConfigSection::Endpoints && !include_eds;
        if skipped || section.field(resource).is_none() {
            continue;
        }
        let Some(value) = state.config_dump(section.id) else { continue };
        let Some(list) = section.lists.iter().find(|list| list.field == resource) else {
            let text =
                format!("{resource} is not a repeated field. Use ?mask={resource} to get only this field");
            return Err(Response::plain(400, text));
        };
        let mask = mask_text.map(Mask::parse);
        let fields = |name: &str| list.element_fields.contains(&name).then_some(false);
        if let (Some(mask), Some(text)) = (&mask, mask_text)
            && !mask.is_valid_for(fields)
        {
            return Err(Response::plain(400, format!("FieldMask {text} could not be successfully used.")));
        }
        let Value::Object(mut fields) = filter_names(section, value, names) else { return Ok(Vec::new()) };
        let Some(Value::Array(elements)) = fields.remove(resource) else { return Ok(Vec::new()) };
        let message = format!("{}.{}", section.message, list.message);
        let typed = elements.into_iter().map(|element| with_type(&message, element));
        return Ok(match mask {
            Some(mask) => typed.map(|element| mask.trim(element)).collect(),
            None => typed.collect(),
        });
    }
    Err(Response::plain(404, format!("{resource} not found in config dump")))
}

/// Puts `@type` first.
fn with_type(message: &str, value: Value) -> Value {
    let mut typed = Map::new();
    typed.insert("@type".to_owned(), Value::String(format!("{TYPE_PREFIX}{message}")));
    if let Value::Object(fields) = value {
        typed.extend(fields);
    }
    Value::Object(typed)
}

/// Drops the elements whose name does not match, and lists that became empty.
fn filter_names(section: &Section, mut value: Value, names: Option<&Regex>) -> Value {
    let (Some(names), Value::Object(fields)) = (names, &mut value) else { return value };
    for list in section.lists {
        let Some(Value::Array(elements)) = fields.get_mut(list.field) else { continue };
        elements.retain(|element| {
            let name = list.name.iter().try_fold(element, |inner, key| inner.get(key));
            names.is_match(name.and_then(Value::as_str).unwrap_or(""))
        });
        if elements.is_empty() {
            fields.remove(list.field);
        }
    }
    value
}
