//! `set_filter_state`: objects made of templates.

use millrace_base::{FilterState, StateObject, Written};
use millrace_config::{PerFilterConfig, SetFilterState, StateValue};
use millrace_http::RequestHead;

use crate::http::stream_filters::{Env, Start};

/// `envoy.filters.http.set_filter_state`: the filter's own objects, then those of the route's levels, the most specific
/// last.
pub(in crate::http) fn stream_state(
    filter: &SetFilterState,
    name: &str,
    start: &Start<'_>,
    env: &mut Env<'_>,
    head: &RequestHead,
) {
    let mut levels = [None; 4];
    let typed = start.levels(name).filter_map(|config| match config {
        PerFilterConfig::SetFilterState(level) => Some(&**level),
        _ => None,
    });
    for (slot, level) in levels.iter_mut().zip(typed) {
        *slot = Some(level);
    }
    levels.reverse();
    for config in [Some(filter)].into_iter().chain(levels).flatten() {
        for value in &config.values {
            env.scratch.clear();
            env.render.render_text(&value.value, head, None, env.scratch);
            // The connection's own objects are not hidden.
            let taken = env.connection_state.is_some_and(|state| state.get(&value.key).is_some());
            if let Some(object) = object(value, env.scratch).filter(|_| !taken) {
                env.state.write(|notes| notes.filter_state.set(&value.key, object, value.read_only));
            }
        }
    }
}

/// `envoy.filters.network.set_filter_state`: adds the objects to a connection's state. `render` evaluates a template
/// with what is known of the connection and its state so far.
pub fn connection_state(
    values: &[StateValue],
    state: &mut FilterState,
    mut render: impl FnMut(&StateValue, &Written<'_>, &mut Vec<u8>),
) {
    let mut text = Vec::new();
    for value in values {
        text.clear();
        render(value, &Written { connection: Some(state), ..Written::default() }, &mut text);
        if let Some(object) = object(value, &text) {
            state.set(&value.key, object, value.read_only);
        }
    }
}

/// `None` for a text that makes no object, or is left out.
fn object(value: &StateValue, text: &[u8]) -> Option<StateObject> {
    if text.is_empty() && value.skip_if_empty {
        return None;
    }
    StateObject::new(value.form, &String::from_utf8_lossy(text))
}
