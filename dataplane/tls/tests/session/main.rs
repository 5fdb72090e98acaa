//! Sessions against each other, against rustls's buffered connections, against OpenSSL, and against bad input.

mod corpus;
mod hostile;
mod openssl;
mod ours;
mod parameters;
mod resumption;
mod rustls_peers;
mod verification;
mod world;
