//! The one conformance binary: a module per corpus.

mod bootstrap;
mod bootstrap_exceptions;
mod resource_exceptions;
mod resource_files;
mod resources;
mod http1;
mod url;
