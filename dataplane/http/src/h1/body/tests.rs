//! Bodies in every cut: the grammar accepted, everything beside it refused.

use super::*;
use std::string::String;

/// Feeds `input` in pieces of `step` bytes; returns the body, what was left over and the trailers.
fn run(framing: BodyFraming, input: &[u8], step: usize) -> Result<(Vec<u8>, usize, HeaderMap), BodyError> {
    let (mut decoder, mut trailers, mut body) = (BodyDecoder::new(framing), HeaderMap::new(), Vec::new());
    let mut at = 0;
    while at <= input.len() {
        let mut piece = &input[at..(at + step).min(input.len())];
        loop {
            let step = decoder.decode(piece, &mut trailers)?;
            if let BodyEvent::Data(range) = &step.event {
                assert!(!range.is_empty() && range.end <= step.consumed);
                body.extend_from_slice(&piece[range.clone()]);
            }
            piece = &piece[step.consumed..];
            at += step.consumed;
            match step.event {
                BodyEvent::End => return Ok((body, input.len() - at, trailers)),
                BodyEvent::NeedMore => break,
                _ => {}
            }
        }
        if at == input.len() {
            decoder.eof()?;
            return Ok((body, 0, trailers));
        }
    }
    unreachable!("the input was used up")
}

/// The result must not depend on how the input is cut.
fn all_splits(framing: BodyFraming, input: &[u8]) -> Result<(Vec<u8>, usize, HeaderMap), BodyError> {
    let whole = run(framing, input, input.len().max(1));
    for step in 1..input.len() {
        assert_eq!(run(framing, input, step), whole, "{:?} by {step}", String::from_utf8_lossy(input));
    }
    whole
}

fn chunked(input: &str) -> Result<(String, usize), BodyError> {
    all_splits(BodyFraming::Chunked, input.as_bytes())
        .map(|(body, left, _)| (String::from_utf8(body).expect("ascii"), left))
}

#[test]
fn counted_bodies_stop_at_their_length() {
    let (body, left, _) = all_splits(BodyFraming::Length(3), b"abcGET").expect("ok");
    assert_eq!((body.as_slice(), left), (&b"abc"[..], 3));
    assert_eq!(all_splits(BodyFraming::Length(4), b"abc"), Err(BodyError::Truncated));
    assert_eq!(all_splits(BodyFraming::Length(0), b"x").map(|r| r.1), Ok(1));
    assert_eq!(all_splits(BodyFraming::None, b"x").map(|r| r.1), Ok(1));
    assert_eq!(all_splits(BodyFraming::UntilClose, b"abc").map(|r| r.0), Ok(b"abc".to_vec()));
}

#[test]
fn chunks_with_legal_extensions() {
    assert_eq!(chunked("3\r\nabc\r\n0\r\n\r\nNEXT"), Ok(("abc".into(), 4)));
    assert_eq!(
        chunked("3;a\r\nabc\r\n02;b=c;d=\"e; \\\"\t\"\r\nde\r\n0;x=y\r\n\r\n"),
        Ok(("abcde".into(), 0))
    );
    assert_eq!(chunked("A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n").map(|r| r.0.len()), Ok(20));
}

#[test]
fn sizes_are_plain_hexadecimal() {
    for bad in [
        "\r\n",
        "x\r\n",
        "+3\r\n",
        "-1\r\n",
        "0x3\r\n",
        "1_0\r\n",
        " 3\r\n",
        "3 \r\n",
        "3\t\r\n",
        "3\x00\r\n",
        ";a\r\n",
        "10000000000000000\r\n",
        "00000000000000003\r\n",
        "\n",
        "3.0\r\n",
        "３\r\n",
        "3 ;a\r\n",
    ] {
        assert_eq!(chunked(bad), Err(BodyError::BadChunkSize), "{bad:?}");
    }
    assert_eq!(chunked("ffffffffffffffff\r\nabc"), Err(BodyError::Truncated));
}

