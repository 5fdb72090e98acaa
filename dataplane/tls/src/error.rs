//! What can go wrong with a connection or a context, and Envoy's words for it.

use std::borrow::Cow;
use std::fmt;

use millrace_base::Origin;
use millrace_config::SecretId;

use crate::certificate::CertificateError;
use crate::verify::{FailureKind, VerifyError};

/// What is wrong with a record once the handshake is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// No record of TLS.
    Malformed,
    /// Longer than RFC 8446 5.1 and 5.2 allow.
    Overflow,
    /// Not sealed with the keys of this connection, or changed on its way.
    BadMac,
    /// In clear text although keys are in use.
    UnexpectedType,
    /// Nothing but padding.
    NoType,
}

/// What Envoy 1.40 says where a certificate is required and none came.
const NO_CERTIFICATE: (u32, Cow<'static, str>) = (
    192,
    Cow::Borrowed("PEER_DID_NOT_RETURN_A_CERTIFICATE:peer did not provide required client certificate"),
);

/// Why a session ended. The alert that tells the peer was written before this is returned.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsError {
    /// The client speaks HTTP in clear text.
    PlainHttp,
    /// The client does not speak TLS.
    NotTls,
    /// The ClientHello is not whole within 16 KiB.
    HelloTooLarge,
    /// The ClientHello breaks the rules of its format.
    MalformedHello,
    /// A record of an established connection.
    Record(RecordError),
    /// A message that has no place there.
    UnexpectedMessage,
    /// A message that breaks the rules of its format.
    Decode,
    /// Key updates, tickets, empty records or warnings without any data in between.
    Flood,
    /// TLS 1.2's renegotiation, which nobody here does.
    Renegotiation,
    /// The peer sent this fatal alert (RFC 8446 6.2).
    Alert(u8),
    /// The peer's certificate was refused.
    Verify(VerifyError),
    /// rustls refused the handshake.
    Handshake(rustls::Error),
    /// The server name is none that TLS can carry.
    ServerName,
    /// TLS 1.2 keys must not encrypt more.
    Exhausted,
    /// The session has ended already, or is not established yet.
    Closed,
}

impl TlsError {
    /// Whose fault it is; `peer` is the party at the other end.
    pub fn blame(&self, peer: Origin) -> Origin {
        match self {
            Self::ServerName | Self::Exhausted | Self::Closed => Origin::Local,
            Self::Handshake(error) if is_ours(error) => Origin::Local,
            _ => peer,
        }
    }

