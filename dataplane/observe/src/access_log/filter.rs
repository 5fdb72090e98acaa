//! `AccessLogFilter`: which requests are logged.

use millrace_config::{AccessLogFilter, Fraction, HeaderMatcher, HeaderMatcherKind};

use super::StreamInfo;
use crate::format::request_field;

/// True when the filter lets the line through. `random` is one draw of the shard's generator.
pub fn wanted(filter: &AccessLogFilter, info: &StreamInfo<'_>, random: u64) -> bool {
    match filter {
        AccessLogFilter::StatusCode(comparison) => {
            comparison.holds(u64::from(info.response_code.unwrap_or(0)))
        }
        AccessLogFilter::Duration(comparison) => {
            let elapsed = info.times.end.map(|end| end.since(info.times.start).as_millis());
            elapsed.is_some_and(|ms| comparison.holds(u64::try_from(ms).unwrap_or(u64::MAX)))
        }
        AccessLogFilter::NotHealthCheck => !info.health_check,
        AccessLogFilter::Traceable => info.traced,
        AccessLogFilter::Runtime(fraction, independent) => {
            let drawn = info.stream_id.and_then(stable).filter(|_| !independent).unwrap_or(random);
            hit(*fraction, drawn)
        }
        AccessLogFilter::Header(matcher) => header(matcher, info),
        AccessLogFilter::ResponseFlag(flags) => match flags.as_slice() {
            [] => !info.flags.is_empty(),
            list => list.iter().any(|flag| info.flags.contains(*flag)),
        },
        AccessLogFilter::Metadata { matcher, if_missing } => {
            match matcher.as_ref().map(|matcher| (matcher, matcher.find(info.written.metadata))) {
                Some((matcher, Some(value))) => matcher.value.matches(Some(value)),
                Some((_, None)) | None => *if_missing,
            }
        }
        AccessLogFilter::And(all) => all.iter().all(|f| wanted(f, info, random)),
        AccessLogFilter::Or(any) => any.iter().any(|f| wanted(f, info, random)),
    }
}

fn hit(fraction: Fraction, drawn: u64) -> bool {
    drawn.checked_rem(u64::from(fraction.denominator)).is_some_and(|r| r < u64::from(fraction.numerator))
}

/// The number in a request id: its first eight hex digits, so that every proxy on the way decides alike.
fn stable(id: &str) -> Option<u64> {
    u64::from_str_radix(id.get(..8)?, 16).ok().filter(|_| id.len() == 36)
}

fn header(matcher: &HeaderMatcher, info: &StreamInfo<'_>) -> bool {
    let Some(request) = info.request else { return false };
    let mut all = Vec::new();
    let value = match matcher.name.first() {
        Some(b':') => request_field(request, &matcher.name),
        _ if request.headers.values_name(&matcher.name).nth(1).is_some() => {
            request.headers.joined(&matcher.name, &mut all).then_some(all.as_slice())
        }
        _ => request_field(request, &matcher.name),
    };
    let value = value.or(matcher.missing_as_empty.then_some(&[][..]));
    let matched = match (&matcher.kind, value) {
        (HeaderMatcherKind::Present(present), value) => value.is_some() == *present,
        (_, None) => return false,
        (HeaderMatcherKind::Range { start, end }, Some(value)) => {
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
            number.is_some_and(|n| (*start..*end).contains(&n))
        }
        (HeaderMatcherKind::String(string), Some(value)) => string.matches(value),
    };
    matched != matcher.invert
}
