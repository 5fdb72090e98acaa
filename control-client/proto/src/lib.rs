//! The xDS types and the proto3-JSON mapping
