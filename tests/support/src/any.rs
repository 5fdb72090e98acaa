//! Exchanges without a version: one question and one answer, put on the wire as HTTP/1.1 or HTTP/2 by either side, so
//! that one table of cases serves every pairing.

use std::net::SocketAddr;

use crate::h2;
use crate::message::Request;
use crate::raw::{self, encode, encode_chunked};
use crate::strict::Fields;
use crate::upstream;

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 over cleartext with prior knowledge.
    Http2,
}

impl Version {
    /// As in access logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// Fields of a cluster that make it speak HTTP/2 with these `http2_protocol_options`, in flow YAML.
pub fn http2_cluster(options: &str) -> String {
    protocol_options(&format!("explicit_http_config: {{http2_protocol_options: {{{options}}}}}"))
}

/// Fields of a cluster with these fields of `HttpProtocolOptions`, in flow YAML.
pub fn protocol_options(fields: &str) -> String {
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    format!(
        "typed_extension_protocol_options:\n  {name}: {{\"@type\": type.googleapis.com/{name}, {fields}}}\n"
    )
}

/// A body and how its end is told.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// There is none.
    #[default]
    None,
    /// With `content-length`.
    Length(Vec<u8>),
    /// In pieces, without a length.
    Streamed(Vec<Vec<u8>>),
}

impl Body {
    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Length(bytes) => bytes.clone(),
            Self::Streamed(pieces) => pieces.concat(),
        }
    }
}

/// Field lists as test tables write them.
pub type Pairs = Vec<(&'static str, String)>;

fn borrowed(pairs: &Pairs) -> Vec<(&str, &str)> {
    pairs.iter().map(|(n, v)| (*n, v.as_str())).collect()
}

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Method.
    pub method: &'static str,
    /// Path with its query.
    pub path: String,
    /// Fields besides host and length.
    pub fields: Pairs,
    /// Body.
    pub body: Body,
    /// Trailers; the body has to be streamed then.
    pub trailers: Pairs,
}

/// A response that an origin gives.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Fields besides the length.
    pub fields: Pairs,
    /// Body.
    pub body: Body,
    /// Trailers; the body has to be streamed then.
    pub trailers: Pairs,
    /// An interim response first.
    pub interim: Option<u16>,
}

/// A request as an origin received it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path with its query.
    pub path: String,
    /// `host` or `:authority`.
    pub authority: String,
    /// The other fields.
    pub fields: Fields,
    /// Body.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Fields,
}

impl From<&Request> for Seen {
    fn from(request: &Request) -> Self {
        Self {
            method: request.method.clone(),
            path: request.target.clone(),
            authority: request.fields.get("host").unwrap_or_default().to_owned(),
            fields: request.fields.clone(),
            body: request.body.clone(),
            trailers: request.trailers.clone(),
        }
    }
}

impl From<&h2::Asked> for Seen {
    fn from(asked: &h2::Asked) -> Self {
        let regular = asked.fields.0.iter().filter(|(n, _)| !n.starts_with(':')).cloned();
        Self {
            method: asked.get(":method").to_owned(),
            path: asked.get(":path").to_owned(),
            authority: asked.get(":authority").to_owned(),
            fields: Fields(regular.collect()),
            body: asked.body.clone(),
            trailers: asked.trailers.clone(),
        }
    }
}

/// A response as a client received it.
#[derive(Clone, Debug)]
pub struct Got {
    /// Status.
    pub status: u16,
    /// Fields.
    pub fields: Fields,
    /// Body.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Fields,
    /// Statuses of interim responses.
    pub interim: Vec<u16>,
}

/// A recording upstream of either version.
pub enum Origin {
    /// Speaks HTTP/1.1.
    Http1(upstream::Upstream),
    /// Speaks HTTP/2.
    Http2(h2::Upstream),
}

impl Origin {
    /// Answers every complete request by `script`.
    pub fn start(version: Version, script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        match version {
            Version::Http1 => Self::Http1(upstream::Upstream::start(move |request| {
                http1(&script(&request.into()), &request.method)
            })),
            Version::Http2 => Self::Http2(h2::Upstream::start(move |asked| {
                http2(&script(&asked.into()), asked.get(":method"))
            })),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Http1(upstream) => upstream.address(),
            Self::Http2(upstream) => upstream.address(),
        }
    }

    /// Every complete request so far.
    pub fn requests(&self) -> Vec<Seen> {
        match self {
            Self::Http1(upstream) => upstream.requests().iter().map(Seen::from).collect(),
            Self::Http2(upstream) => upstream.requests().iter().map(Seen::from).collect(),
        }
    }

    /// What the proxy sent against the rules of the version.
    pub fn violations(&self) -> Vec<String> {
        match self {
            Self::Http1(upstream) => upstream
                .violations()
                .iter()
                .map(|v| format!("{}: {:?}", v.rule, crate::strict::latin1(&v.bytes)))
                .collect(),
            Self::Http2(upstream) => upstream.violations(),
        }
    }
}

