//! `config.metrics.v3.StatsConfig`.

use millrace_config::StringMatcher;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::metrics::v3 as pb;

use crate::error::Rejection;
use crate::{matcher, value};

/// Where the value of a tag comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagValue {
    /// `regex`, as written; empty means the built-in rule of this name.
    Regex(String),
    /// `fixed_value`.
    Fixed(String),
}

/// `TagSpecifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsTag {
    /// `tag_name`.
    pub name: String,
    /// Its value.
    pub value: TagValue,
}

/// `StatsMatcher`.
#[derive(Clone, Debug, Default)]
pub enum StatsMatcher {
    /// Every statistic exists.
    #[default]
    All,
    /// None exists.
    RejectAll,
    /// Those that match do not exist.
    Exclude(Vec<StringMatcher>),
    /// Only those that match exist.
    Include(Vec<StringMatcher>),
}

/// Names and tags of statistics.
#[derive(Clone, Debug)]
pub struct StatsConfig {
    /// `stats_tags`, in order.
    pub tags: Vec<StatsTag>,
    /// `use_all_default_tags`, default true.
    pub use_all_default_tags: bool,
    /// `stats_matcher`.
    pub matcher: StatsMatcher,
}

impl Default for StatsConfig {
    fn default() -> Self {
        Self { tags: Vec::new(), use_all_default_tags: true, matcher: StatsMatcher::All }
    }
}

pub(crate) fn stats_config(config: Option<&pb::StatsConfig>, path: &Path) -> Result<StatsConfig, Rejection> {
    let Some(config) = config else {
        return Ok(StatsConfig::default());
    };
    let tags = config.stats_tags.iter().map(tag).collect();
    let path = path.join("stats_matcher");
    let matcher = match config.stats_matcher.as_ref().and_then(|m| m.stats_matcher.as_ref()) {
        None => StatsMatcher::All,
        Some(pb::stats_matcher::StatsMatcher::RejectAll(true)) => StatsMatcher::RejectAll,
        Some(pb::stats_matcher::StatsMatcher::RejectAll(false)) => StatsMatcher::All,
        Some(pb::stats_matcher::StatsMatcher::ExclusionList(list)) => {
            StatsMatcher::Exclude(matcher::strings(list, &path.join("exclusion_list"))?)
        }
        Some(pb::stats_matcher::StatsMatcher::InclusionList(list)) => {
            StatsMatcher::Include(matcher::strings(list, &path.join("inclusion_list"))?)
        }
    };
    let use_all_default_tags = value::flag(config.use_all_default_tags.as_ref(), true);
    Ok(StatsConfig { tags, use_all_default_tags, matcher })
}

fn tag(specifier: &pb::TagSpecifier) -> StatsTag {
    let value = match &specifier.tag_value {
        Some(pb::tag_specifier::TagValue::FixedValue(text)) => TagValue::Fixed(text.clone()),
        Some(pb::tag_specifier::TagValue::Regex(pattern)) => TagValue::Regex(pattern.clone()),
        None => TagValue::Regex(String::new()),
    };
    StatsTag { name: specifier.tag_name.clone(), value }
}
