//! `cluster.<name>.grpc.` and `cluster.<name>.grpc-web.`: calls of a cluster or of one method.

use super::metrics;
use crate::stats::Counter;

metrics! {
    values {
        STATUS_0 = counter "0" in OnUse, "Calls that ended with grpc-status 0.";
        STATUS_1 = counter "1" in OnUse, "Calls that ended with grpc-status 1.";
        STATUS_10 = counter "10" in OnUse, "Calls that ended with grpc-status 10.";
        STATUS_11 = counter "11" in OnUse, "Calls that ended with grpc-status 11.";
        STATUS_12 = counter "12" in OnUse, "Calls that ended with grpc-status 12.";
        STATUS_13 = counter "13" in OnUse, "Calls that ended with grpc-status 13.";
        STATUS_14 = counter "14" in OnUse, "Calls that ended with grpc-status 14.";
        STATUS_15 = counter "15" in OnUse, "Calls that ended with grpc-status 15.";
        STATUS_16 = counter "16" in OnUse, "Calls that ended with grpc-status 16.";
        STATUS_2 = counter "2" in OnUse, "Calls that ended with grpc-status 2.";
        STATUS_3 = counter "3" in OnUse, "Calls that ended with grpc-status 3.";
        STATUS_4 = counter "4" in OnUse, "Calls that ended with grpc-status 4.";
        STATUS_5 = counter "5" in OnUse, "Calls that ended with grpc-status 5.";
        STATUS_6 = counter "6" in OnUse, "Calls that ended with grpc-status 6.";
        STATUS_7 = counter "7" in OnUse, "Calls that ended with grpc-status 7.";
        STATUS_8 = counter "8" in OnUse, "Calls that ended with grpc-status 8.";
        STATUS_9 = counter "9" in OnUse, "Calls that ended with grpc-status 9.";
        FAILURE = counter "failure" in OnUse, "Calls that ended with another status than 0.";
        METHODS_OVERFLOW = counter "methods_overflow" in OnUse, "Counts of methods that have no scope of their own since there are too many; ours.";
        REQUEST_MESSAGE_COUNT = counter "request_message_count" in OnUse, "Messages of requests.";
        RESPONSE_MESSAGE_COUNT = counter "response_message_count" in OnUse, "Messages of responses.";
        SUCCESS = counter "success" in OnUse, "Calls that ended with status 0.";
        TOTAL = counter "total" in OnUse, "Calls that ended.";
        STATUS_OTHER = counter "unknown_status" in OnUse, "Calls that ended with a grpc-status that gRPC does not define (Envoy makes a name of each).";
    }
    histograms {
        UPSTREAM_RQ_TIME = "upstream_rq_time" in OnUse, "From the last byte sent upstream to the last one received, milliseconds.";
    }
}

/// By number.
const STATUSES: [Counter; 17] = [
    STATUS_0, STATUS_1, STATUS_2, STATUS_3, STATUS_4, STATUS_5, STATUS_6, STATUS_7, STATUS_8, STATUS_9,
    STATUS_10, STATUS_11, STATUS_12, STATUS_13, STATUS_14, STATUS_15, STATUS_16,
];

/// The counter of a `grpc-status`, 0 to 16; `None` for any other.
pub fn status(status: Option<u8>) -> Counter {
    status.and_then(|status| STATUSES.get(usize::from(status)).copied()).unwrap_or(STATUS_OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_counters_of_their_own() {
        for number in 0..17u8 {
            assert_eq!(TABLE.values[status(Some(number)).0 as usize].name, number.to_string());
        }
        assert_eq!((status(Some(17)), status(None)), (STATUS_OTHER, STATUS_OTHER));
    }
}
