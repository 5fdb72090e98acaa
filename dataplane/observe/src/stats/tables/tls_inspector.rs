//! `tls_inspector.`: the listener filter of this name, of all listeners.

use super::metrics;

metrics! {
    values {
        ALPN_FOUND = counter "alpn_found", "ClientHellos with ALPN.";
        ALPN_NOT_FOUND = counter "alpn_not_found", "ClientHellos without ALPN.";
        CLIENT_HELLO_TOO_LARGE = counter "client_hello_too_large", "Connections closed for the size of their ClientHello.";
        SNI_FOUND = counter "sni_found", "ClientHellos with a server name.";
        SNI_NOT_FOUND = counter "sni_not_found", "ClientHellos without a server name.";
        TLS_FOUND = counter "tls_found", "Connections that are TLS.";
        TLS_NOT_FOUND = counter "tls_not_found", "Connections that are not.";
    }
    histograms {
        BYTES_PROCESSED = "bytes_processed", "Bytes looked at, of each connection.";
    }
}
