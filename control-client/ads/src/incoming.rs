//! From the messages of a server to named resources. What cannot be handed on is set apart here, one by one.

use std::sync::Arc;
use std::time::Duration;

use millrace_proto::Message;
use millrace_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse, Resource,
};
use millrace_proto::pb::google::protobuf::{self, Any};

use crate::limits::NAME_BYTES_MAX;
use crate::nack::prefix;
use crate::{Rejected, ResourceType};

/// The message that wraps a resource with a name and a time to live in the state-of-the-world variant.
const WRAPPER: &str = "envoy.service.discovery.v3.Resource";

/// One resource of a response.
#[derive(Debug)]
pub(crate) struct Item {
    pub name: Arc<str>,
    pub version: Arc<str>,
    pub ttl: Option<Duration>,
    /// `None` for a heartbeat.
    pub body: Option<Vec<u8>>,
}

/// A response, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// `version_info` or `system_version_info`.
    pub version: Arc<str>,
    pub items: Vec<Item>,
    pub removed: Vec<Arc<str>>,
    pub broken: Vec<Rejected>,
    /// Among the broken ones is one whose name is not known: nobody can say which resource it is.
    pub nameless: bool,
}

/// Takes a state-of-the-world response apart. Its `type_url` has been looked at; in files and over REST it may be
/// empty. `resource_errors` (what the server itself could not find) tells us nothing that absence does not.
pub(crate) fn sotw(ty: ResourceType, response: DiscoveryResponse) -> Batch {
    let version: Arc<str> = response.version_info.into();
    let mut batch = Batch { version: Arc::clone(&version), ..Batch::default() };
    for any in response.resources {
        if type_name(&any.type_url) != WRAPPER {
            batch.add(ty, String::new(), Arc::clone(&version), None, Some(any));
            continue;
        }
        match Resource::decode(any.value.as_slice()) {
            Ok(resource) => batch.add_resource(ty, resource, Arc::clone(&version)),
            Err(error) => {
                batch.reject(String::new(), format!("the Resource around it cannot be read: {error}"))
            }
        }
    }
    batch
}

/// Takes an incremental response apart. `aliases` are left alone: only VHDS on demand uses them, which asks by the
/// names that it gets. `removed_resource_names` holds names too.
pub(crate) fn delta(ty: ResourceType, response: DeltaDiscoveryResponse) -> Batch {
    let mut batch = Batch { version: response.system_version_info.into(), ..Batch::default() };
    let mut version: Arc<str> = Arc::from("");
    for resource in response.resources {
        // Istio leaves all of them empty, others often send the same: one copy does.
        if *version != *resource.version {
            version = Arc::from(resource.version.as_str());
        }
        batch.add_resource(ty, resource, Arc::clone(&version));
    }
    let named = response.removed_resource_names.into_iter().map(|name| name.name);
    batch.removed = response.removed_resources.into_iter().chain(named).map(Arc::from).collect();
    batch
}

impl Batch {
    fn add_resource(&mut self, ty: ResourceType, resource: Resource, version: Arc<str>) {
        let name = match resource.resource_name {
            Some(other) if resource.name.is_empty() => other.name,
            Some(_) | None => resource.name,
        };
        match resource.ttl.as_ref().map(duration).transpose() {
            Ok(ttl) => self.add(ty, name, version, ttl, resource.resource),
            Err(reason) => self.reject(name, reason),
        }
    }

    fn add(
        &mut self,
        ty: ResourceType,
        mut name: String,
        version: Arc<str>,
        ttl: Option<Duration>,
        any: Option<Any>,
    ) {
        let body = match any {
            Some(any) if type_name(&any.type_url) == ty.message_name() => Some(any.value),
            Some(any) => {
                let url = prefix(&any.type_url, 256);
                return self.reject(name, format!("its type is '{url}', not '{}'", ty.type_url()));
            }
            None => None,
        };
        if let (true, Some(body)) = (name.is_empty(), &body) {
            match name_of(body) {
                Ok(found) => found.clone_into(&mut name),
                Err(reason) => return self.reject(String::new(), reason.to_owned()),
            }
        }
        if name.is_empty() {
            return self.reject(name, "it has no name".to_owned());
        }
        if name.len() > NAME_BYTES_MAX {
            let reason = format!("its name has {} bytes; at most {NAME_BYTES_MAX} are allowed", name.len());
            return self.reject(prefix(&name, 64).to_owned(), reason);
        }
        self.items.push(Item { name: name.into(), version, ttl, body });
    }

    fn reject(&mut self, name: String, reason: String) {
        self.nameless |= name.is_empty();
        self.broken.push(Rejected { name: name.into(), reason });
    }
}

/// `Resource.ttl` as a span of time.
fn duration(ttl: &protobuf::Duration) -> Result<Duration, String> {
    let seconds = u64::try_from(ttl.seconds);
    let nanos = u32::try_from(ttl.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (seconds, nanos) {
        (Ok(seconds), Some(nanos)) if seconds > 0 || nanos > 0 => Ok(Duration::new(seconds, nanos)),
        _ => Err("ttl: must be greater than 0s".to_owned()),
    }
}

/// What a type URL ends with.
fn type_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// Field 1 of a message, a string: the name in every type that xDS serves. The last one wins, as in any parser.
fn name_of(body: &[u8]) -> Result<&str, &'static str> {
    const BROKEN: &str = "it is no protobuf message";
    let mut rest = body;
    let mut name: &[u8] = b"";
    while !rest.is_empty() {
        let tag = varint(&mut rest).ok_or(BROKEN)?;
        let field = tag >> 3;
        let skipped = match tag & 7 {
            0 => varint(&mut rest).map(|_| &b""[..]),
            1 => take(&mut rest, 8),
            2 => varint(&mut rest).and_then(|len| take(&mut rest, usize::try_from(len).ok()?)),
            5 => take(&mut rest, 4),
            _ => None,
        };
        let value = skipped.filter(|_| (1..1 << 29).contains(&field)).ok_or(BROKEN)?;
        if field == 1 && tag & 7 == 2 {
            name = value;
        }
    }
    std::str::from_utf8(name).map_err(|_| "its name is not UTF-8")
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
