//! What this build does with every field of every message that it reads. The check walks a message generically
//! before it is translated, so no field can be dropped in silence; `docs/configuration.md` is this table printed.

mod balancing;
mod bootstrap;
mod cluster;
mod compared;
mod compression;
mod control;
mod core;
mod custom_response;
mod document;
mod forward_proxy;
mod health_check;
mod http;
mod listener;
mod listener_filter;
mod overload;
mod route;
mod shaping;
mod source;
mod tls;
mod written;

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use millrace_proto::Path;
use millrace_proto::schema::{Field, Kind, Label, Message};
use millrace_proto::walk::{Descend, Raw, Visitor, walk};

use crate::context::{Context, Source};
use crate::error::{Rejection, RejectionKind};

pub use document::document;

/// What happens when a field is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what Envoy documents.
    Served,
    /// Accepted, and nothing would change if it were served. The text says why.
    NoEffect(&'static str),
    /// Accepted with a warning; the text says what happens instead.
    Reported(&'static str),
    /// The resource is refused, because ignoring the field would change security or correctness.
    Refused(&'static str),
}

/// The fields of one message, grouped by what happens to them; names are separated by white space.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Full name of the message.
    pub message: &'static str,
    /// Every field, once.
    pub fields: &'static [(Status, &'static str)],
}

/// All tables, in the order of the document.
pub fn tables() -> impl Iterator<Item = &'static Table> {
    [
        bootstrap::TABLES,
        overload::TABLES,
        source::TABLES,
        listener::TABLES,
        listener_filter::TABLES,
        tls::TABLES,
        http::TABLES,
        shaping::TABLES,
        compression::TABLES,
        written::TABLES,
        custom_response::TABLES,
        route::TABLES,
        cluster::TABLES,
        health_check::TABLES,
        balancing::TABLES,
        forward_proxy::TABLES,
        core::TABLES,
    ]
    .into_iter()
    .flatten()
}

/// The tables of a static cluster that a control plane is reached through, in the order of the document. They
/// replace those of [`tables`] for the same message.
pub fn control_tables() -> impl Iterator<Item = &'static Table> {
    control::TABLES.iter()
}

type Index = HashMap<Message, HashMap<Field, Status>>;

const STATIC_RESOURCES: &str = "envoy.config.bootstrap.v3.Bootstrap.StaticResources";

static INDEX: LazyLock<Index> = LazyLock::new(|| index(&mut tables()));

static CONTROL_INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut all = INDEX.clone();
    all.extend(index(&mut control_tables()));
    all
});

fn index(tables: &mut dyn Iterator<Item = &'static Table>) -> Index {
    let mut index = HashMap::new();
    for table in tables {
        let Some(message) = Message::by_name(table.message) else {
            continue;
        };
        let fields: &mut HashMap<Field, Status> = index.entry(message).or_default();
        for (status, names) in table.fields {
            fields.extend(
                names.split_whitespace().filter_map(|name| Some((message.field_by_name(name)?, *status))),
            );
        }
    }
    index
}

/// Checks every field that is set in `bytes`, `Any`s included; types without a table are left to the translator
/// that opens them. Reported fields are added to the context.
pub(crate) fn check(message: Message, bytes: &[u8], path: &Path, cx: &mut Context) -> Result<(), Rejection> {
    walk(&mut Check { cx, index: &INDEX, aside: None }, message, bytes, path)
}

/// As [`check`] for a static cluster that a control plane is reached through.
pub(crate) fn check_control(
    message: Message,
    bytes: &[u8],
    path: &Path,
    cx: &mut Context,
) -> Result<(), Rejection> {
    walk(&mut Check { cx, index: &CONTROL_INDEX, aside: None }, message, bytes, path)
}

/// As [`check`] for a bootstrap. Static clusters with a field that traffic through them cannot have, but the control
/// client can, are returned by their position.
pub(crate) fn check_bootstrap(
    message: Message,
    bytes: &[u8],
    cx: &mut Context,
) -> Result<BTreeMap<usize, Rejection>, Rejection> {
    let mut check = Check { cx, index: &INDEX, aside: Some(BTreeMap::new()) };
    walk(&mut check, message, bytes, &Path::default())?;
    Ok(check.aside.unwrap_or_default())
}

