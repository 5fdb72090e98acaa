//! The first bytes of a connection, before anybody is chosen to serve it.
