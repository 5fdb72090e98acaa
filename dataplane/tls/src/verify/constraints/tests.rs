//! Every form of name against constraints of its form.

use super::*;

/// DER with a short length.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag, content.len() as u8];
    der.extend_from_slice(content);
    der
}

fn subtrees(tag: u8, bases: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> = bases.iter().flat_map(|(form, base)| der(0x30, &der(*form, base))).collect();
    if list.is_empty() { list } else { der(tag, &list) }
}

fn fits_within(permitted: &[(u8, &[u8])], excluded: &[(u8, &[u8])], name: (u8, &[u8])) -> bool {
    let constraints = [subtrees(0xa0, permitted), subtrees(0xa1, excluded)].concat();
    fit(&constraints, &[name], &Cell::new(100))
}

fn permits(form: u8, base: &[u8], name: &[u8]) -> bool {
    fits_within(&[(form, base)], &[], (form, name))
}

fn excludes(form: u8, base: &[u8], name: &[u8]) -> bool {
    !fits_within(&[], &[(form, base)], (form, name))
}

/// A directory name of text attributes: (tag, last octet of the type, text).
fn directory(attributes: &[(u8, u8, &str)]) -> Vec<u8> {
    let relative = |(tag, kind, text): &(u8, u8, &str)| {
        let attribute = [der(0x06, &[0x55, 0x04, *kind]), der(*tag, text.as_bytes())].concat();
        der(0x31, &der(0x30, &attribute))
    };
    der(0x30, &attributes.iter().flat_map(relative).collect::<Vec<_>>())
}

#[test]
fn dns_names_lie_below_their_base() {
    for (base, name) in [
        (&b"a.example"[..], &b"a.example"[..]),
        (b"a.example", b"B.A.Example"),
        (b"a.example", b"*.a.example"),
        (b".a.example", b"b.a.example"),
        (b"", b"anything"),
    ] {
        assert!(permits(DNS, base, name) && excludes(DNS, base, name));
    }
    for (base, name) in
        [(&b"a.example"[..], &b"ba.example"[..]), (b"a.example", b"example"), (b".a.example", b"a.example")]
    {
        assert!(!permits(DNS, base, name) && !excludes(DNS, base, name));
    }
    // A wildcard within and without is neither permitted nor allowed.
    for base in [&b"b.a.example"[..], b"c.b.a.example", b".b.a.example"] {
        assert!(!permits(DNS, base, b"*.a.example") && excludes(DNS, base, b"*.a.example"));
    }
    // What is no name fits nothing.
    for name in [&b"a..example"[..], b"a .a.example", b"", b"a.*.a.example", b".a.example"] {
        assert!(!permits(DNS, b"a.example", name) && excludes(DNS, b"other", name));
    }
    assert!(!permits(DNS, b"*.example", b"a.example"));
}

#[test]
fn addresses_lie_within_their_network() {
    assert!(permits(IP, &[10, 0, 0, 0, 255, 0, 0, 0], &[10, 9, 8, 7]));
    assert!(excludes(IP, &[10, 64, 0, 0, 255, 192, 0, 0], &[10, 127, 8, 7]));
    assert!(!permits(IP, &[10, 64, 0, 0, 255, 192, 0, 0], &[10, 128, 8, 7]));
    assert!(permits(IP, &[0; 8], &[1, 2, 3, 4]));
    assert!(permits(IP, &[0; 32], &[1; 16]));
    assert!(!permits(IP, &[0; 8], &[1; 16]));
    for base in [&[10, 0, 0, 0, 255, 0, 255, 0][..], &[10, 0, 0, 0, 253, 0, 0, 0], &[10, 0, 0, 0], &[]] {
        assert!(!permits(IP, base, &[10, 0, 0, 1]) && excludes(IP, base, &[10, 0, 0, 1]), "{base:?}");
    }
    assert!(!permits(IP, &[0; 8], &[1, 2, 3]));
}

