//! Whether an answer counts as a success of the endpoint that gave it (`rq_success` and `rq_error`, which load reports
//! send on).

use millrace_http::{HeaderMap, ResponseHead};

use crate::http::grpc::status::{GrpcStatus, grpc_to_http_status};

/// Judges a final response head; `grpc` says that the request, as the router sent it, was gRPC, `end` that nothing
/// follows. `None`: the end of the response decides, see [`at_end`].
pub fn of_head(grpc: bool, head: &ResponseHead, end: bool) -> Option<bool> {
    match (grpc, end) {
        (false, _) => Some(head.status < 500),
        (true, true) => Some(is_success(GrpcStatus::of(&head.headers))),
        (true, false) => None,
    }
}

/// The HTTP status by which outlier detection judges a final response head: that of the gRPC status, where the head has one.
pub fn status(grpc: bool, head: &ResponseHead) -> u16 {
    let told = GrpcStatus::of(&head.headers).filter(|_| grpc);
    told.map_or(head.status, grpc_to_http_status)
}

/// Judges the end of a gRPC response that had more than a head: without trailers, or reset, it has failed.
pub fn at_end(trailers: Option<&HeaderMap>) -> bool {
    is_success(trailers.and_then(GrpcStatus::of))
}

fn is_success(status: Option<GrpcStatus>) -> bool {
    status.is_some_and(|status| grpc_to_http_status(status) < 500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test::{fields, response};

    /// Statuses that Envoy 1.40 counted as successes, of those tried.
    const SUCCESSES: [&str; 6] = ["0", "1", "5", "8", "16", "05"];
    const ERRORS: [&str; 8] = ["2", "4", "13", "14", "15", "99", "abc", "-1"];

    #[test]
    fn grpc_is_judged_by_its_status_as_envoy_1_40_did() {
        for (list, success) in [(&SUCCESSES[..], true), (&ERRORS[..], false)] {
            for status in list {
                let mut trailers = HeaderMap::new();
                fields(&mut trailers, &[("grpc-status", status)]);
                assert_eq!(at_end(Some(&trailers)), success, "{status}");
                let head = response(200, &[("grpc-status", status)]);
                assert_eq!(of_head(true, &head, true), Some(success), "{status}");
                assert_eq!((of_head(true, &head, false), of_head(false, &head, true)), (None, Some(true)));
            }
        }
        assert!(!at_end(None) && !at_end(Some(&HeaderMap::new())));
        assert_eq!(of_head(true, &response(200, &[]), true), Some(false));
    }

    #[test]
    fn other_requests_are_judged_by_the_http_status() {
        for (status, success) in [(200, true), (404, true), (499, true), (500, false), (503, false)] {
            assert_eq!(of_head(false, &response(status, &[]), false), Some(success));
        }
    }
}
