//! What the encoder indexes, when, and how it announces sizes.

use alloc::string::ToString;

use super::lookup::NameKey;
use super::*;

/// An encoder, and a decoder that follows it.
struct Pair {
    encoder: Encoder,
    decoder: Decoder,
}

impl Pair {
    fn new() -> Self {
        Self { encoder: Encoder::new(4096), decoder: Decoder::new(4096) }
    }

    /// Sends fields and returns the block.
    fn send(&mut self, list: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        self.encoder.begin(&mut block);
        for (name, value) in list {
            let (name, value) = (name.as_bytes(), value.as_bytes());
            self.encoder.field(name, value, Name::of(name), &mut block);
        }
        assert_eq!(decoded(&mut self.decoder, &block), Ok(fields(list)));
        assert_eq!(self.encoder.table_size(), self.decoder.table_size());
        block
    }

    /// First octets of one field sent three times.
    fn thrice(&mut self, name: &str, value: &str) -> [u8; 3] {
        [(); 3].map(|()| self.send(&[(name, value)])[0])
    }
}

/// The kinds of representation by their first octet.
fn kind(first: u8) -> &'static str {
    match first {
        0x80.. => "indexed",
        0x40.. => "literal, indexed from now on",
        0x20.. => "size update",
        0x10.. => "literal, never indexed",
        _ => "literal",
    }
}

#[test]
fn each_kind_of_field_is_indexed_at_its_time() {
    const KEPT: &str = "literal, indexed from now on";
    for (name, value, wanted) in [
        ("user-agent", "curl/8.0", [KEPT, "indexed", "indexed"]),
        (":authority", "a.example", [KEPT, "indexed", "indexed"]),
        (":path", "/a", ["literal", KEPT, "indexed"]),
        ("content-length", "1234", ["literal", KEPT, "indexed"]),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT", ["literal", KEPT, "indexed"]),
        // A name without an index gets one with its first value.
        ("x-own", "value", [KEPT, "indexed", "indexed"]),
        ("set-cookie", "a=b", ["literal"; 3]),
        ("authorization", "Basic YTpi", ["literal, never indexed"; 3]),
        ("proxy-authorization", "Basic YTpi", ["literal, never indexed"; 3]),
        ("cookie", "a=b", ["literal, never indexed"; 3]),
        ("cookie", "session=0123456789abcdef", [KEPT, "indexed", "indexed"]),
        ("accept-encoding", "gzip, deflate", ["indexed"; 3]),
        ("accept", "", ["indexed"; 3]),
        (":status", "404", ["indexed"; 3]),
        (":status", "418", [KEPT, "indexed", "indexed"]),
    ] {
        assert_eq!(Pair::new().thrice(name, value).map(kind), wanted, "{name}: {value}");
    }
}

#[test]
fn values_that_never_come_again_do_not_churn_the_table() {
    let mut pair = Pair::new();
    pair.send(&[("user-agent", "curl/8.0"), ("x-request-id", "first")]);
    let before = pair.encoder.table_size();
    for i in 0..500u32 {
        let value = i.to_string();
        let list =
            [("x-request-id", &*value), ("x-own", &value), (":path", &value), ("user-agent", "curl/8.0")];
        let block = pair.send(&list);
        assert_eq!(kind(block[0]), "literal");
        assert_eq!(kind(block[block.len() - 1]), "indexed");
    }
    // `x-own: 0` is what came on top.
    assert_eq!(pair.encoder.table_size().0, before.0 + 38);
}

#[test]
fn pseudo_fields_have_their_own_ways() {
    let mut encoder = Encoder::new(4096);
    let mut block = Vec::new();
    encoder.begin(&mut block);
    for method in ["GET", "POST", "PUT"] {
        encoder.method(method.as_bytes(), &mut block);
    }
    for scheme in ["http", "https", "ws"] {
        encoder.scheme(scheme.as_bytes(), &mut block);
    }
    for path in ["/", "/index.html", "/x"] {
        encoder.path(path.as_bytes(), &mut block);
    }
    encoder.authority(b"a", &mut block);
    for status in [200, 204, 206, 304, 400, 404, 500, 103, 999] {
        encoder.status(status, &mut block);
    }
    let decoded = decoded(&mut Decoder::new(4096), &block).expect("a block");
    let values: Vec<&str> = decoded.iter().map(|(_, value)| &**value).collect();
    let statuses = ["200", "204", "206", "304", "400", "404", "500", "103", "999"];
    let rest = ["GET", "POST", "PUT", "http", "https", "ws", "/", "/index.html", "/x", "a"];
    assert_eq!(values, [&rest[..], &statuses].concat());
}

#[test]
fn sensitive_fields_use_the_tables_for_their_names_only() {
    let mut pair = Pair::new();
    pair.send(&[("x-token", "abc")]);
    let mut block = Vec::new();
    pair.encoder.sensitive(b"x-token", b"abc", Name::Other, &mut block);
    assert_eq!(block, hex("1f2f 0361 6263"));
}

