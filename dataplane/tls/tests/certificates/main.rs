//! Certificates and their verification, against corpora and against certificates made here.

mod authority;
mod corpus;
mod facts;
mod known_chains;
mod limbo;
mod meshes;
mod rules;
mod secrets;
mod self_issued;
mod verification;
