//! The HTTP/2 codec from outside: both ends back to back, every error with its scope and code, floods, the corpora.

mod client_errors;
mod connect;
mod corpora;
mod duplex;
mod floods;
mod flow;
mod goaway;
mod heads;
mod server_errors;
mod support;
