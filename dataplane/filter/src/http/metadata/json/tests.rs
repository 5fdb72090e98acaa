//! What is JSON, and what is found in it.

use super::*;

fn field<'t>(text: &'t str, name: &str) -> Option<Json<'t>> {
    match parse(text.as_bytes()) {
        Some(Json::Object(fields)) => fields.get(name),
        other => panic!("{text} is {other:?}"),
    }
}

#[test]
fn values_of_every_kind() {
    for (text, expected) in [
        ("null", Json::Null),
        (" true ", Json::Bool(true)),
        ("\r\n\t false", Json::Bool(false)),
        ("\"a\\u0062\\n\\ud83d\\ude00\"", Json::Text("ab\n😀".into())),
        ("\"\"", Json::Text("".into())),
        ("-7", Json::Integer(-7)),
        ("-0", Json::Integer(0)),
        ("1e3", Json::Double(1000.0)),
        ("1.5E-1", Json::Double(0.15)),
        ("-9223372036854775809", Json::Double(-9_223_372_036_854_775_808.0)),
        ("18446744073709551616", Json::Double(18_446_744_073_709_551_616.0)),
        ("[]", Json::List),
        ("[1, {\"a\": [ ]}]", Json::List),
        ("\u{feff}1", Json::Integer(1)),
        ("1\0garbage", Json::Integer(1)),
    ] {
        assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
    }
}

#[test]
fn what_is_malformed_is_none() {
    for text in [
        "",
        "  ",
        "{",
        "}",
        "[",
        "[}",
        "{]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "[1,]",
        "[,1]",
        "{\"a\":1}x",
        "1 2",
        "{'a':1}",
        "{a:1}",
        "// c\n1",
        "01",
        ".5",
        "1.",
        "-",
        "+1",
        "1e",
        "1e+",
        "NaN",
        "tru",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\ud83dx\"",
        "\"\\udc00\"",
        "\"a\tb\"",
        "1e999",
        "9223372036854775808",
        "18446744073709551615",
        "\0",
    ] {
        assert_eq!(parse(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(parse(b"\"\xff\""), None);
}

#[test]
fn fields_are_found_and_the_last_one_counts() {
    let text = r#"{"a": 1, "b" :{"a": 2, "c": [ {"d": 1} ]} ,"a": "3", "\u0065": null, "f": {}}"#;
    assert_eq!(field(text, "a"), Some(Json::Text("3".into())));
    assert_eq!((field(text, "e"), field(text, "d")), (Some(Json::Null), None));
    let Some(Json::Object(inner)) = field(text, "b") else { panic!("an object") };
    assert_eq!((inner.get("a"), inner.get("c")), (Some(Json::Integer(2)), Some(Json::List)));
    let Some(Json::Object(empty)) = field(text, "f") else { panic!("an object") };
    assert_eq!(empty.get("a"), None);
}

#[test]
fn nesting_has_an_end() {
    for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
        let nested = |depth: usize, inner: &str| [&open.repeat(depth), inner, &close.repeat(depth)].concat();
        assert!(parse(nested(1000, "1").as_bytes()).is_some());
        assert!(parse(nested(999, "[]").as_bytes()).is_some());
        assert!(parse(nested(1001, "1").as_bytes()).is_none());
        assert!(parse(nested(1000, "{}").as_bytes()).is_none());
        assert!(parse(open.repeat(100_000).as_bytes()).is_none());
    }
}

#[test]
fn any_bytes_are_read_without_harm() {
    let letters = b"{}[]\",:\\u0d8e1-.tn \xc3\xa9\0";
    let mut rng = millrace_base::Rng::new(5);
    for _ in 0..50_000 {
        let text: Vec<u8> =
            (0..rng.below(24)).map(|_| letters[rng.below(letters.len() as u64) as usize]).collect();
        if let Some(Json::Object(fields)) = parse(&text) {
            fields.get("");
        }
    }
}
