//! What a script makes the control plane do instead of answering as it should.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tonic::Code;

use super::resource::Type;

/// An answer out of the ordinary, given once.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These bytes as the gRPC message.
    Raw(Vec<u8>),
    /// The right resources in an envelope of this type URL.
    EnvelopeOfType(String),
    /// The right envelope, in which every resource claims this type URL.
    ResourcesOfType(String),
    /// Every resource twice.
    Duplicated,
    /// The right answer without a nonce.
    WithoutNonce,
    /// The right answer under this version.
    AtVersion(String),
    /// Every resource's bytes replaced by this many random ones.
    Garbage {
        /// Seed of the bytes.
        seed: u64,
        /// Octets in each resource.
        len: usize,
    },
    /// The right resources, each grown by an unknown field to this many octets.
    Padded(usize),
    /// Ends the stream with this status.
    End(Code, String),
    /// Ends the TCP connection.
    Drop,
    /// Says nothing.
    Silence,
}

/// How the server treats bytes and connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// As it should.
    #[default]
    Normal,
    /// New connections are accepted and never answered.
    Mute,
    /// New connections are accepted and closed at once.
    Flap,
    /// New connections speak HTTP/2, and every stream ends at once with this status.
    Refuse(Code, String),
    /// On new connections this many octets leave, then a pause of this length, and so on.
    Trickle(usize, Duration),
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub held: BTreeSet<Type>,
    pub answers: BTreeMap<Type, VecDeque<Answer>>,
    /// Types whose refused responses are sent again under a new version.
    pub insist: BTreeSet<Type>,
    pub transport: Transport,
}

impl Script {
    /// The next scripted answer of this type.
    pub fn next(&mut self, ty: Type) -> Option<Answer> {
        self.answers.get_mut(&ty)?.pop_front()
    }
}
