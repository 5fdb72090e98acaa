//! Tests of the transports against servers in this process.
