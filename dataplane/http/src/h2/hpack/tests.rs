//! The examples of RFC 7541 appendix C.

use alloc::string::String;
use alloc::vec::Vec;

use super::*;

mod encoder;
mod errors;

type Fields = Vec<(String, String)>;

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

pub(super) fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, HpackError> {
    let mut fields = Vec::new();
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    decoder
        .decode(block, &mut |field| {
            assert_eq!(field.id, Name::of(field.name));
            fields.push((text(field.name), text(field.value)));
            true
        })
        .map(|()| fields)
}

pub(super) fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// Decodes blocks one after the other and compares fields and table sizes.
fn story(decoder: &mut Decoder, blocks: &[(&str, &[(&str, &str)], usize)]) {
    for (block, wanted, size) in blocks {
        assert_eq!(decoded(decoder, &hex(block)), Ok(fields(wanted)), "{block}");
        assert_eq!(decoder.table_size().0, *size, "{block}");
    }
}

const FIRST: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
const SECOND: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "www.example.com"),
    ("cache-control", "no-cache"),
];
const THIRD: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
];

#[test]
fn representations_of_appendix_c_2() {
    let mut decoder = Decoder::new(4096);
    story(
        &mut decoder,
        &[
            (
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                &[("custom-key", "custom-header")],
                55,
            ),
            ("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], 55),
            ("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], 55),
            ("82", &[(":method", "GET")], 55),
        ],
    );
}

#[test]
fn requests_of_appendix_c_3_and_c_4() {
    story(
        &mut Decoder::new(4096),
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", FIRST, 57),
            ("8286 84be 5808 6e6f 2d63 6163 6865", SECOND, 110),
            ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", THIRD, 164),
        ],
    );
    story(
        &mut Decoder::new(4096),
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", FIRST, 57),
            ("8286 84be 5886 a8eb 1064 9cbf", SECOND, 110),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", THIRD, 164),
        ],
    );
}

#[test]
fn responses_of_appendix_c_5_and_c_6_evict() {
    let date = |second| match second {
        21 => ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        _ => ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
    };
    let location = ("location", "https://www.example.com");
    let first = [(":status", "302"), ("cache-control", "private"), date(21), location];
    let second = [(":status", "307"), ("cache-control", "private"), date(21), location];
    let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    let third = [
        (":status", "200"),
        ("cache-control", "private"),
        date(22),
        location,
        ("content-encoding", "gzip"),
        ("set-cookie", cookie),
    ];
    let plain: [&str; 3] = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 \
         3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
         7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 \
         6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let huffman: [&str; 3] = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad \
         1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
         e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new(256);
        decoder.set_table_size(256);
        let sized = [&hex("3fe1 01"), hex(blocks[0]).as_slice()].concat();
        assert_eq!(decoded(&mut decoder, &sized), Ok(fields(&first)));
        assert_eq!(decoder.table_size(), (222, 256));
        story(&mut decoder, &[(blocks[1], &second, 222), (blocks[2], &third, 215)]);
    }
}
