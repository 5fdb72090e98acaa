//! As much of an HTTP/2 client (RFC 9113) as counts answers: frames are told apart, header blocks are not decoded.

use super::exchange::Answers;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// Length, type, flags and stream of a frame.
const HEAD: usize = 9;
const FRAME_MAX: usize = 16_384;
const WINDOW_MAX: u32 = (1 << 31) - 1;
const WINDOW_DEFAULT: u32 = 65_535;
/// The connection's window is opened again after so many octets.
const REOPEN: u32 = 1 << 28;
const INITIAL_WINDOW_SIZE: u16 = 4;
const HEADER_TABLE_SIZE: u16 = 1;
const TABLE_DEFAULT: u32 = 4096;
/// Header blocks (RFC 7541): GET, https and / of the static table, then two fields that the first request puts into
/// the dynamic table and every later one names there, as h2load does.
const FIXED: [u8; 3] = [0x82, 0x87, 0x84];
const AUTHORITY: &[u8] = b"perf.test";
const USER_AGENT: &[u8] = b"perf";
const STATUS_200: u8 = 0x88;

/// One connection.
pub(super) struct Http2 {
    /// A frame that is not whole yet.
    pending: Vec<u8>,
    requests: u32,
    /// Octets of bodies since the window was last opened.
    taken: u32,
    /// Streams whose header block named another status than 200.
    refused: Vec<u32>,
}

impl Http2 {
    /// The preface and windows that are never in the way.
    pub(super) fn begin(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(PREFACE);
        let window = WINDOW_MAX.to_be_bytes();
        frame(out, SETTINGS, 0, 0, &[&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window].concat());
        frame(out, WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - WINDOW_DEFAULT).to_be_bytes());
        Self { pending: Vec::new(), requests: 0, taken: 0, refused: Vec::new() }
    }

    pub(super) fn request(&mut self, out: &mut Vec<u8>) {
        let stream = self.requests * 2 + 1;
        let mut block = FIXED.to_vec();
        if self.requests == 0 {
            for (name, value) in [(0x41, AUTHORITY), (0x7a, USER_AGENT)] {
                block.extend([name, value.len() as u8]);
                block.extend_from_slice(value);
            }
        } else {
            block.extend([0xbf, 0xbe]);
        }
        self.requests += 1;
        frame(out, HEADERS, END_STREAM | END_HEADERS, stream, &block);
    }

    pub(super) fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Answers, &'static str> {
        let mut answers = Answers::default();
        let held = std::mem::take(&mut self.pending);
        let joined;
        let mut rest = if held.is_empty() {
            bytes
        } else {
            joined = [&held[..], bytes].concat();
            &joined[..]
        };
        while let Some((head, payload)) = split(rest)? {
            self.take(head, payload, out, &mut answers)?;
            rest = &rest[HEAD + payload.len()..];
        }
        self.pending = rest.to_vec();
        if self.taken > REOPEN {
            frame(out, WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
            self.taken = 0;
        }
        Ok(answers)
    }

    fn take(
        &mut self,
        (kind, flags, stream): (u8, u8, u32),
        payload: &[u8],
        out: &mut Vec<u8>,
        answers: &mut Answers,
    ) -> Result<(), &'static str> {
        match kind {
            DATA => self.taken += payload.len() as u32,
            HEADERS => {
                // Updates of the table's size may stand first.
                let status = payload.iter().find(|octet| **octet & 0xe0 != 0x20);
                if status != Some(&STATUS_200) {
                    self.refused.push(stream);
                }
            }
            SETTINGS if flags & ACK == 0 => {
                if payload.chunks_exact(6).any(shrinks_table) {
                    return Err("a peer that wants a smaller header table");
                }
                frame(out, SETTINGS, ACK, 0, &[]);
            }
            PING if flags & ACK == 0 => frame(out, PING, ACK, 0, payload),
            RST_STREAM => return Err("a stream was reset"),
            GOAWAY => return Err("GOAWAY"),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            let refused = self.refused.iter().position(|s| *s == stream);
            refused.map(|n| self.refused.swap_remove(n));
            answers.add(refused.is_none());
        }
        Ok(())
    }
}

fn shrinks_table(setting: &[u8]) -> bool {
    let [a, b, value @ ..] = setting else { return false };
    let value = <[u8; 4]>::try_from(value).map_or(0, u32::from_be_bytes);
    u16::from_be_bytes([*a, *b]) == HEADER_TABLE_SIZE && value < TABLE_DEFAULT
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend([kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

type Head = (u8, u8, u32);

/// The first frame, if it is whole.
fn split(bytes: &[u8]) -> Result<Option<(Head, &[u8])>, &'static str> {
    let Some([a, b, c, kind, flags, s0, s1, s2, s3]) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if length > FRAME_MAX {
        return Err("a frame that is too long");
    }
    let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]) & WINDOW_MAX;
    Ok(bytes.get(HEAD..HEAD + length).map(|payload| ((*kind, *flags, stream), payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_and_settings_acknowledged() {
        let mut server = Vec::new();
        frame(&mut server, SETTINGS, 0, 0, &[]);
        frame(&mut server, HEADERS, END_HEADERS, 1, &[0x20, STATUS_200, 0x7f]);
        frame(&mut server, HEADERS, END_HEADERS | END_STREAM, 3, &[0x8d]);
        frame(&mut server, DATA, END_STREAM, 1, b"body");
        for size in [1, 10, server.len()] {
            let mut out = Vec::new();
            let mut client = Http2::begin(&mut out);
            assert!(out.starts_with(PREFACE));
            out.clear();
            let mut sum = (0, 0);
            for piece in server.chunks(size) {
                let got = client.receive(piece, &mut out).unwrap();
                sum = (sum.0 + got.good, sum.1 + got.bad);
            }
            assert_eq!((sum, out.len()), ((1, 1), HEAD), "in pieces of {size}");
        }
    }

    #[test]
    fn later_requests_name_what_the_first_one_indexed() {
        let mut client = Http2::begin(&mut Vec::new());
        let (mut first, mut second) = (Vec::new(), Vec::new());
        client.request(&mut first);
        client.request(&mut second);
        assert!(first.len() > second.len());
        assert_eq!(split(&second).unwrap().unwrap(), ((HEADERS, 5, 3), &[0x82, 0x87, 0x84, 0xbf, 0xbe][..]));
    }

    #[test]
    fn what_cannot_be_counted_is_an_error() {
        let refuse = |kind, payload: &[u8]| {
            let mut bytes = Vec::new();
            frame(&mut bytes, kind, 0, 0, payload);
            Http2::begin(&mut Vec::new()).receive(&bytes, &mut Vec::new())
        };
        assert!(refuse(GOAWAY, &[0; 8]).is_err() && refuse(RST_STREAM, &[0; 4]).is_err());
        assert!(refuse(SETTINGS, &[0, 1, 0, 0, 0, 0]).unwrap_err().contains("table"));
        assert!(split(&[1, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