struct Check<'a> {
    cx: &'a mut Context,
    index: &'static Index,
    /// The static clusters that are set aside, when there can be any.
    aside: Option<BTreeMap<usize, Rejection>>,
}

impl Check<'_> {
    /// Each static cluster on its own.
    fn clusters(&mut self, path: &Path, message: Message, values: &[Raw<'_>]) -> Result<(), Rejection> {
        for (i, raw) in values.iter().enumerate() {
            let reported = self.cx.unsupported.len();
            match check(message, raw.bytes(), &path.at(i), self.cx) {
                Err(refused) if refused.kind == RejectionKind::NotServed => {
                    self.cx.unsupported.truncate(reported);
                    if let Err(also) = check_control(message, raw.bytes(), &path.at(i), self.cx) {
                        return Err(refused.nor(&also));
                    }
                    self.cx.unsupported.truncate(reported);
                    self.aside.get_or_insert_default().insert(i, refused);
                }
                verdict => verdict?,
            }
        }
        Ok(())
    }
}

impl Visitor for Check<'_> {
    type Error = Rejection;

    fn field(
        &mut self,
        path: &Path,
        message: Message,
        field: Field,
        values: &[Raw<'_>],
    ) -> Result<Descend, Rejection> {
        if self.aside.is_some() && message.name() == STATIC_RESOURCES && field.name() == "clusters" {
            if let Some(cluster) = field.message() {
                self.clusters(path, cluster, values)?;
            }
            return Ok(Descend::Over);
        }
        // A secret counts where it is named.
        if message.name() == STATIC_RESOURCES && field.name() == "secrets" {
            return Ok(Descend::Over);
        }
        let status = self.index.get(&message).and_then(|fields| fields.get(&field));
        match status {
            Some(Status::Served) => Ok(Descend::Into),
            Some(Status::NoEffect(_)) => Ok(Descend::Over),
            _ if is_default(field, values) => Ok(Descend::Over),
            Some(Status::Reported(why)) => {
                self.cx.report(path, *why);
                Ok(Descend::Over)
            }
            Some(Status::Refused(why)) => Err(Rejection::not_served(path, *why)),
            None => Err(Rejection::not_served(path, "this build does not know what the field does")),
        }
    }

    fn unknown(&mut self, path: &Path, message: Message, number: u32) -> Result<(), Rejection> {
        let overrides = &self.cx.overrides;
        let (refuse, silent) = match self.cx.source {
            Source::Static => {
                self.cx.static_unknown_fields += 1;
                (!overrides.allow_unknown_static_fields, false)
            }
            Source::Dynamic => {
                self.cx.dynamic_unknown_fields += 1;
                (overrides.reject_unknown_dynamic_fields, overrides.ignore_unknown_dynamic_fields)
            }
        };
        let why = format!("message {} has the unknown field number {number}", message.name());
        match (refuse, silent) {
            (true, _) => Err(Rejection::new(path, why)),
            (false, true) => Ok(()),
            (false, false) => {
                self.cx.report(path, why);
                Ok(())
            }
        }
    }

    fn opaque(&mut self, path: &Path, _type_url: &str, why: Option<String>) -> Result<(), Rejection> {
        why.map_or(Ok(()), |why| Err(Rejection::new(path, why)))
    }

    fn message(&mut self, _path: &Path, message: Message) -> Result<Descend, Rejection> {
        Ok(if self.index.contains_key(&message) { Descend::Into } else { Descend::Over })
    }
}

/// A wrapper that holds false, 0 or nothing says what its absence says for all fields that are not served.
fn is_default(field: Field, values: &[Raw<'_>]) -> bool {
    let wrapper = matches!(field.kind(), Kind::Message(message) if message.is_wrapper());
    match (field.label(), values) {
        (Label::Implicit, [raw]) => raw.bits() == 0 && raw.bytes().is_empty(),
        (Label::Explicit, [Raw::Bytes(bytes)]) if wrapper => bytes.iter().skip(1).all(|byte| *byte == 0),
        _ => false,
    }
}

impl From<Status> for &'static str {
    fn from(status: Status) -> Self {
        match status {
            Status::Served => "served",
            Status::NoEffect(_) => "no effect",
            Status::Reported(_) => "reported",
            Status::Refused(_) => "refused",
        }
    }
}

#[cfg(test)]
mod tests;
