//! Header maps: order, edits, what cannot be injected, allocations, runs of untouched lines.

use super::*;
use std::vec;

fn lines(map: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::new();
    map.wire_runs(0, |run| out.extend_from_slice(run));
    out
}

#[test]
fn order_is_kept_and_names_are_lower_case() {
    let mut map = HeaderMap::new();
    assert!(map.append(b"X-One", b"1") && map.append_id(HeaderId::Cookie, b"a=b"));
    assert!(map.append(b"x-one", b"2") && map.append(b"COOKIE", b"c=d"));
    assert_eq!(lines(&map), b"x-one: 1\r\ncookie: a=b\r\nx-one: 2\r\ncookie: c=d\r\n");
    assert_eq!((map.len(), map.byte_len()), (4, 5 + 1 + 6 + 3 + 5 + 1 + 6 + 3));
    assert_eq!(map.values(HeaderId::Cookie).collect::<Vec<_>>(), vec![&b"a=b"[..], b"c=d"]);
    let mut joined = Vec::new();
    assert!(map.joined(b"x-one", &mut joined));
    assert_eq!(joined, b"1,2");
    assert!(!map.joined(b"nope", &mut joined));
}

#[test]
fn set_replaces_all_in_place_of_the_first() {
    let mut map = HeaderMap::new();
    for (n, v) in [("a", "1"), ("via", "x"), ("b", "2"), ("via", "y"), ("a", "3")] {
        map.append(n.as_bytes(), v.as_bytes());
    }
    assert!(map.set(b"A", b"longer") && map.set_id(HeaderId::Via, b"z") && map.set(b"new", b""));
    assert_eq!(lines(&map), b"a: longer\r\nvia: z\r\nb: 2\r\nnew: \r\n");
    assert_eq!(map.len(), 4);
    assert_eq!((map.remove_id(HeaderId::Via), map.remove_id(HeaderId::Via)), (1, 0));
    assert!(!map.contains(HeaderId::Via));
    assert_eq!((map.remove_name(b"a"), map.remove_name(b"b"), map.len()), (1, 1, 1));
}

#[test]
fn nothing_can_be_injected() {
    let mut map = HeaderMap::new();
    assert!(!map.append(b"a: b\r\nc", b"d") && !map.append(b"", b"d") && !map.set(b"x y", b"d"));
    assert!(map.append(b"a", b"1\r\nevil: 2\0"));
    assert!(map.set(b"b", b"3") && map.set(b"b", b"\n"));
    assert_eq!(lines(&map), b"a: 1  evil: 2 \r\nb:  \r\n");
}

#[test]
fn a_cleared_map_does_not_allocate_again() {
    let mut map = HeaderMap::new();
    let fill = |map: &mut HeaderMap| {
        for i in 0..20u8 {
            map.append(&[b'a' + i, b'-'], b"some value");
        }
        map.set(b"a-", b"another value");
    };
    fill(&mut map);
    let capacity = map.capacity();
    for _ in 0..10 {
        map.clear();
        assert!(map.is_empty() && map.get_name(b"a-").is_none());
        fill(&mut map);
        assert_eq!(map.capacity(), capacity);
    }
}

#[test]
fn runs_skip_what_they_are_told_and_merge_the_rest() {
    let mut map = HeaderMap::new();
    for n in ["a", "connection", "b", "c"] {
        map.append(n.as_bytes(), b"v");
    }
    let mut runs = Vec::new();
    map.wire_runs(HeaderId::Connection.bit(), |run| runs.push(run.to_vec()));
    assert_eq!(runs, vec![b"a: v\r\n".to_vec(), b"b: v\r\nc: v\r\n".to_vec()]);
}
