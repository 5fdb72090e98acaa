//! `grpc-timeout`: at most eight digits and a unit.

use std::time::Duration;

use millrace_http::{HeaderId, HeaderMap};

/// The largest figure that may be written.
const FIGURE_MAX: u64 = 99_999_999;

/// The timeout that a request asks for, in whole milliseconds, rounded up; `None` when the field is missing or no
/// timeout. 0 is one.
pub fn get(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(HeaderId::GrpcTimeout)?)
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let digits = std::str::from_utf8(digits).ok()?;
    let figure: u64 = digits.trim().parse().ok().filter(|figure| *figure <= FIGURE_MAX)?;
    let millis = match unit {
        b'H' => figure * 3_600_000,
        b'M' => figure * 60_000,
        b'S' => figure * 1000,
        b'm' => figure,
        b'u' => figure.div_ceil(1000),
        b'n' => figure.div_ceil(1_000_000),
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}

/// Sets the field in the smallest unit from milliseconds up that holds the figure; what is cut off is lost.
pub fn set(headers: &mut HeaderMap, timeout: Duration) {
    let mut figure = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let mut unit = b'm';
    for (next, divisor) in [(b'S', 1000), (b'M', 60), (b'H', 60)] {
        if figure > FIGURE_MAX {
            (figure, unit) = (figure / divisor, next);
        }
    }
    let mut text = figure.min(FIGURE_MAX).to_string().into_bytes();
    text.push(unit);
    headers.set_id(HeaderId::GrpcTimeout, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read() {
        for (value, millis) in [
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("3S", Some(3000)),
            ("4m", Some(4)),
            ("1u", Some(1)),
            ("1000u", Some(1)),
            ("1001u", Some(2)),
            ("1n", Some(1)),
            ("1000001n", Some(2)),
            ("0m", Some(0)),
            ("99999999H", Some(99_999_999 * 3_600_000)),
            ("100000000m", None),
            ("5", None),
            ("m", None),
            ("", None),
            ("-1S", None),
            ("1.5S", None),
            ("1s", None),
            ("1X", None),
        ] {
            assert_eq!(parse(value.as_bytes()), millis.map(Duration::from_millis), "{value}");
        }
    }

    #[test]
    fn timeouts_are_written_in_eight_digits() {
        for (millis, text) in [
            (0, "0m"),
            (1500, "1500m"),
            (99_999_999, "99999999m"),
            (100_000_000, "100000S"),
            (99_999_999_999, "99999999S"),
            (100_000_000_000, "1666666M"),
            (u64::MAX, "99999999H"),
        ] {
            let mut headers = HeaderMap::new();
            set(&mut headers, Duration::from_millis(millis));
            assert_eq!(headers.get(HeaderId::GrpcTimeout), Some(text.as_bytes()));
        }
    }
}
