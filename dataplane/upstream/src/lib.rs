//! Clusters, endpoints, load balancing, circuit breakers and connection pools; no I/O