#[test]
fn size_updates_say_the_smallest_first() {
    let mut pair = Pair::new();
    let list = [("x-a", "1"), ("x-b", "2")];
    pair.send(&list);
    let update = |pair: &mut Pair, sizes: &[u32]| {
        for size in sizes {
            pair.encoder.set_peer_table_size(*size);
            pair.decoder.set_table_size(*size);
        }
        let mut block = Vec::new();
        pair.encoder.begin(&mut block);
        assert_eq!(decoded(&mut pair.decoder, &block), Ok(fields(&[])));
        assert_eq!(pair.encoder.table_size(), pair.decoder.table_size());
        block
    };
    assert_eq!(update(&mut pair, &[4096]), hex(""), "nothing changed");
    assert_eq!(update(&mut pair, &[65_536]), hex(""), "more than we use");
    assert_eq!(update(&mut pair, &[40, 4096]), hex("3f09 3fe11f"));
    assert_eq!(pair.encoder.table_size(), (36, 4096), "the older entry went");
    assert_eq!(update(&mut pair, &[0]), hex("20"));
    assert_eq!(update(&mut pair, &[0]), hex(""));
    assert_eq!(pair.thrice("x-a", "1").map(kind), ["literal"; 3], "there is no table");
    assert_eq!(update(&mut pair, &[100]), hex("3f45"));
    assert_eq!(kind(pair.send(&[("x-a", "1")])[0]), "literal, indexed from now on");
}

#[test]
fn our_own_limit_is_announced_and_kept() {
    let mut small = Pair { encoder: Encoder::new(64), decoder: Decoder::new(4096) };
    assert_eq!(small.send(&[(":method", "GET")]), hex("3f21 82"));
    assert_eq!(small.send(&[(":method", "GET")]), hex("82"));
    let mut large = Pair { encoder: Encoder::new(10_000), decoder: Decoder::new(65_536) };
    assert_eq!(large.send(&[(":method", "GET")]), hex("82"), "4,096 until the peer's SETTINGS came");
    large.encoder.set_peer_table_size(65_536);
    large.send(&[]);
    assert_eq!(large.encoder.table_size(), (0, 10_000));
}

#[test]
fn a_field_of_half_a_table_is_not_kept() {
    let long = "v".repeat(2048);
    assert_eq!(Pair::new().thrice("user-agent", &long).map(kind), ["literal"; 3]);
}

#[test]
fn a_table_in_its_steady_state_allocates_nothing() {
    let mut pair = Pair::new();
    let mut settled = None;
    for i in 0..4000 {
        let value = "v".repeat(i % 97);
        let agent = i.to_string();
        pair.send(&[("user-agent", &agent), ("x-own", &value), ("server", &value), ("x-other", &agent)]);
        if i == 500 {
            settled = Some((pair.encoder.capacity(), pair.decoder.capacity()));
        }
    }
    assert_eq!(settled, Some((pair.encoder.capacity(), pair.decoder.capacity())));
    let (octets, entries) = pair.decoder.capacity();
    assert!(octets <= 16 * 1024 && entries <= 128, "{octets} octets, {entries} entries");
}

#[test]
fn numbers_that_begin_again_name_the_same_entries() {
    let mut pair = Pair::new();
    pair.encoder.grow_old();
    pair.decoder.grow_old();
    for i in 0..200u32 {
        let (agent, value) = ((i % 7).to_string(), "v".repeat(i as usize % 41));
        pair.send(&[("user-agent", &agent), ("x-own", &value), ("server", &value), ("x-other", &agent)]);
    }
    assert_eq!(pair.thrice("user-agent", "3").map(kind), ["indexed"; 3]);
}

/// Two texts for which `key` is the same.
fn colliding<K: Ord>(key: impl Fn(&str) -> K) -> (String, String) {
    let mut texts: Vec<(K, String)> = (0..400_000u32)
        .map(|i| {
            let text = alloc::format!("x-{i}");
            (key(&text), text)
        })
        .collect();
    texts.sort();
    let pair = texts.windows(2).find(|pair| pair[0].0 == pair[1].0).expect("by chance there are many");
    (pair[0].1.clone(), pair[1].1.clone())
}

#[test]
fn names_and_values_of_one_hash_are_told_apart() {
    let (one, other) = colliding(|name| alloc::format!("{:?}", NameKey::of(name.as_bytes(), Name::Other)));
    let mut pair = Pair::new();
    for _ in 0..3 {
        pair.send(&[(&one, "1"), (&other, "1"), (&one, "2"), (&other, "2")]);
    }
    let agent = NameKey::of(b"user-agent", Name::of(b"user-agent"));
    let (one, other) = colliding(|value| agent.with(value.as_bytes()));
    for _ in 0..3 {
        pair.send(&[("user-agent", &one), ("user-agent", &other), ("user-agent", "x")]);
    }
}

#[test]
fn a_huge_field_leaves_no_huge_buffer() {
    let mut pair = Pair::new();
    pair.send(&[("x-own", "1")]);
    let text = "a".repeat(80_000);
    let mut block = hex("0001 61");
    integer::put(huffman::encoded_len(text.as_bytes()) as u32, 7, 0x80, &mut block);
    huffman::encode(text.as_bytes(), &mut block);
    assert_eq!(decoded(&mut pair.decoder, &block), Ok(fields(&[("a", &text)])));
    assert!(pair.decoder.capacity().0 <= 4096);
    assert_eq!(decoded(&mut pair.decoder, &[0xbe]), Ok(fields(&[("x-own", "1")])));
}
