//! `load_reporter.`: the stream on which a control plane is told of the load (LRS).

use super::metrics;

metrics! {
    values {
        ERRORS = counter "errors", "Streams that ended with an error or could not be opened.";
        REQUESTS = counter "requests", "Messages of the control plane that say what to report.";
        RESPONSES = counter "responses", "Messages to the control plane, the first one of each stream included.";
        RETRIES = counter "retries", "Streams opened anew.";
    }
    histograms {
    }
}
