//! The HTTP filters that write dynamic metadata and filter state, with what routes say of them.

mod header_to_metadata;
mod json_to_metadata;
pub(crate) mod set_filter_state;
mod set_metadata;

use millrace_config::{HttpFilterKind, PerFilterConfig};
use millrace_proto::Path;
use millrace_proto::pb::google::protobuf::Any;

use crate::context::Context;
use crate::error::Rejection;
use crate::extension::{open, type_of};

/// The filter of a type of this folder; `None` for other types.
pub(super) fn filter(any: &Any, path: &Path, cx: &mut Context) -> Result<Option<HttpFilterKind>, Rejection> {
    Ok(Some(match type_of(any).as_str() {
        header_to_metadata::TYPE => header_to_metadata::filter(&open(any, path)?, path, cx)?,
        json_to_metadata::TYPE => json_to_metadata::filter(&open(any, path)?, path, cx)?,
        set_metadata::TYPE => HttpFilterKind::SetMetadata(set_metadata::entries(&open(any, path)?)),
        set_filter_state::TYPE => {
            HttpFilterKind::SetFilterState(set_filter_state::config(&open(any, path)?, path)?.into())
        }
        _ => return Ok(None),
    }))
}

/// A route's configuration of a filter of this folder; `None` for other types.
pub(super) fn of_route(
    any: &Any,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<PerFilterConfig>, Rejection> {
    Ok(Some(match type_of(any).as_str() {
        header_to_metadata::TYPE => header_to_metadata::of_route(&open(any, path)?, path, cx)?,
        json_to_metadata::TYPE => json_to_metadata::of_route(&open(any, path)?, path, cx)?,
        set_metadata::TYPE => PerFilterConfig::SetMetadata(set_metadata::entries(&open(any, path)?)),
        set_filter_state::TYPE => {
            PerFilterConfig::SetFilterState(set_filter_state::config(&open(any, path)?, path)?.into())
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests;
