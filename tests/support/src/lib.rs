//! Strict recording upstream, ledger client and process harness for tests
