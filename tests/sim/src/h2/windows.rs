//! Stream windows that the peer learns late: SETTINGS announce less than the codec grants, and the rest follows by
//! WINDOW_UPDATE at some time, or in between is taken back by further SETTINGS.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_base::{Rng, Time};

/// What the codec grants on every stream; also the window that holds before SETTINGS.
pub const WINDOW: u32 = 65_535;
const LATE_MICROS: u64 = 60_000;

pub const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
/// Ends a field block.
pub const END_HEADERS: u8 = 4;
/// The payload is padded.
pub const PADDED: u8 = 8;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;

#[derive(Debug)]
struct Granted {
    bytes: u32,
    due: Time,
}

/// The windows of one connection.
#[derive(Debug)]
pub struct Windows {
    announced: u32,
    streams: BTreeMap<u32, Granted>,
    /// SETTINGS will lower the initial window once more.
    lowers: bool,
}

impl Windows {
    /// Zero, small or about half of what the codec grants.
    pub fn new(rng: &mut Rng) -> Self {
        let announced = [0, 0, 1, 1 + rng.below(3000), u64::from(WINDOW) / 2][rng.below(5) as usize] as u32;
        Self { announced, streams: BTreeMap::new(), lowers: rng.chance(1, 2) }
    }

    /// Puts the announced window into the SETTINGS that the codec wrote first, behind a preface of `skip` octets.
    pub fn announce(&self, out: &mut Vec<u8>, skip: usize) {
        set(out, skip, INITIAL_WINDOW_SIZE, self.announced);
    }

    /// A stream has begun.
    pub fn opened(&mut self, id: u32, now: Time, rng: &mut Rng) {
        let due = now + Duration::from_micros(rng.below(LATE_MICROS));
        self.streams.insert(id, Granted { bytes: 0, due });
    }

    /// A stream is over.
    pub fn closed(&mut self, id: u32) {
        self.streams.remove(&id);
    }

    /// Appends the frames that are due.
    pub fn run(&mut self, out: &mut Vec<u8>, now: Time, rng: &mut Rng) {
        if self.lowers && self.announced > 0 && self.streams.len() > 1 {
            self.lowers = false;
            self.announced = rng.below(u64::from(self.announced)) as u32;
            let mut entry = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
            entry.extend_from_slice(&self.announced.to_be_bytes());
            frame(out, SETTINGS, 0, &entry);
            let due = now + Duration::from_micros(rng.below(LATE_MICROS));
            self.streams.values_mut().for_each(|stream| stream.due = due);
        }
        for (id, stream) in &mut self.streams {
            let owed = WINDOW - self.announced - stream.bytes;
            if stream.due > now || owed == 0 {
                continue;
            }
            let part = stream.bytes == 0 && rng.chance(1, 2);
            let increment = if part { 1 + rng.below(u64::from(owed.min(3000))) as u32 } else { owed };
            frame(out, WINDOW_UPDATE, *id, &increment.to_be_bytes());
            stream.bytes += increment;
            let more = stream.bytes + self.announced < WINDOW;
            stream.due =
                if more { now + Duration::from_micros(1 + rng.below(LATE_MICROS)) } else { Time::MAX };
        }
    }

    /// When a window opens next.
    pub fn next(&self) -> Time {
        self.streams.values().map(|stream| stream.due).min().unwrap_or(Time::MAX)
    }
}

/// How many streams the proxy may open, which changes once; the codec would refuse what came before it was known.
#[derive(Debug)]
pub struct StreamLimit {
    announced: u32,
    later: Option<(Time, u32)>,
}

impl StreamLimit {
    /// This many in the end, and at first sometimes fewer or none.
    pub fn new(most: u32, now: Time, rng: &mut Rng) -> Self {
        let due = now + Duration::from_micros(rng.below(LATE_MICROS));
        match rng.chance(1, 2) {
            true => Self { announced: rng.below(u64::from(most)) as u32, later: Some((due, most)) },
            false => Self { announced: most, later: None },
        }
    }

    /// Puts the first limit into the SETTINGS that the codec wrote first.
    pub fn announce(&self, out: &mut Vec<u8>) {
        set(out, 0, MAX_CONCURRENT_STREAMS, self.announced);
    }

    /// Raises the limit when it is time.
    pub fn run(&mut self, out: &mut Vec<u8>, now: Time) {
        if let Some((_, most)) = self.later.take_if(|(due, _)| *due <= now) {
            self.announced = most;
            let mut entry = MAX_CONCURRENT_STREAMS.to_be_bytes().to_vec();
            entry.extend_from_slice(&most.to_be_bytes());
            frame(out, SETTINGS, 0, &entry);
        }
    }

    /// When the limit changes.
    pub fn next(&self) -> Time {
        self.later.map_or(Time::MAX, |(due, _)| due)
    }

    /// What the proxy may know of.
    pub fn most(&self) -> usize {
        self.announced as usize
    }
}

/// Appends to the SETTINGS at `skip`; the last value of a setting counts.
fn set(out: &mut Vec<u8>, skip: usize, setting: u16, value: u32) {
    let mut entry = setting.to_be_bytes().to_vec();
    entry.extend_from_slice(&value.to_be_bytes());
    let len = usize::from(out[skip + 1]) << 8 | usize::from(out[skip + 2]);
    let at = skip + 9 + len;
    out.splice(at..at, entry);
    out[skip + 1..skip + 3].copy_from_slice(&((len + 6) as u16).to_be_bytes());
}

/// Cuts the HEADERS frame at `at` into a few with CONTINUATION.
pub fn fragment(out: &mut Vec<u8>, at: usize, rng: &mut Rng) {
    let mut frames = out.split_off(at);
    let block = frames.split_off(9);
    let stream = u32::from_be_bytes([frames[5], frames[6], frames[7], frames[8]]);
    let size = block.len().div_ceil(1 + rng.below(4) as usize).max(1);
    let pieces = block.chunks(size);
    let last = pieces.len() - 1;
    for (index, piece) in pieces.enumerate() {
        let start = out.len();
        frame(out, if index == 0 { HEADERS } else { CONTINUATION }, stream, piece);
        let ends = if index == last { END_HEADERS } else { 0 };
        out[start + 4] = ends | if index == 0 { frames[4] & END_STREAM } else { 0 };
    }
}

/// Appends a frame without flags.
pub fn frame(out: &mut Vec<u8>, kind: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}
