//! The one conformance binary: a module per corpus.

mod bootstrap;
mod bootstrap_exceptions;
mod grpc;
mod http1;
mod resource_exceptions;
mod resources;
mod url;
