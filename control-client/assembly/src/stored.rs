//! Resources as they came, for `config_dump`.

use std::borrow::Cow;
use std::sync::Arc;

use millrace_ads::Resource;
use millrace_base::WallTime;

/// A resource in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its version.
    pub version: Arc<str>,
    /// The exact bytes, unknown fields included; empty for what the bootstrap holds.
    pub body: Body,
    /// When it came.
    pub updated: WallTime,
}

impl Stored {
    pub(crate) fn new(resource: &Resource, updated: WallTime) -> Self {
        Self { version: resource.version.clone(), body: Body::new(&resource.body), updated }
    }

    /// The same, as it came until [`Self::pack`]: for what may be replaced again soon.
    pub(crate) fn unpacked(resource: &Resource, updated: WallTime) -> Self {
        let body = Body(Kept::Plain(resource.body.clone()));
        Self { version: resource.version.clone(), body, updated }
    }

    pub(crate) fn pack(&mut self) {
        if let Kept::Plain(bytes) = &self.body.0 {
            self.body = Body::new(bytes);
        }
    }
}

/// Below this, what compression saves is not worth its time.
const COMPRESSED_FROM: usize = 4096;

/// The bytes of a resource. Route tables and listeners, which are large and repeat themselves, are compressed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body(Kept);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Plain(Arc<[u8]>),
    /// LZ4, and the length without it.
    Compressed(Arc<[u8]>, usize),
}

impl Default for Kept {
    fn default() -> Self {
        Self::Plain(Arc::default())
    }
}

impl Body {
    fn new(bytes: &Arc<[u8]>) -> Self {
        if bytes.len() >= COMPRESSED_FROM {
            let compressed = lz4_flex::block::compress(bytes);
            if compressed.len() < bytes.len() / 4 * 3 {
                return Self(Kept::Compressed(compressed.into(), bytes.len()));
            }
        }
        Self(Kept::Plain(bytes.clone()))
    }

    /// As they came.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.0 {
            Kept::Plain(bytes) => Cow::Borrowed(bytes),
            // What we compressed ourselves can be read; nothing at all would show in a dump.
            Kept::Compressed(bytes, len) => {
                Cow::Owned(lz4_flex::block::decompress(bytes, *len).unwrap_or_default())
            }
        }
    }
}

/// A resource that was refused (`admin.v3.UpdateFailureState`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was refused.
    pub resource: Stored,
    /// Why.
    pub details: String,
}

impl Failure {
    pub(crate) fn new(resource: &Resource, at: WallTime, details: &str) -> Box<Self> {
        Box::new(Self { resource: Stored::new(resource, at), details: details.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_as_they_were() {
        let repeated: Arc<[u8]> = b"service.default.svc.cluster.local".repeat(1000).into();
        let noise: Arc<[u8]> = {
            let mut state = 1_u32;
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            (0..10_000).map(next).collect()
        };
        let (small, none): (Arc<[u8]>, Arc<[u8]>) = (b"abc".as_slice().into(), Arc::default());
        for (bytes, compressed) in [(repeated, true), (noise, false), (small, false), (none, false)] {
            let body = Body::new(&bytes);
            assert_eq!(matches!(body.0, Kept::Compressed(..)), compressed);
            assert_eq!(*body.bytes(), *bytes);
        }
    }
}
