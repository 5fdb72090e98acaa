//! Route selection over the immutable model
