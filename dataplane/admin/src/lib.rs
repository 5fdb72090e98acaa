//! Envoy's admin endpoints as pure request to response
