//! `hds_delegate.`: the stream on which a control plane says what to check and hears what was found (HDS).

use super::metrics;

metrics! {
    values {
        ERRORS = counter "errors", "Streams that ended or could not be opened, and messages of the control plane that were refused.";
        REQUESTS = counter "requests", "Messages of the control plane that say what to check.";
        RESPONSES = counter "responses", "Messages to the control plane, the first one of each stream included.";
        UPDATES = counter "updates", "Messages of the control plane that came into force.";
    }
    histograms {
    }
}
