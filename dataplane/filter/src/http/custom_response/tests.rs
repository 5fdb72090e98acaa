//! Policies, and what they make of answers.
