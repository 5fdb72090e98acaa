//! TLS as the shard drives it: rustls and AWS-LC behind one small type that takes bytes and gives plaintext.

pub mod certificate;
pub mod verify;
