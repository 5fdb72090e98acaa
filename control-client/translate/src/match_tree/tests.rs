//! What matchers become, and what is refused.
