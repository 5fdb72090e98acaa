//! CPUs: which ones this process may use, and pinning a thread to one.
