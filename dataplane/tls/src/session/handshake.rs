//! A handshake, driven by rustls's unbuffered connections: one record in, what must be sent out.

use std::rc::Rc;
use std::sync::Arc;

use millrace_base::{LocalCertificate, Origin};
use millrace_inspect::{ClientHello, HelloError, client_hello, client_hello_missing};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{DnsName, IpAddr, Ipv4Addr, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{AlertDescription, CommonState, Error, ProtocolVersion};

use super::ClientOptions;
use super::established::Established;
use super::key_schedule::KeySchedule;
use crate::client::ClientContext;
use crate::error::{RecordError, TlsError};
use crate::facts::{Known, facts};
use crate::record::{Framed, PLAINTEXT_MAX, Protection, content, frame};
use crate::server::ServerContext;
use crate::verify::{Outcome, Verified, with_connection};

/// Bytes of a handshake message that has not come whole; rustls takes no more than 64 KiB either.
const PENDING_MAX: usize = 68 << 10;
/// Records of one handshake, so that it cannot be drawn out for ever.
const RECORDS_MAX: u32 = 4_096;

enum Connection {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// Who the connection belongs to.
enum Context {
    Server(Rc<ServerContext>),
    Client(Rc<ClientContext>),
}

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    NeedMore(usize),
    Progress,
    Finished,
}

/// What the bytes before a handshake are.
pub(super) enum Hello {
    Missing(usize),
    /// The ClientHello was so many bytes.
    Begun(Box<Handshake>, Advance, usize),
}

/// One handshake.
pub(super) struct Handshake {
    connection: Connection,
    context: Context,
    /// Records of a message whose end is missing, as rustls left them.
    pending: Vec<u8>,
    records: u32,
    server_name: Box<str>,
    extra_dns_san: Option<Box<str>>,
    verified: Option<Verified>,
    /// The certificate that was chosen for the client.
    certificate: Option<Arc<LocalCertificate>>,
    /// With which algorithm the peer signed; 0 before.
    signature_scheme: u16,
}

/// What one call into rustls came to.
enum Flow {
    Continue,
    Blocked,
    Finished,
}

impl Handshake {
    /// Begins with the ClientHello in `input`, once it is whole: what it offers decides which of the context's
    /// configurations answers.
    pub(super) fn server(
        context: &Rc<ServerContext>,
        input: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Hello, TlsError> {
        let (hello, end) = match client_hello(input) {
            Ok(Some(hello)) => {
                let end = hello.bytes;
                (hello, end)
            }
            Ok(None) => return Ok(Hello::Missing(client_hello_missing(input))),
            Err(HelloError::TooLarge) => {
                plain_alert(AlertDescription::DecodeError, out);
                return Err(TlsError::HelloTooLarge);
            }
            Err(HelloError::NotTls) => {
                let error = clear_text(input);
                // BoringSSL has nothing to say to HTTP.
                if error == TlsError::NotTls {
                    plain_alert(AlertDescription::ProtocolVersion, out);
                }
                return Err(error);
            }
            // rustls says what is wrong with it.
            Err(HelloError::Malformed) => match frame(input) {
                Framed::Whole(end) => (ClientHello::default(), end),
                Framed::Missing(missing) => return Ok(Hello::Missing(missing)),
                Framed::NotTls | Framed::TooLong => return Err(refuse_hello(out)),
            },
        };
        let malformed = hello.bytes == 0;
        if !malformed && !offers_a_version(&hello) {
            plain_alert(AlertDescription::ProtocolVersion, out);
            let error = rustls::PeerIncompatible::Tls12NotOfferedOrEnabled;
            return Err(TlsError::Handshake(error.into()));
        }
        let config = context.config(&hello).clone();
        let connection = UnbufferedServerConnection::new(config).map_err(TlsError::Handshake)?;
        let mut handshake = Box::new(Self {
            connection: Connection::Server(connection),
            context: Context::Server(context.clone()),
            pending: Vec::new(),
            records: 0,
            server_name: hello.server_name.unwrap_or_default(),
            extra_dns_san: None,
            verified: None,
            certificate: None,
            signature_scheme: 0,
        });
        let sent = out.len();
        let advance = handshake.take(&mut input[..end], out);
        // Another connection of the context may choose before this one is through.
        handshake.certificate = context.selection.last();
        if malformed {
            return Err(if out.len() == sent { refuse_hello(out) } else { TlsError::MalformedHello });
        }
        let advance = advance?;
        Ok(Hello::Begun(handshake, advance, end))
    }

    /// Begins with a ClientHello in `out`.
    pub(super) fn client(
        context: &Rc<ClientContext>,
        options: ClientOptions<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Self, TlsError> {
        let config = match options.extra_dns_san {
            None => &context.plain,
            Some(name) if name == options.server_name => &context.named,
            Some(_) => &context.unresumed,
        };
        let protocols = options.alpn.unwrap_or(&context.alpn).iter().map(|name| name.to_vec()).collect();
        let name = server_name(options.server_name)?;
        let connection = UnbufferedClientConnection::new_with_alpn(config.clone(), name, protocols)
            .map_err(TlsError::Handshake)?;
        let mut handshake = Self {
            connection: Connection::Client(connection),
            context: Context::Client(context.clone()),
            pending: Vec::new(),
            records: 0,
            server_name: options.server_name.into(),
            extra_dns_san: options.extra_dns_san.map(Box::from),
            verified: None,
            certificate: None,
            signature_scheme: 0,
        };
        handshake.take(&mut [], out)?;
        Ok(handshake)
    }

    /// Takes one record.
    pub(super) fn receive(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<(Advance, usize), TlsError> {
        let (end, clear) = match frame(input) {
            Framed::Whole(end) => (end, false),
            Framed::Missing(missing) => return Ok((Advance::NeedMore(missing), 0)),
            // rustls writes the alert under the keys of the moment.
            Framed::NotTls => (input.len().min(PLAINTEXT_MAX), true),
            Framed::TooLong => (input.len().min(PLAINTEXT_MAX), false),
        };
        self.records += 1;
        if self.records > RECORDS_MAX || self.pending.len() + end > PENDING_MAX {
            return Err(TlsError::Flood);
        }
        let taken = if self.pending.is_empty() {
            self.take(&mut input[..end], out)
        } else {
            let mut pending = std::mem::take(&mut self.pending);
            pending.extend_from_slice(&input[..end]);
            self.drive(&mut pending, out).and_then(|(left, finished)| {
                pending.drain(..pending.len() - left);
                self.pending = pending;
                self.judge(finished)
            })
        };
        if clear { Err(TlsError::Record(RecordError::Malformed)) } else { Ok((taken?, end)) }
    }

    /// Lets rustls take `records`, and keeps what it leaves for the next time.
    fn take(&mut self, records: &mut [u8], out: &mut Vec<u8>) -> Result<Advance, TlsError> {
        let (left, finished) = self.drive(records, out)?;
        self.pending = records[records.len() - left..].to_vec();
        self.judge(finished)
    }

    fn judge(&self, finished: bool) -> Result<Advance, TlsError> {
        match (finished, self.pending.is_empty()) {
            (false, _) => Ok(Advance::Progress),
            (true, true) => Ok(Advance::Finished),
            // The beginning of a message behind the last of the handshake would span two keys.
            (true, false) => Err(TlsError::UnexpectedMessage),
        }
    }

    /// One call into rustls: how many bytes at the end of `records` it wants to see again, and whether it is done.
    fn drive(&mut self, records: &mut [u8], out: &mut Vec<u8>) -> Result<(usize, bool), TlsError> {
        let Self { connection, extra_dns_san, .. } = self;
        let sent = out.len();
        let (result, told) = with_connection(extra_dns_san.as_deref(), || connection.drive(records, out));
        self.signature_scheme = told.signature_scheme.unwrap_or(self.signature_scheme);
        if let Outcome::Accepted(verified) = told.outcome {
            self.verified = Some(verified);
        }
        if matches!(result, Err(Error::NoCertificatesPresented)) {
            old_name_of_the_alert(out);
        }
        let ours = matches!(&result, Err(error) if !matches!(error, Error::AlertReceived(_)));
        if ours && out.len() == sent && connection.is_server_in_clear() {
            // rustls has no word for a message that another one interrupts.
            plain_alert(AlertDescription::UnexpectedMessage, out);
        }
        result.map_err(|error| match told.outcome {
            Outcome::Refused(refusal) => TlsError::Verify(refusal),
            _ => explain(error),
        })
    }

    /// Takes the secrets out of a finished handshake.
    pub(super) fn finish(self: Box<Self>) -> Result<Established, TlsError> {
        let Self { connection, context, server_name, verified, certificate, signature_scheme, .. } = *self;
        let (alpn, local, peer) = match &context {
            Context::Server(context) => (&context.alpn, &context.local, Origin::Downstream),
            Context::Client(context) => (&context.alpn, &context.local, Origin::Upstream),
        };
        let (certificate, validates) = match &context {
            Context::Server(context) => (certificate, context.validates),
            Context::Client(context) => (context.certificate.clone(), context.validates),
        };
        let validated = verified.is_some_and(|verified| verified.validated);
        let known = Known { server_name, certificate, validated, validates, signature_scheme };
        let facts = Rc::new(facts(connection.state(), known, alpn, local));
        let tls13 = connection.state().protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let (secrets, schedule) = match connection {
            Connection::Server(connection) => connection
                .dangerous_into_kernel_connection()
                .map(|(secrets, rest)| (secrets, KeySchedule::Server(rest))),
            Connection::Client(connection) => connection
                .dangerous_into_kernel_connection()
                .map(|(secrets, rest)| (secrets, KeySchedule::Client(rest))),
        }
        .map_err(TlsError::Handshake)?;
        let schedule = if tls13 { schedule } else { KeySchedule::None };
        let protection = |(sequence, secrets)| {
            Protection::new(sequence, &secrets, tls13).ok_or(TlsError::Handshake(Error::EncryptError))
        };
        Ok(Established::new(protection(secrets.rx)?, protection(secrets.tx)?, schedule, facts, peer))
    }
}

impl Connection {
    fn state(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }

    /// Gives rustls all of `records`; how many bytes at their end it wants to see again, and whether it is done.
    fn drive(&mut self, records: &mut [u8], out: &mut Vec<u8>) -> Result<(usize, bool), Error> {
        let mut start = 0;
        loop {
            let (discard, flow) = self.step(&mut records[start..], out);
            start += discard;
            match flow {
                Ok(Flow::Continue) => {}
                Ok(Flow::Blocked) => return Ok((records.len() - start, false)),
                Ok(Flow::Finished) => return Ok((records.len() - start, true)),
                Err(error) => {
                    self.flush(&mut records[start..], out);
                    return Err(error);
                }
            }
        }
    }

    fn step(&mut self, records: &mut [u8], out: &mut Vec<u8>) -> (usize, Result<Flow, Error>) {
        let (discard, flow) = match self {
            Self::Server(connection) => {
                advance::<ServerConnectionData>(connection.process_tls_records(records), out)
            }
            Self::Client(connection) => {
                advance::<ClientConnectionData>(connection.process_tls_records(records), out)
            }
        };
        match flow {
            // Data may be sent already and not yet received: the handshake goes on.
            Ok(Flow::Finished) if self.state().is_handshaking() => (discard, Ok(Flow::Blocked)),
            flow => (discard, flow),
        }
    }

    /// A server of TLS 1.2 has no keys in use before its handshake is over.
    fn is_server_in_clear(&self) -> bool {
        matches!(self, Self::Server(connection) if connection.protocol_version() == Some(ProtocolVersion::TLSv1_2))
    }

    /// Takes out what rustls still wants to send: after an error, its alert.
    fn flush(&mut self, records: &mut [u8], out: &mut Vec<u8>) {
        while self.state().wants_write() {
            let (_, flow) = self.step(records, out);
            if flow.is_err() {
                break;
            }
        }
    }
}

/// rustls's error in our words.
fn explain(error: Error) -> TlsError {
    match error {
        Error::AlertReceived(alert) => TlsError::Alert(alert.into()),
        Error::PeerSentOversizedRecord => TlsError::Record(RecordError::Overflow),
        error => TlsError::Handshake(error),
    }
}

/// Does what rustls asks for.
fn advance<Data>(status: UnbufferedStatus<'_, '_, Data>, out: &mut Vec<u8>) -> (usize, Result<Flow, Error>) {
    let UnbufferedStatus { discard, state } = status;
    let flow = state.and_then(|state| match state {
        ConnectionState::EncodeTlsData(data) => encode(data, out).map(|()| Flow::Continue),
        ConnectionState::TransmitTlsData(sent) => {
            sent.done();
            Ok(Flow::Continue)
        }
        ConnectionState::WriteTraffic(_) => Ok(Flow::Finished),
        // One record at a time: none with data gets here before the handshake is over, and early data is never
        // accepted.
        ConnectionState::ReadTraffic(_) | ConnectionState::ReadEarlyData(_) => {
            Err(Error::HandshakeNotComplete)
        }
        ConnectionState::PeerClosed | ConnectionState::Closed => {
            Err(Error::AlertReceived(AlertDescription::CloseNotify))
        }
        _ => Ok(Flow::Blocked),
    });
    (discard, flow)
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), Error> {
    let required = match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(needs)) => needs.required_size,
        Err(EncodeError::AlreadyEncoded) => return Err(Error::EncryptError),
    };
    let start = out.len();
    out.resize(start + required, 0);
    let written = data.encode(&mut out[start..]).map_err(|_| Error::EncryptError)?;
    out.truncate(start + written);
    Ok(())
}

/// A name for rustls. An address is never sent, so it also stands for none.
fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    if name.is_empty() {
        return Ok(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4]))));
    }
    if let Ok(address) = name.parse::<std::net::IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    let name = DnsName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName)?;
    Ok(ServerName::DnsName(name))
}

