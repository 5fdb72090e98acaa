//! The body of a ClientHello (RFC 8446 4.1.2): everything is walked and checked, four extensions are understood.

use super::ClientHello;
use super::reader::{Reader, names};

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const PRE_SHARED_KEY: u16 = 41;
const SUPPORTED_VERSIONS: u16 = 43;
/// `HostName` at most: a DNS name, as BoringSSL has it.
const SERVER_NAME_BYTES_MAX: usize = 255;

/// The parts of interest; `None` when it breaks a rule.
pub fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    let mut hello = ClientHello { legacy_version: body.u16()?, ..ClientHello::default() };
    body.take(32)?;
    let session_id = body.vector8()?;
    let cipher_suites = body.vector16()?;
    let compression_methods = body.vector8()?;
    let sound = session_id.len() <= 32
        && !cipher_suites.is_empty()
        && cipher_suites.len().is_multiple_of(2)
        && compression_methods.contains(&0);
    if !sound {
        return None;
    }
    // TLS 1.2 allows a ClientHello without extensions (RFC 5246 7.4.1.2).
    if body.0.is_empty() {
        return Some(hello);
    }
    let extensions = body.vector16()?;
    body.end(())?;
    read_extensions(Reader(extensions), &mut hello)?;
    Some(hello)
}

fn read_extensions(mut extensions: Reader<'_>, hello: &mut ClientHello) -> Option<()> {
    let mut seen = Vec::with_capacity(32);
    while !extensions.0.is_empty() {
        let (kind, data) = (extensions.u16()?, extensions.vector16()?);
        seen.push(kind);
        match kind {
            SERVER_NAME => hello.server_name = Some(server_name(data)?),
            // As in Envoy: what is wrong with these two is for the handshake to tell.
            ALPN => hello.alpn = protocol_names(data).unwrap_or_default().into(),
            SUPPORTED_VERSIONS => hello.supported_versions = versions(data).unwrap_or_default(),
            PRE_SHARED_KEY => hello.offers_psk = true,
            _ => {}
        }
    }
    // No extension comes twice (RFC 8446 4.2).
    seen.sort_unstable();
    seen.windows(2).all(|pair| pair[0] != pair[1]).then_some(())
}

/// Exactly one name of the type host_name, as BoringSSL and others have it: RFC 6066 3 allows no second one of a type
/// and defines no other type.
fn server_name(data: &[u8]) -> Option<Box<str>> {
    let mut data = Reader(data);
    let mut list = Reader(data.vector16()?);
    data.end(())?;
    let (kind, name) = (list.u8()?, list.vector16()?);
    list.end(())?;
    let sound = kind == 0
        && (1..=SERVER_NAME_BYTES_MAX).contains(&name.len())
        && name.iter().all(u8::is_ascii_graphic);
    let name = sound.then(|| std::str::from_utf8(name).ok()).flatten()?;
    Some(name.to_ascii_lowercase().into_boxed_str())
}

/// ProtocolNameList (RFC 7301 3.1): names of 1 to 255 octets, at least one.
fn protocol_names(data: &[u8]) -> Option<&[u8]> {
    let mut data = Reader(data);
    let list = data.vector16()?;
    data.end(())?;
    let told: usize = names(list).take_while(|name| !name.is_empty()).map(|name| name.len() + 1).sum();
    (!list.is_empty() && told == list.len()).then_some(list)
}

/// The ClientHello form of SupportedVersions.
fn versions(data: &[u8]) -> Option<Vec<u16>> {
    let mut data = Reader(data);
    let list = data.vector8()?;
    data.end(())?;
    let sound = !list.is_empty() && list.len().is_multiple_of(2);
    sound.then(|| list.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
}
