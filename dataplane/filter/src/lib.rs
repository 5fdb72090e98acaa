//! Network and HTTP filters as static dispatch over pure state
