//! `/stats` and `/stats/prometheus`: parsing of the query; the state renders.

use regex::RegexBuilder;

use crate::endpoint::Call;
use crate::html;
use crate::state::{AdminState, HistogramBuckets, StatType, StatsFormat, StatsQuery};
use crate::{Query, Response};

/// The compiled size a filter may have; RE2's default budget is of this order.
const REGEX_BYTES_MAX: usize = 1 << 20;

pub(crate) fn serve(call: &Call<'_>, state: &mut dyn AdminState) -> Response {
    let (format, page) = match call.query.get("format") {
        None | Some("text") => (StatsFormat::Text, false),
        Some("json") => (StatsFormat::Json, false),
        Some("prometheus") => (StatsFormat::Prometheus, false),
        Some("html" | "active-html") => (StatsFormat::Text, true),
        Some(_) => {
            return Response::text(400, "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n");
        }
    };
    let query = match parse(&call.query, format) {
        Ok(query) => query,
        Err(response) => return response,
    };
    let body = state.stats(&query);
    match format {
        _ if page => Response::html(html::page("Statistics", &html::preformatted(&body))),
        StatsFormat::Json => Response::json(body),
        StatsFormat::Text | StatsFormat::Prometheus => Response::text(200, body),
    }
}

pub(crate) fn serve_prometheus(call: &Call<'_>, state: &mut dyn AdminState) -> Response {
    match parse(&call.query, StatsFormat::Prometheus) {
        Ok(query) => Response::text(200, state.stats(&query)),
        Err(response) => response,
    }
}

fn parse(query: &Query, format: StatsFormat) -> Result<StatsQuery, Response> {
    let only = match query.get("type") {
        None | Some("All" | "") => None,
        Some("Counters") => Some(StatType::Counters),
        Some("Gauges") => Some(StatType::Gauges),
        Some("Histograms") => Some(StatType::Histograms),
        Some("TextReadouts") => Some(StatType::TextReadouts),
        Some(_) => return Err(Response::text(400, "invalid &type= param")),
    };
    let filter = match query.get_non_empty("filter") {
        None => None,
        Some(pattern) => {
            let compiled = RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build();
            Some(compiled.map_err(|error| {
                Response::text(400, format!("Invalid re2 regex: {}: {pattern}", regex_reason(&error)))
            })?)
        }
    };
    Ok(StatsQuery {
        format,
        used_only: query.has("usedonly"),
        filter,
        invert_filter: query.has("invert_filter"),
        only,
        histogram_buckets: histogram_buckets(query, format)?,
        text_readouts: query.has("text_readouts"),
    })
}

fn histogram_buckets(query: &Query, format: StatsFormat) -> Result<HistogramBuckets, Response> {
    let mode = match query.get("histogram_buckets") {
        None | Some("" | "none") => HistogramBuckets::Unset,
        Some("cumulative") => HistogramBuckets::Cumulative,
        Some("disjoint") => HistogramBuckets::Disjoint,
        Some("detailed") => HistogramBuckets::Detailed,
        Some("summary") => HistogramBuckets::Summary,
        Some(_) => {
            return Err(Response::text(
                400,
                "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary)\n\n",
            ));
        }
    };
    let unsupported = matches!(mode, HistogramBuckets::Disjoint | HistogramBuckets::Detailed);
    if format == StatsFormat::Prometheus && unsupported {
        return Err(Response::text(400, "unsupported prometheus histogram bucket mode"));
    }
    Ok(mode)
}

/// The one line of a regex error that says what is wrong.
pub(crate) fn regex_reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or("").trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}
