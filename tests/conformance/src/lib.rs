//! Corpora and vectors replayed against the codecs and the configuration
