//! Header compression of HTTP/2: blocks in, blocks out.

use std::hint::black_box;

use millrace_http::h2::hpack::{Decoder, Encoder, Name, Pseudo};

use crate::heads::{self, MESH};
use crate::{Bench, Routine, repeat};

pub(crate) const BENCHES: &[Bench] = &[
    Bench::new("http/hpack_decode_indexed", "decode gRPC's request head: 8 fields, all by index", || {
        decode(&[grpc(), grpc()])
    }),
    Bench::new("http/hpack_decode_first", "decode a connection's first head: 8 fields, 6 new", || {
        decode_first(grpc())
    }),
    Bench::new(
        "http/hpack_decode_mesh",
        "decode a sidecar's request head again: 23 fields, 6 literal",
        || decode(&[mesh(0), mesh(1), mesh(2)]),
    ),
    Bench::new("http/hpack_decode_huffman", "decode one value of 36 octets in Huffman code", huffman),
    Bench::new("http/hpack_encode_indexed", "encode gRPC's request head: 8 fields, all by index", || {
        encode(vec![grpc()])
    }),
    Bench::new("http/hpack_encode_mesh", "encode sidecars' request heads: 23 fields, 5 of them new", || {
        encode((0..4).map(mesh).collect())
    })
    .of(4),
];

type Fields = Vec<(Vec<u8>, Vec<u8>, Name)>;

fn fields<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Fields {
    pairs.map(|(name, value)| (name.to_vec(), value.to_vec(), Name::of(name))).collect()
}

/// What every call of one method of one service starts with.
fn grpc() -> Fields {
    let pairs: [(&[u8], &[u8]); 8] = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/helloworld.Greeter/SayHello"),
        (b":authority", b"greeter.default.svc:50051"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"user-agent", b"grpc-go/1.66.0"),
        (b"grpc-accept-encoding", b"gzip"),
    ];
    fields(pairs.into_iter())
}

/// The sidecar's head of the HTTP/1.1 benches, with ids of its own.
fn mesh(number: u8) -> Fields {
    let head = heads::parsed(MESH);
    let pseudo: [(&[u8], &[u8]); 4] = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", head.path()),
        (b":authority", b"orders.shop.svc.cluster.local:8080"),
    ];
    let mut fields =
        fields(pseudo.into_iter().chain(head.headers.iter().filter(|(name, _)| *name != b"host")));
    for (name, value, _) in &mut fields {
        let changes =
            [&b"x-request-id"[..], b"traceparent", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid"];
        if changes.contains(&name.as_slice())
            && let Some(digit) = value.get_mut(9)
        {
            *digit = b'0' + number;
        }
    }
    fields
}

fn write(encoder: &mut Encoder, fields: &Fields, out: &mut Vec<u8>) {
    out.clear();
    encoder.begin(out);
    for (name, value, id) in fields {
        match id {
            Name::Pseudo(Pseudo::Method) => encoder.method(value, out),
            Name::Pseudo(Pseudo::Scheme) => encoder.scheme(value, out),
            Name::Pseudo(Pseudo::Path) => encoder.path(value, out),
            _ => encoder.field(name, value, *id, out),
        }
    }
}

fn read(decoder: &mut Decoder, block: &[u8]) {
    let verdict = decoder.decode(black_box(block), &mut |field| {
        black_box((field.value.len(), field.id, field.valid));
        true
    });
    assert!(verdict.is_ok(), "{verdict:?}");
}

/// Decodes the last of these heads again and again; it must not change the tables.
fn decode(heads: &[Fields]) -> Routine {
    let (mut encoder, mut decoder, mut block) = (Encoder::new(4096), Decoder::new(4096), Vec::new());
    for _ in 0..3 {
        for fields in heads {
            write(&mut encoder, fields, &mut block);
            read(&mut decoder, &block);
        }
    }
    repeat(move || read(&mut decoder, &block))
}

fn decode_first(fields: Fields) -> Routine {
    let mut block = Vec::new();
    write(&mut Encoder::new(4096), &fields, &mut block);
    repeat(move || read(&mut Decoder::new(4096), &block))
}

/// A UUID as another proxy sends it: a literal without indexing, name 58, Huffman.
fn huffman() -> Routine {
    let (mut encoder, mut block) = (Encoder::new(4096), Vec::new());
    encoder.begin(&mut block);
    let id = b"5f9c6d2e-2c5b-4d1f-9b0a-3f6b9f2f7a11";
    encoder.field(b"user-agent", id, Name::of(b"user-agent"), &mut block);
    block.splice(..1, [0x0f, 58 - 0x0f]);
    let mut decoder = Decoder::new(4096);
    repeat(move || read(&mut decoder, &block))
}

/// Encodes these heads in turn.
fn encode(heads: Vec<Fields>) -> Routine {
    let (mut encoder, mut block) = (Encoder::new(4096), Vec::new());
    repeat(move || {
        for fields in &heads {
            write(&mut encoder, black_box(fields), &mut block);
            black_box(&block);
        }
    })
}
