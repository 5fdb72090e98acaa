//! The handshake message within its TLS records (RFC 8446 5.1): one record as a rule, any number of them by right.

use std::borrow::Cow;

use super::HelloError;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// `ContentType`, `legacy_record_version`, `length`.
const RECORD_HEADER_BYTES: usize = 5;
/// `TLSPlaintext.length` at most.
const RECORD_BYTES_MAX: usize = 1 << 14;
/// `msg_type` and `length`.
const MESSAGE_HEADER_BYTES: usize = 4;

/// A whole message.
pub struct Message<'a> {
    /// Behind its header.
    pub body: Cow<'a, [u8]>,
    /// Bytes up to the end of its last record.
    pub end: usize,
}

/// The first message of the connection, which must be a ClientHello; `None` when more bytes are needed.
pub fn message(bytes: &[u8], bytes_max: usize) -> Result<Option<Message<'_>>, HelloError> {
    let mut at = 0;
    let mut joined: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    while let Some(fragment) = record(&bytes[at..], at == 0)? {
        let whole = fragment.len() == fragment.declared;
        match (&mut joined, fragment.bytes) {
            (Cow::Borrowed([]), first) => joined = Cow::Borrowed(first),
            (joined, more) => joined.to_mut().extend_from_slice(more),
        }
        // Record headers that have come, those before the message included.
        let overhead = at + RECORD_HEADER_BYTES - (joined.len() - fragment.len());
        let length = message_length(&joined)?;
        if length.is_some_and(|length| overhead + MESSAGE_HEADER_BYTES + length > bytes_max) {
            return Err(HelloError::TooLarge);
        }
        if !whole {
            break;
        }
        at += RECORD_HEADER_BYTES + fragment.declared;
        if at > bytes_max {
            return Err(HelloError::TooLarge);
        }
        let end = length.map_or(usize::MAX, |length| MESSAGE_HEADER_BYTES + length);
        // The record ends with the message: keys change behind it (RFC 8446 5.1).
        if joined.len() > end {
            return Err(HelloError::Malformed);
        }
        if joined.len() == end {
            return Ok(Some(Message { body: without_header(joined), end: at }));
        }
    }
    if bytes.len() >= bytes_max { Err(HelloError::TooLarge) } else { Ok(None) }
}

/// How many bytes more must come at least before the message of [`message`] can be whole: at least one. Whoever waits for
/// so many before asking again reads a hello in records of one byte a few dozen times, not once for each byte.
pub fn missing(bytes: &[u8]) -> usize {
    let (mut at, mut have) = (0, 0);
    let mut header = [0; MESSAGE_HEADER_BYTES];
    while let Ok(Some(fragment)) = record(&bytes[at..], at == 0) {
        for (place, byte) in header.iter_mut().skip(have).zip(fragment.bytes) {
            *place = *byte;
        }
        have += fragment.len();
        let rest = fragment.declared - fragment.len();
        if rest > 0 {
            let wanted = wanted(header, have);
            return if wanted > rest { wanted + RECORD_HEADER_BYTES } else { rest };
        }
        at += RECORD_HEADER_BYTES + fragment.declared;
    }
    let begun = bytes.len() - at;
    (RECORD_HEADER_BYTES + wanted(header, have)).saturating_sub(begun).max(1)
}

/// Octets of the message that are missing when the first `have` of them have come.
fn wanted(header: [u8; MESSAGE_HEADER_BYTES], have: usize) -> usize {
    let [_, a, b, c] = header;
    let whole = match have >= MESSAGE_HEADER_BYTES {
        true => MESSAGE_HEADER_BYTES + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)),
        false => MESSAGE_HEADER_BYTES,
    };
    whole.saturating_sub(have).max(1)
}

fn without_header(message: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match message {
        Cow::Borrowed(whole) => Cow::Borrowed(&whole[MESSAGE_HEADER_BYTES..]),
        Cow::Owned(mut whole) => {
            whole.drain(..MESSAGE_HEADER_BYTES);
            Cow::Owned(whole)
        }
    }
}

/// What has come of a record.
struct Fragment<'a> {
    bytes: &'a [u8],
    declared: usize,
}

impl Fragment<'_> {
    fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The record at the start of `bytes`; `None` while its header is not whole.
fn record(bytes: &[u8], first: bool) -> Result<Option<Fragment<'_>>, HelloError> {
    let wrong = if first { HelloError::NotTls } else { HelloError::Malformed };
    if bytes.first().is_some_and(|kind| *kind != HANDSHAKE) || bytes.get(1).is_some_and(|major| *major != 3) {
        return Err(wrong);
    }
    let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER_BYTES) else { return Ok(None) };
    let declared = usize::from(u16::from_be_bytes([header[3], header[4]]));
    // Handshake records are never empty (RFC 8446 5.1).
    if declared == 0 || declared > RECORD_BYTES_MAX {
        return Err(wrong);
    }
    Ok(Some(Fragment { bytes: &rest[..declared.min(rest.len())], declared }))
}

/// Length of the message's body, once its header is whole.
fn message_length(message: &[u8]) -> Result<Option<usize>, HelloError> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloError::Malformed);
    }
    Ok(message
        .first_chunk::<MESSAGE_HEADER_BYTES>()
        .map(|[_, a, b, c]| usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c)))
}
