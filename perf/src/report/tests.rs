//! Synthetic results through the whole of the report.
