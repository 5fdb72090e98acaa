//! Certificates and their verification, against corpora and against certificates made here.

mod corpus;
mod limbo;
