//! The validated, immutable configuration model of the data plane
