//! The choice of a route table by a key of header fields (`scoped_routes`).

use millrace_config::{KeyFragment, ScopeTable};
use millrace_http::RequestHead;

/// The position of the scope that a request belongs to; `None` when its key is incomplete or nobody's. Allocates
/// nothing.
pub fn scope(key: &[KeyFragment], scopes: &ScopeTable, head: &RequestHead) -> Option<usize> {
    scopes.find(key.iter().map(|fragment| fragment.of(value(&fragment.header, head)?)))
}

/// The first field of a name; `:method`, `:path`, `:authority`, `:scheme` and `host` work.
fn value<'h>(name: &[u8], head: &'h RequestHead) -> Option<&'h [u8]> {
    let value = match name {
        b":method" => head.method(),
        b":path" => head.path(),
        b":authority" | b"host" => head.authority(),
        b":scheme" => head.scheme(),
        name => return head.headers.values_name(name).next(),
    };
    Some(value).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_config::{Extract, RouteTableId, Scope, ScopeRoutes};

    use super::*;
    use crate::test::{bytes, head};

    fn part(header: &str) -> KeyFragment {
        KeyFragment { header: bytes(header), separator: bytes(","), extract: Extract::Index(0) }
    }

    fn table(keys: &[&[&str]]) -> ScopeTable {
        let one = |key: &&[&str]| {
            let key = key.iter().map(|part| bytes(part)).collect();
            Arc::new(Scope { name: "s".into(), key, routes: ScopeRoutes::Rds(RouteTableId(0)) })
        };
        ScopeTable::new(keys.iter().map(one).collect())
    }

    #[test]
    fn the_first_field_of_a_name_counts() {
        let scopes = table(&[&["a"], &["b"], &[""]]);
        let find = |values: &[&str]| {
            let mut head = head("GET", "h", "/");
            for value in values {
                head.headers.append(b"x", value.as_bytes());
            }
            scope(&[part("x")], &scopes, &head)
        };
        assert_eq!(find(&[]), None);
        assert_eq!(find(&["b", "a"]), Some(1));
        assert_eq!(find(&["c", "a"]), None);
        assert_eq!(find(&["a,b"]), Some(0));
        assert_eq!(find(&[""]), Some(2));
    }

    #[test]
    fn parts_of_the_request_line_count_too() {
        let scopes = table(&[&["GET", "h", "h", "/p"]]);
        let key = [part(":method"), part(":authority"), part("host"), part(":path")];
        assert_eq!(scope(&key, &scopes, &head("GET", "h", "/p")), Some(0));
        assert_eq!(scope(&key, &scopes, &head("GET", "h", "/q")), None);
        assert_eq!(scope(&key, &scopes, &head("GET", "", "/p")), None);
    }
}