/// Tells HTTP from anything else that is no TLS, as BoringSSL does.
fn clear_text(input: &[u8]) -> TlsError {
    let http = [&b"GET "[..], b"POST ", b"HEAD ", b"PUT ", b"CONNE", b"DELET", b"OPTIO", b"PATCH", b"PRI *"];
    if http.iter().any(|method| input.starts_with(method)) { TlsError::PlainHttp } else { TlsError::NotTls }
}

fn refuse_hello(out: &mut Vec<u8>) -> TlsError {
    plain_alert(AlertDescription::DecodeError, out);
    TlsError::MalformedHello
}

/// True when the client speaks a version that anybody here does; rustls would complain of something else first.
fn offers_a_version(hello: &ClientHello) -> bool {
    match &hello.supported_versions[..] {
        [] => hello.legacy_version >= 0x0303,
        versions => versions.iter().any(|version| matches!(version, 0x0303 | 0x0304)),
    }
}

/// TLS 1.2 has no certificate_required (RFC 8446 6.2); there the alert stands in clear text.
fn old_name_of_the_alert(out: &mut [u8]) {
    if let Some([content::ALERT, 3, 3, 0, 2, 2, alert @ 116]) = out.last_chunk_mut() {
        *alert = AlertDescription::HandshakeFailure.into();
    }
}

/// A fatal alert before there are keys.
fn plain_alert(alert: AlertDescription, out: &mut Vec<u8>) {
    out.extend_from_slice(&[content::ALERT, 3, 3, 0, 2, 2, alert.into()]);
}
