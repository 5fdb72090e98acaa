//! Verdicts and wording measured with `envoy --mode validate` 1.40.

use super::*;

fn refused(text: &str) -> String {
    Template::parse(text).expect_err(text).message
}

#[test]
fn words_of_refusal_are_envoys() {
    let bad = |text: &str, at: usize| {
        format!("Incorrect configuration: {text}. Couldn't find valid command at position {at}")
    };
    for (text, at) in [
        ("%", 0),
        ("abc%", 3),
        ("%REQ(a):x%", 0),
        ("%REQ(a", 0),
        ("%REQ(a)x%", 0),
        ("%start_time%", 0),
        ("%START_TIME(%", 0),
        ("%%%", 2),
        ("%REQ(a)%%", 8),
        ("%REQ(:x%", 0),
        ("% REQ(a)%", 0),
        ("%REQ (a)%", 0),
        ("%REQ(a):%", 0),
        ("%REQ(a):-1%", 0),
        ("%REQ(a):99999999999999999999%", 0),
        ("%REQ(a\nb)%", 0),
        ("text %REQ(a)% mid % end", 18),
    ] {
        assert_eq!(refused(text), bad(text, at));
    }
    for (text, message) in [
        ("%NOPE(x)%", "Not supported field in StreamInfo: NOPE"),
        ("%VIRTUAL_HOST_NAME%", "Not supported field in StreamInfo: VIRTUAL_HOST_NAME"),
        ("%REQ%", "REQ requires parameters"),
        ("%REQ()%", "REQ requires parameters"),
        ("%REQ(a?b?c)%", "More than 1 alternative header specified in token: a?b?c"),
        ("%PROTOCOL(x)%", "PROTOCOL does not take any parameters or length"),
        ("%PROTOCOL:3%", "PROTOCOL does not take any parameters or length"),
        ("%START_TIME():3%", "START_TIME does not allow length to be specified."),
        ("%START_TIME(%n)%", "Invalid header configuration. Format string contains newline."),
        ("%START_TIME(%-d)%", "padding and case flags of time formats are not served yet: %-"),
        ("%REQ(a b)%", "Invalid header configuration. Format string contains invalid characters."),
        ("%COMMON_DURATION(a)%", "Invalid common duration configuration: a."),
        ("%COMMON_DURATION(a:b:s)%", "Invalid common duration precision: s."),
        ("%PATH(X)%", "Invalid PATH option: 'X', only 'WQ'/'NQ' are allowed"),
        ("%FILTER_STATE%", "Invalid filter state configuration, key cannot be empty."),
        ("%METADATA(X:y)%", "X is not supported type of metadata"),
        (
            "%DOWNSTREAM_PEER_CERT_V_START:3%",
            "DOWNSTREAM_PEER_CERT_V_START does not allow length to be specified.",
        ),
        ("%UPSTREAM_PEER_CERT:3%", "UPSTREAM_PEER_CERT does not take any parameters or length"),
        (
            "%DOWNSTREAM_REMOTE_ADDRESS(WITHOUT_PORT)%",
            "DOWNSTREAM_REMOTE_ADDRESS does not take any parameters or length",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn what_envoy_accepts_is_accepted() {
    for text in [
        "",
        "%%",
        "%REQ(%)%",
        "%REQ(a):0%",
        "%PATH(WQ:PATH:z)%",
        "%PATH:4%",
        "%QUERY_PARAMS:4%",
        "%RESPONSE_CODE_DETAILS(x)%",
        "%COMMON_DURATION(::ms)%",
        "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(x)%",
        "%FILTER_STATE(a:FIELD:x)%",
        "%DYNAMIC_METADATA(a:b):3%",
        "%START_TIME(%E3S_%Ez_%E4Y)%",
        DEFAULT_ACCESS_LOG,
    ] {
        assert!(Template::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn parts_are_split_where_they_end() {
    let template = Template::parse("a%%b%REQ(X-A?:Path):5%c").unwrap();
    let op = Op::Header {
        source: HeaderSource::Request,
        name: b"x-a"[..].into(),
        alternative: Some(b":path"[..].into()),
    };
    assert_eq!(
        template.parts,
        [Part::Text("a%b".into()), Part::Operator(Operator { op, max_len: Some(5) }), Part::Text("c".into())]
    );
    assert_eq!(Template::parse("100%%").unwrap().as_literal(), Some("100%"));
    assert!(Template::parse("%PROTOCOL%").unwrap().lone_operator().is_some());
}

#[test]
fn time_formats_are_compiled() {
    let parts = TimeFormat::parse("%Y-%s.%3f%%%q|%f").unwrap().parts;
    assert_eq!(
        parts,
        [
            TimePart::Conversion('Y'),
            TimePart::Text("-".into()),
            TimePart::UnixSeconds,
            TimePart::Text(".".into()),
            TimePart::Fraction(3),
            TimePart::Text("%%q|".into()),
            TimePart::Fraction(9),
        ]
    );
}