#[test]
fn mailboxes_are_literal_and_hosts_are_not() {
    for (base, name) in [
        (&b"a@b.example"[..], &b"a@B.Example"[..]),
        (b"b.example", b"anyone@b.example"),
        (b".example", b"anyone@b.example"),
        (b"*@b.example", b"*@b.example"),
    ] {
        assert!(permits(EMAIL, base, name) && excludes(EMAIL, base, name));
    }
    for (base, name) in [
        (&b"a@b.example"[..], &b"A@b.example"[..]),
        (b"b.example", b"a@c.b.example"),
        (b".b.example", b"a@b.example"),
        (b"*@b.example", b"a@b.example"),
    ] {
        assert!(!permits(EMAIL, base, name) && !excludes(EMAIL, base, name));
    }
    for name in [&b"b.example"[..], b"a@b@b.example", b"@b.example", b"\"a\"@b.example", b"a@"] {
        assert!(!permits(EMAIL, b"b.example", name) && excludes(EMAIL, b"other.example", name));
    }
}

#[test]
fn uris_are_held_to_their_host() {
    for (base, name) in [
        (&b"td.example"[..], &b"spiffe://td.example/ns/a"[..]),
        (b"td.example", b"https://user@TD.example:443?x"),
        (b".example", b"spiffe://td.example/a"),
    ] {
        assert!(permits(URI, base, name) && excludes(URI, base, name));
    }
    assert!(!permits(URI, b"td.example", b"spiffe://x.td.example/a"));
    assert!(!permits(URI, b".td.example", b"spiffe://td.example/a"));
    for name in [&b"urn:uuid:1"[..], b"spiffe:///a", b"http://127.0.0.1/", b"http://[::1]/", b"\xff://td"] {
        assert!(!permits(URI, b"td.example", name) && excludes(URI, b"other", name));
    }
}

#[test]
fn directory_names_begin_with_their_base() {
    let base = directory(&[(0x13, 6, "DE"), (0x0c, 10, "Some  Org")]);
    let inside = directory(&[(0x0c, 6, "de"), (0x13, 10, " some org "), (0x0c, 3, "leaf")]);
    assert!(permits(DIRECTORY, &base, &inside) && excludes(DIRECTORY, &base, &inside));
    assert!(permits(DIRECTORY, &base, &base) && permits(DIRECTORY, &directory(&[]), &base));
    for outside in [
        directory(&[(0x0c, 6, "de")]),
        directory(&[(0x0c, 6, "de"), (0x0c, 10, "Some Organisation")]),
        directory(&[(0x0c, 10, "Some Org"), (0x0c, 6, "de")]),
        directory(&[(0x0c, 6, "de"), (0x1e, 10, "Some Org")]),
    ] {
        assert!(!permits(DIRECTORY, &base, &outside) && !excludes(DIRECTORY, &base, &outside));
    }
    assert!(!permits(DIRECTORY, &base, &[0x30, 9]) && excludes(DIRECTORY, &base, &[0x30, 9]));
}

#[test]
fn forms_are_judged_apart_and_unknown_ones_refused() {
    assert!(fits_within(&[(DNS, b"a.example")], &[(DNS, b"b.example")], (URI, b"spiffe://td/a")));
    assert!(!fits_within(&[(DNS, b"example")], &[(DNS, b"b.example")], (DNS, b"x.b.example")));
    assert!(fits_within(&[(DNS, b"a.example"), (DNS, b"b.example")], &[], (DNS, b"b.example")));
    assert!(!fits_within(&[], &[(0xa0, b"")], (0xa0, b"other name")));
    assert!(fits_within(&[], &[(0xa0, b"")], (DNS, b"a.example")));
}

#[test]
fn what_is_no_list_of_subtrees_fits_nothing_and_work_is_bounded() {
    let name = [(DNS, &b"a.example"[..])];
    let minimum = [der(DNS, b"a.example"), der(0x80, &[1])].concat();
    for constraints in [
        vec![0xa0, 9],
        der(0xa2, b""),
        der(0xa0, &der(0x31, b"")),
        der(0xa0, &der(0x30, b"")),
        der(0xa0, &der(0x30, &minimum)),
    ] {
        assert!(!fit(&constraints, &name, &Cell::new(100)), "{constraints:?}");
    }
    let two = subtrees(0xa0, &[(DNS, b"b.example"), (DNS, b"a.example")]);
    assert!(fit(&two, &name, &Cell::new(2)));
    assert!(!fit(&two, &name, &Cell::new(1)));
}

#[test]
fn forms_that_webpki_lacks_are_told() {
    assert!(!beyond_webpki(&subtrees(0xa0, &[(DNS, b"a.example"), (IP, &[0; 8])])));
    for form in [EMAIL, URI, DIRECTORY] {
        assert!(beyond_webpki(&subtrees(0xa1, &[(DNS, b"a.example"), (form, b"")])));
    }
}