#[test]
fn lines_end_in_crlf_and_data_does_not_spill() {
    for bad in ["3\nabc\r\n0\r\n\r\n", "3\r\rabc", "3\rabc", "3;a\r\rabc"] {
        assert_eq!(chunked(bad), Err(BodyError::BadChunkLine), "{bad:?}");
    }
    for bad in [
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabc\r0\r\n\r\n",
        "3\r\nabc\r\r\n",
    ] {
        assert_eq!(chunked(bad), Err(BodyError::ChunkSpill), "{bad:?}");
    }
    for cut in ["3", "3\r", "3\r\nab", "3\r\nabc\r\n", "0\r\n", "0\r\n\r", "0\r\na: b\r\n", "0\r\n\r"] {
        assert_eq!(chunked(cut), Err(BodyError::Truncated), "{cut:?}");
    }
}

#[test]
fn extensions_follow_the_grammar_and_a_budget() {
    let bad = [
        "3;\r\n",
        "3;;a\r\n",
        "3; a\r\n",
        "3;a \r\n",
        "3;a=\r\n",
        "3;a=b c\r\n",
        "3;a=\"b\r\n",
        "3;a\n",
        "3;\x00\r\n",
    ];
    for bad in
        bad.iter().chain(&["3;a=\"\n\"\r\n", "3;a=\"b\"c\r\n", "3;a=\"\x01\"\r\n", "3;=b\r\n", "3;a=\"\\\n"])
    {
        assert_eq!(chunked(bad), Err(BodyError::BadChunkExtension), "{bad:?}");
    }
    let fits = std::format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(4095));
    assert_eq!(run(BodyFraming::Chunked, fits.as_bytes(), 9999).map(|r| r.0), Ok(b"a".to_vec()));
    let many = "1;0123456789abcdef\r\na\r\n".repeat(300);
    assert_eq!(run(BodyFraming::Chunked, many.as_bytes(), 9999), Err(BodyError::ExtensionsTooLarge));
}

#[test]
fn trailers_are_kept_without_the_forbidden_ones() {
    let input =
        b"0\r\nGrpc-Status: 0\r\nContent-Length: 5\r\nHost: x\r\nx-sum: a\r\nAuthorization: b\r\n\r\nGET";
    let (_, left, trailers) = all_splits(BodyFraming::Chunked, input).expect("ok");
    let names: Vec<_> = trailers.iter().map(|(n, _)| n.to_vec()).collect();
    assert_eq!((left, names), (3, std::vec![b"grpc-status".to_vec(), b"x-sum".to_vec()]));
    let (_, left, trailers) =
        all_splits(BodyFraming::Chunked, b"0\r\nTransfer-Encoding: chunked\r\n\r\n").expect("ok");
    assert_eq!((left, trailers.is_empty()), (0, true));
}

#[test]
fn malformed_or_endless_trailers_are_refused() {
    for bad in [
        "0\r\na b: c\r\n\r\n",
        "0\r\na: b\n\r\n\r\n",
        "0\r\n a: b\r\n\r\n",
        "0\r\na: \0\r\n\r\n",
        "0\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(chunked(bad), Err(BodyError::BadTrailer), "{bad:?}");
    }
    let long = std::format!("0\r\na: {}\r\n\r\n", "b".repeat(70_000));
    assert_eq!(run(BodyFraming::Chunked, long.as_bytes(), 1 << 20), Err(BodyError::TrailersTooLarge));
    let many = std::format!("0\r\n{}\r\n", "a: b\r\n".repeat(101));
    assert_eq!(run(BodyFraming::Chunked, many.as_bytes(), 1 << 20), Err(BodyError::TrailersTooLarge));
}

#[test]
fn bytes_that_were_forwarded_unseen_are_counted() {
    let mut decoder = BodyDecoder::new(BodyFraming::Length(10));
    let step = decoder.decode(b"abc", &mut HeaderMap::default()).unwrap();
    assert_eq!((step.event, decoder.counted_left()), (BodyEvent::Data(0..3), 7));
    decoder.skip(6);
    assert_eq!((decoder.counted_left(), decoder.is_done()), (1, false));
    assert!(decoder.clone().eof().is_err());
    decoder.skip(1);
    assert_eq!((decoder.counted_left(), decoder.is_done()), (0, true));
    for framing in [BodyFraming::Chunked, BodyFraming::UntilClose, BodyFraming::None, BodyFraming::Tunnel] {
        assert_eq!(BodyDecoder::new(framing).counted_left(), 0);
    }
}
