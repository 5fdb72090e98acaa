//! The one conformance binary: a module per corpus.

mod http1;
mod url;