fn http1(answer: &Answer, method: &str) -> upstream::Reply {
    let interim = answer.interim.map(|status| format!("HTTP/1.1 {status} Interim\r\nx-interim: 1\r\n\r\n"));
    let first = upstream::Reply::raw(interim.unwrap_or_default());
    let rest = match &answer.body {
        Body::Length(bytes) if method == "HEAD" => {
            let mut fields = answer.fields.clone();
            fields.push(("content-length", bytes.len().to_string()));
            raw_head(answer.status, &fields)
        }
        Body::None if matches!(answer.status, 204 | 304) || method == "HEAD" => {
            raw_head(answer.status, &answer.fields)
        }
        Body::None => upstream::Reply::with(answer.status, &borrowed(&answer.fields), b""),
        Body::Length(bytes) => upstream::Reply::with(answer.status, &borrowed(&answer.fields), bytes),
        Body::Streamed(pieces) => {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            upstream::Reply::chunked(&borrowed(&answer.fields), &pieces, &borrowed(&answer.trailers))
        }
    };
    upstream::Reply { steps: [first.steps, rest.steps].concat(), then: rest.then }
}

fn raw_head(status: u16, fields: &Pairs) -> upstream::Reply {
    let lines: String = fields.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    upstream::Reply::raw(format!("HTTP/1.1 {status} Scripted\r\n{lines}\r\n"))
}

fn http2(answer: &Answer, method: &str) -> h2::Reply {
    let mut reply = h2::Reply::default();
    if let Some(status) = answer.interim {
        reply = reply.head(status, &[("x-interim", "1")], false);
    }
    let mut fields = answer.fields.clone();
    // What HTTP/2 has no place for.
    fields.retain(|(name, _)| !matches!(*name, "connection" | "keep-alive"));
    if let Body::Length(bytes) = &answer.body {
        fields.push(("content-length", bytes.len().to_string()));
    }
    let nothing = answer.body.bytes().is_empty() && answer.trailers.is_empty();
    let bare = method == "HEAD" || nothing;
    reply = reply.head(answer.status, &borrowed(&fields), bare);
    match &answer.body {
        _ if bare => reply,
        Body::None => reply,
        Body::Length(bytes) => reply.data(bytes, true),
        Body::Streamed(pieces) => {
            let ends = answer.trailers.is_empty();
            for (n, piece) in pieces.iter().enumerate() {
                reply = reply.data(piece, ends && n + 1 == pieces.len());
            }
            if ends { reply } else { reply.trailers(&borrowed(&answer.trailers)) }
        }
    }
}

/// A client of either version on one connection.
pub enum Caller {
    /// Speaks HTTP/1.1.
    Http1(raw::Client),
    /// Speaks HTTP/2.
    Http2(Box<h2::Client>),
}

impl Caller {
    /// Connects.
    #[track_caller]
    pub fn connect(version: Version, address: SocketAddr) -> Self {
        match version {
            Version::Http1 => Self::Http1(raw::Client::connect(address)),
            Version::Http2 => Self::Http2(Box::new(h2::Client::connect(address))),
        }
    }

    /// One exchange.
    ///
    /// # Errors
    /// What came instead of a well-formed response.
    pub fn ask(&mut self, question: &Question) -> Result<Got, String> {
        match self {
            Self::Http1(client) => ask1(client, question),
            Self::Http2(client) => ask2(client, question),
        }
    }
}

fn ask1(client: &mut raw::Client, question: &Question) -> Result<Got, String> {
    let mut fields = vec![("host", "test.local")];
    fields.retain(|(name, _)| !question.fields.iter().any(|(n, _)| n == name));
    fields.extend(borrowed(&question.fields));
    let bytes = match &question.body {
        Body::Streamed(pieces) => {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            encode_chunked(question.method, &question.path, &fields, &pieces, &borrowed(&question.trailers))
        }
        Body::Length(bytes) if bytes.is_empty() => {
            fields.push(("content-length", "0"));
            encode(question.method, &question.path, &fields, b"")
        }
        body => encode(question.method, &question.path, &fields, &body.bytes()),
    };
    client.send(&bytes);
    let response = client.response(question.method).map_err(|fault| fault.to_string())?;
    Ok(Got {
        status: response.status,
        fields: response.fields,
        body: response.body,
        trailers: response.trailers,
        interim: response.interim.iter().map(|i| i.status).collect(),
    })
}

fn ask2(client: &mut h2::Client, question: &Question) -> Result<Got, String> {
    let length;
    let mut fields = borrowed(&question.fields);
    for field in &mut fields {
        if field.0 == "host" {
            field.0 = ":authority";
        }
    }
    if let Body::Length(bytes) = &question.body {
        length = bytes.len().to_string();
        fields.push(("content-length", &length));
    }
    let bytes = question.body.bytes();
    let bare = bytes.is_empty() && question.trailers.is_empty();
    let id = client.head(question.method, &question.path, &fields, bare);
    if !bytes.is_empty() {
        client.body(id, &bytes, question.trailers.is_empty());
    }
    if !question.trailers.is_empty() {
        client.session().headers(id, &borrowed(&question.trailers), true);
    }
    let response = client.response(id).map_err(|lost| format!("{lost:?}"))?;
    client.session().forget(id);
    if !client.session().faults.is_empty() {
        return Err(format!("{:?}", client.session().faults));
    }
    Ok(Got {
        status: response.status,
        fields: response.fields,
        body: response.body,
        trailers: response.trailers,
        interim: response.interim.iter().map(|(status, _)| *status).collect(),
    })
}
