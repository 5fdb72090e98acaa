//! Counters, histograms and access logs, rendered only when somebody reads them