    /// Which of `ssl.*` counts it.
    pub fn counter(&self) -> FailureKind {
        match self {
            Self::Verify(error) => error.kind(),
            Self::Handshake(rustls::Error::NoCertificatesPresented) => FailureKind::VerifyNoCert,
            _ => FailureKind::ConnectionError,
        }
    }

    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%` or `%UPSTREAM_TRANSPORT_FAILURE_REASON%`, as Envoy prints
    /// BoringSSL's error queue.
    pub fn details(&self) -> Cow<'static, str> {
        let (code, reason): (u32, Cow<'static, str>) = match self {
            Self::PlainHttp => (156, "HTTP_REQUEST".into()),
            Self::NotTls => (247, "WRONG_VERSION_NUMBER".into()),
            Self::HelloTooLarge => (150, "EXCESSIVE_MESSAGE_SIZE".into()),
            Self::MalformedHello => (131, "CLIENTHELLO_PARSE_FAILED".into()),
            Self::Record(RecordError::BadMac) => (139, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC".into()),
            Self::Record(RecordError::Overflow) => (146, "ENCRYPTED_LENGTH_TOO_LONG".into()),
            Self::Record(RecordError::Malformed) => (247, "WRONG_VERSION_NUMBER".into()),
            Self::Record(RecordError::UnexpectedType) => (251, "INVALID_OUTER_RECORD_TYPE".into()),
            Self::Record(RecordError::NoType) => (138, "DECRYPTION_FAILED".into()),
            Self::UnexpectedMessage => (223, "UNEXPECTED_MESSAGE".into()),
            Self::Decode => (137, "DECODE_ERROR".into()),
            Self::Flood => (260, "TOO_MANY_KEY_UPDATES".into()),
            Self::Renegotiation => (182, "NO_RENEGOTIATION".into()),
            Self::Alert(alert) => (1_000 + u32::from(*alert), alert_reason(*alert)),
            Self::Verify(VerifyError::NoCertificate) => NO_CERTIFICATE,
            Self::Verify(error) => (125, format!("CERTIFICATE_VERIFY_FAILED:{}", error.details()).into()),
            Self::Handshake(error) => handshake_reason(error),
            Self::ServerName => (213, "SSL3_EXT_INVALID_SERVERNAME".into()),
            Self::Exhausted => (136, "DATA_LENGTH_TOO_LONG".into()),
            Self::Closed => (194, "PROTOCOL_IS_SHUTDOWN".into()),
        };
        // Library 16 (SSL) in the upper byte, as ERR_PACK does.
        let packed = (16 << 24) | code;
        format!("TLS_error:|{packed}:SSL routines:OPENSSL_internal:{reason}:TLS_error_end").into()
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.details())
    }
}

impl std::error::Error for TlsError {}

fn is_ours(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::General(_)
            | rustls::Error::FailedToGetCurrentTime
            | rustls::Error::FailedToGetRandomBytes
            | rustls::Error::EncryptError
            | rustls::Error::Other(_)
    )
}

/// BoringSSL's name for what rustls found.
fn handshake_reason(error: &rustls::Error) -> (u32, Cow<'static, str>) {
    use rustls::{Error, PeerIncompatible as Incompatible, PeerMisbehaved as Misbehaved};
    match error {
        Error::NoCertificatesPresented => NO_CERTIFICATE,
        Error::PeerIncompatible(
            Incompatible::Tls12NotOffered
            | Incompatible::Tls12NotOfferedOrEnabled
            | Incompatible::ServerTlsVersionIsDisabledByOurConfig
            | Incompatible::ServerDoesNotSupportTls12Or13
            | Incompatible::SupportedVersionsExtensionRequired,
        ) => (240, "UNSUPPORTED_PROTOCOL".into()),
        Error::PeerIncompatible(Incompatible::NoCipherSuitesInCommon) => (184, "NO_SHARED_CIPHER".into()),
        Error::PeerIncompatible(Incompatible::NoKxGroupsInCommon) => (266, "NO_SHARED_GROUP".into()),
        Error::PeerIncompatible(
            Incompatible::NoSignatureSchemesInCommon
            | Incompatible::NoCertificateRequestSignatureSchemesInCommon,
        ) => (253, "NO_COMMON_SIGNATURE_ALGORITHMS".into()),
        Error::InappropriateHandshakeMessage { .. } | Error::InappropriateMessage { .. } => {
            (223, "UNEXPECTED_MESSAGE".into())
        }
        Error::InvalidMessage(_) => (137, "DECODE_ERROR".into()),
        Error::DecryptError => (139, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC".into()),
        Error::PeerSentOversizedRecord => (146, "ENCRYPTED_LENGTH_TOO_LONG".into()),
        Error::InvalidCertificate(rustls::CertificateError::InvalidPurpose) => {
            (302, "KEY_USAGE_BIT_INCORRECT".into())
        }
        Error::InvalidCertificate(_) => (125, "CERTIFICATE_VERIFY_FAILED".into()),
        Error::NoApplicationProtocol => (307, "NO_APPLICATION_PROTOCOL".into()),
        Error::PeerMisbehaved(Misbehaved::SelectedUnofferedApplicationProtocol) => {
            (259, "INVALID_ALPN_PROTOCOL".into())
        }
        Error::PeerMisbehaved(Misbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported) => {
            (297, "TLS13_DOWNGRADE".into())
        }
        other => (215, format!("SSL_HANDSHAKE_FAILURE:{other}").into()),
    }
}

/// BoringSSL's name for an alert of the peer.
fn alert_reason(alert: u8) -> Cow<'static, str> {
    let name = match alert {
        0 => "SSLV3_ALERT_CLOSE_NOTIFY",
        10 => "SSLV3_ALERT_UNEXPECTED_MESSAGE",
        20 => "SSLV3_ALERT_BAD_RECORD_MAC",
        21 => "TLSV1_ALERT_DECRYPTION_FAILED",
        22 => "TLSV1_ALERT_RECORD_OVERFLOW",
        30 => "SSLV3_ALERT_DECOMPRESSION_FAILURE",
        40 => "SSLV3_ALERT_HANDSHAKE_FAILURE",
        41 => "SSLV3_ALERT_NO_CERTIFICATE",
        42 => "SSLV3_ALERT_BAD_CERTIFICATE",
        43 => "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        44 => "SSLV3_ALERT_CERTIFICATE_REVOKED",
        45 => "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        46 => "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        47 => "SSLV3_ALERT_ILLEGAL_PARAMETER",
        48 => "TLSV1_ALERT_UNKNOWN_CA",
        49 => "TLSV1_ALERT_ACCESS_DENIED",
        50 => "TLSV1_ALERT_DECODE_ERROR",
        51 => "TLSV1_ALERT_DECRYPT_ERROR",
        70 => "TLSV1_ALERT_PROTOCOL_VERSION",
        71 => "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        80 => "TLSV1_ALERT_INTERNAL_ERROR",
        86 => "TLSV1_ALERT_INAPPROPRIATE_FALLBACK",
        90 => "TLSV1_ALERT_USER_CANCELLED",
        100 => "TLSV1_ALERT_NO_RENEGOTIATION",
        110 => "TLSV1_ALERT_UNSUPPORTED_EXTENSION",
        112 => "TLSV1_ALERT_UNRECOGNIZED_NAME",
        113 => "TLSV1_ALERT_BAD_CERTIFICATE_STATUS_RESPONSE",
        115 => "TLSV1_ALERT_UNKNOWN_PSK_IDENTITY",
        116 => "TLSV1_ALERT_CERTIFICATE_REQUIRED",
        120 => "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        121 => "TLSV1_ALERT_ECH_REQUIRED",
        other => return format!("unknown alert {other}").into(),
    };
    name.into()
}

/// Why a context cannot serve.
#[derive(Clone, Debug, PartialEq)]
pub enum ContextError {
    /// A secret has not come, or is of another kind.
    MissingSecret(SecretId),
    /// A server without any certificate.
    NoCertificate,
    /// A certificate, key, bundle or list.
    Certificate(CertificateError),
    /// Versions, ciphers, curves or signature algorithms leave nothing to speak.
    Parameters,
    /// rustls refused the key.
    Key,
}

impl From<CertificateError> for ContextError {
    fn from(error: CertificateError) -> Self {
        Self::Certificate(error)
    }
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingSecret(_) => f.write_str("a secret has not come yet"),
            Self::NoCertificate => f.write_str("no TLS certificates found for server context"),
            Self::Certificate(error) => write!(f, "{error}"),
            Self::Parameters => f.write_str("tls_params leave nothing that this build speaks"),
            Self::Key => f.write_str("the private key cannot be used"),
        }
    }
}

impl std::error::Error for ContextError {}
