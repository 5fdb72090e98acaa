//! Header changes that routes, virtual hosts and weighted clusters ask for.

use std::sync::Arc;

use crate::format::Template;

/// `HeaderValueOption.append_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AppendAction {
    #[default]
    AppendIfExistsOrAdd,
    AddIfAbsent,
    OverwriteIfExistsOrAdd,
    OverwriteIfExists,
}

/// One entry of `*_headers_to_add`.
#[derive(Clone, Debug)]
pub struct HeaderOption {
    /// Lower-case name; `:path` and `host` are refused when the configuration is compiled.
    pub name: Arc<[u8]>,
    /// The value with its `%...%` operators.
    pub value: Template,
    /// What to do when the field is there already.
    pub action: AppendAction,
    /// `keep_empty_value`.
    pub keep_empty_value: bool,
}

/// `*_headers_to_add` and `*_headers_to_remove` of one level. Removal comes first, as in Envoy.
#[derive(Clone, Debug, Default)]
pub struct HeaderMutations {
    /// Fields to add, in order.
    pub add: Vec<HeaderOption>,
    /// Lower-case names to remove.
    pub remove: Vec<Arc<[u8]>>,
}

impl HeaderMutations {
    /// True when nothing changes, so that the hot path may skip the level.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }
}
