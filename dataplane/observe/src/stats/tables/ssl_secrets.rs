//! `listener.<address>.server_ssl_socket_factory.` and `cluster.<name>.client_ssl_socket_factory.`: secrets of TLS.

use super::metrics;

metrics! {
    values {
        DOWNSTREAM_CONTEXT_SECRETS_NOT_READY = counter "downstream_context_secrets_not_ready", "Connections closed because a secret of the listener has not come.";
        SSL_CONTEXT_UPDATE_BY_SDS = counter "ssl_context_update_by_sds", "Secrets taken over.";
        UPSTREAM_CONTEXT_SECRETS_NOT_READY = counter "upstream_context_secrets_not_ready", "Connections closed because a secret of the cluster has not come.";
    }
    histograms {
    }
}
