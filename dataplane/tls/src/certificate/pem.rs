//! PEM (RFC 7468) as BoringSSL reads it: blocks start at the beginning of a line, anything between them is passed
//! over, and a block that cannot be read spoils the text.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::MAX_PEM_BYTES;

/// Why a text is not PEM. Which part of a secret it was decides about the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PemFault {
    /// A block without its end, or inside another.
    Armour,
    /// A block whose content is not base64.
    Base64,
    TooLarge,
}

/// One block: its label and the whole of its text, from `-----BEGIN` to the end of the last line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    pub(super) label: &'a [u8],
    pub(super) text: &'a [u8],
    body: &'a [u8],
}

impl Block<'_> {
    /// `X509 CERTIFICATE` is an old name of the same thing; `TRUSTED CERTIFICATE` has OpenSSL's settings behind the
    /// certificate.
    pub(super) fn is_certificate(&self) -> bool {
        matches!(self.label, b"CERTIFICATE" | b"X509 CERTIFICATE" | b"TRUSTED CERTIFICATE")
    }

    pub(super) fn is_crl(&self) -> bool {
        self.label == b"X509 CRL"
    }

    pub(super) fn is_private_key(&self) -> bool {
        matches!(
            self.label,
            b"PRIVATE KEY" | b"RSA PRIVATE KEY" | b"EC PRIVATE KEY" | b"ENCRYPTED PRIVATE KEY"
        )
    }

    /// PKCS#8 that is encrypted, or a traditional key with `Proc-Type: 4,ENCRYPTED` (RFC 1421 4.6.1.1).
    pub(super) fn is_encrypted(&self) -> bool {
        self.label == b"ENCRYPTED PRIVATE KEY"
            || lines(self.body).any(|(line, _)| line.starts_with(b"Proc-Type:"))
    }

    /// The bytes that the block holds. Not for private keys, whose text is decoded in constant time.
    pub(super) fn decode(&self) -> Result<Vec<u8>, PemFault> {
        let mut text = Vec::with_capacity(self.body.len() + 64);
        text.extend_from_slice(b"-----BEGIN CERTIFICATE-----\n");
        text.extend_from_slice(self.body);
        text.extend_from_slice(b"\n-----END CERTIFICATE-----\n");
        let der = CertificateDer::from_pem_slice(&text).map_err(|_| PemFault::Base64)?;
        Ok(der.as_ref().to_vec())
    }
}

/// The blocks of a text, in order.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, PemFault> {
    if text.len() > MAX_PEM_BYTES {
        return Err(PemFault::TooLarge);
    }
    let mut blocks = Vec::new();
    let mut open: Option<(&[u8], usize, usize)> = None;
    for (line, at) in lines(text) {
        let next = (at + line.len() + 1).min(text.len());
        if let Some(label) = between(line, b"-----BEGIN ") {
            if open.is_some() {
                return Err(PemFault::Armour);
            }
            open = Some((label, at, next));
        } else if let Some((label, start, body)) = open
            && line.starts_with(b"-----END ")
        {
            if between(line, b"-----END ") != Some(label) {
                return Err(PemFault::Armour);
            }
            blocks.push(Block { label, text: &text[start..next], body: &text[body..at] });
            open = None;
        }
    }
    if open.is_some() { Err(PemFault::Armour) } else { Ok(blocks) }
}

/// Lines without their ends, each with its place in the text.
fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut at = 0;
    text.split(|&byte| byte == b'\n').map(move |line| {
        let start = at;
        at += line.len() + 1;
        (line, start)
    })
}

fn between<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    line.trim_ascii_end().strip_prefix(start)?.strip_suffix(b"-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    #[test]
    fn text_between_blocks_is_passed_over_and_line_ends_do_not_matter() {
        let text = format!("words\n{BLOCK}# more\n{}", BLOCK.replace('\n', "\r\n"));
        let blocks = blocks(text.as_bytes()).unwrap();
        assert_eq!(blocks.len(), 2);
        assert!(blocks.iter().all(|block| block.decode() == Ok(vec![0x30, 0])));
        assert_eq!(blocks[0].text, BLOCK.as_bytes());
    }

    #[test]
    fn a_block_must_start_its_line_and_end_as_it_began() {
        assert!(blocks(format!("  {BLOCK}").as_bytes()).unwrap().is_empty());
        for bad in [
            "-----BEGIN CERTIFICATE-----\nMAA=\n",
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END X509 CRL-----\n",
        ] {
            assert_eq!(blocks(bad.as_bytes()).unwrap_err(), PemFault::Armour);
        }
        let nested = format!("-----BEGIN CERTIFICATE-----\n{BLOCK}");
        assert_eq!(blocks(nested.as_bytes()).unwrap_err(), PemFault::Armour);
    }

    #[test]
    fn a_block_that_is_not_base64_is_refused() {
        let text = BLOCK.replace("MAA=", "!!!!");
        assert_eq!(blocks(text.as_bytes()).unwrap()[0].decode(), Err(PemFault::Base64));
    }
}
