//! Matchers on dynamic metadata and filter state.

use millrace_config::{Cidr, FilterStateMatcher, MetadataMatcher, StateMatcherKind, ValueMatcher};
use millrace_proto::Path;
use millrace_proto::pb::envoy::r#type::matcher::v3 as pb;
use millrace_proto::pb::xds::core::v3::CidrRange;

use crate::error::Rejection;
use crate::{address, matcher};

/// Deepest nesting of `list_match` and `or_match`.
const DEPTH_MAX: usize = 16;

/// `type.matcher.v3.MetadataMatcher`.
pub(crate) fn metadata(by: &pb::MetadataMatcher, path: &Path) -> Result<MetadataMatcher, Rejection> {
    use pb::metadata_matcher::path_segment::Segment;
    let segments_path = path.join("path");
    let segment = |(i, segment): (usize, &pb::metadata_matcher::PathSegment)| match &segment.segment {
        Some(Segment::Key(key)) => Ok(key.as_str().into()),
        None => Err(Rejection::new(&segments_path.at(i).join("segment"), "is required")),
    };
    let value_path = path.join("value");
    let Some(value_matcher) = &by.value else { return Err(Rejection::new(&value_path, "value is required")) };
    Ok(MetadataMatcher {
        namespace: by.filter.as_str().into(),
        path: by.path.iter().enumerate().map(segment).collect::<Result<_, _>>()?,
        value: value(value_matcher, &value_path, 0)?,
        invert: by.invert,
    })
}

fn value(by: &pb::ValueMatcher, path: &Path, depth: usize) -> Result<ValueMatcher, Rejection> {
    use pb::value_matcher::MatchPattern as By;
    if depth > DEPTH_MAX {
        return Err(Rejection::new(path, "matchers are nested too deeply"));
    }
    Ok(match &by.match_pattern {
        Some(By::NullMatch(_)) => ValueMatcher::Null,
        Some(By::DoubleMatch(by)) => match &by.match_pattern {
            Some(pb::double_matcher::MatchPattern::Exact(exact)) => ValueMatcher::Number(*exact),
            Some(pb::double_matcher::MatchPattern::Range(range)) => {
                ValueMatcher::Range(range.start, range.end)
            }
            None => return Err(required(&path.join("double_match"))),
        },
        Some(By::StringMatch(by)) => ValueMatcher::String(matcher::string(by, &path.join("string_match"))?),
        Some(By::BoolMatch(wanted)) => ValueMatcher::Bool(*wanted),
        Some(By::PresentMatch(present)) => ValueMatcher::Present(*present),
        Some(By::ListMatch(by)) => match &by.match_pattern {
            Some(pb::list_matcher::MatchPattern::OneOf(one)) => {
                let path = path.join("list_match").join("one_of");
                ValueMatcher::OneOf(Box::new(value(one, &path, depth + 1)?))
            }
            None => return Err(required(&path.join("list_match"))),
        },
        Some(By::OrMatch(by)) => {
            let path = path.join("or_match").join("value_matchers");
            let all = by.value_matchers.iter().enumerate();
            ValueMatcher::Any(
                all.map(|(i, one)| value(one, &path.at(i), depth + 1)).collect::<Result<_, _>>()?,
            )
        }
        None => return Err(required(path)),
    })
}

fn required(path: &Path) -> Rejection {
    Rejection::new(&path.join("match_pattern"), "is required")
}

/// `type.matcher.v3.FilterStateMatcher`.
pub(crate) fn filter_state(
    by: &pb::FilterStateMatcher,
    path: &Path,
) -> Result<FilterStateMatcher, Rejection> {
    use pb::filter_state_matcher::Matcher;
    let kind = match &by.matcher {
        Some(Matcher::StringMatch(by)) => {
            StateMatcherKind::String(matcher::string(by, &path.join("string_match"))?)
        }
        Some(Matcher::AddressMatch(by)) => {
            let ranges = ranges(by, &path.join("address_match"))?;
            StateMatcherKind::Address { ranges, invert: by.invert_match }
        }
        None => return Err(Rejection::new(&path.join("matcher"), "is required")),
    };
    Ok(FilterStateMatcher { key: by.key.as_str().into(), kind })
}

/// The ranges of an `AddressMatcher`.
pub(crate) fn ranges(by: &pb::AddressMatcher, path: &Path) -> Result<Vec<Cidr>, Rejection> {
    let path = path.join("ranges");
    let range = |(i, range): (usize, &CidrRange)| {
        let len = range.prefix_len.as_ref().map(|len| len.value);
        address::range(&range.address_prefix, len, &path.at(i))
    };
    by.ranges.iter().enumerate().map(range).collect()
}
