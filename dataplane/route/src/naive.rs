//! The oracle: the same decisions written as simply as possible, with allocations and without order tricks.
