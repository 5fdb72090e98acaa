//! Times: the proleptic Gregorian calendar in UTC and the conversions of `strftime`.
//!
//! `..._LOCAL` prints UTC with its offset: a proxy's container has no time zone of its own, and reading
//! the zone database is no business of the data plane.

use std::io::Write;

use millrace_base::WallTime;
use millrace_config::format::{TimeFormat, TimePart, TimeSource};

use crate::access_log::StreamInfo;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment taken apart.
#[derive(Clone, Copy, Debug)]
struct Parts {
    seconds: u64,
    nanos: u32,
    year: u64,
    month: u64,
    day: u64,
    /// 0 for Sunday.
    weekday: u64,
    /// 0 for the first of January.
    yearday: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Parts {
    fn new(time: WallTime) -> Self {
        Self::at(time.seconds(), (time.0 % 1_000_000_000) as u32)
    }

    fn at(seconds: u64, nanos: u32) -> Self {
        let days = seconds / 86_400;
        let of_day = seconds % 86_400;
        // Years are counted from March so that the leap day is the last one of its year.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let of_era = shifted % 146_097;
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let from_march = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let day = from_march - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let yearday = if month > 2 { from_march + 59 + u64::from(leap) } else { from_march - 306 };
        Self {
            seconds,
            nanos,
            year,
            month,
            day,
            weekday: (days + 4) % 7,
            yearday,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }

    /// ISO 8601 week and the year it belongs to.
    fn iso_week(&self) -> (u64, u64) {
        let weekday = (self.weekday + 6) % 7;
        let week = (self.yearday + 10 - weekday) / 7;
        match week {
            0 => (weeks(self.year - 1), self.year - 1),
            w if w > weeks(self.year) => (1, self.year + 1),
            w => (w, self.year),
        }
    }
}

/// 52 or 53.
fn weeks(year: u64) -> u64 {
    let p = |y: u64| (y + y / 4 - y / 100 + y / 400) % 7;
    if p(year) == 4 || p(year - 1) == 3 { 53 } else { 52 }
}

/// Appends the moment of a time operator.
pub(super) fn render(
    source: TimeSource,
    format: Option<&TimeFormat>,
    info: &StreamInfo<'_>,
    out: &mut Vec<u8>,
) {
    let times = &info.times;
    let wall = match source {
        TimeSource::Start | TimeSource::StartLocal => times.start_wall,
        TimeSource::Emit | TimeSource::EmitLocal => {
            let emit = times.emit.or(times.end).unwrap_or(times.start);
            times.start_wall + emit.since(times.start)
        }
    };
    let local = matches!(source, TimeSource::StartLocal | TimeSource::EmitLocal);
    match format {
        Some(format) => formatted(format, &Parts::new(wall), out),
        None => iso8601(&Parts::new(wall), if local { "+0000" } else { "Z" }, out),
    }
}

/// Appends a moment in seconds since 1970, which may be later than [`WallTime`] reaches.
pub(super) fn push_seconds(seconds: u64, format: Option<&TimeFormat>, out: &mut Vec<u8>) {
    let parts = Parts::at(seconds, 0);
    match format {
        Some(format) => formatted(format, &parts, out),
        None => iso8601(&parts, "Z", out),
    }
}

/// Appends `2026-11-23T03:05:22.989Z`.
pub fn push_iso8601(time: WallTime, out: &mut Vec<u8>) {
    iso8601(&Parts::new(time), "Z", out);
}

fn iso8601(p: &Parts, zone: &str, out: &mut Vec<u8>) {
    if p.year > 9999 {
        let _ = write!(out, "{}", p.year / 10_000);
    }
    let millis = u64::from(p.nanos / 1_000_000);
    let (century, year) = (p.year / 100 % 100, p.year % 100);
    let [[a, b], [c, d], [e, f], [g, h]] = [century, year, p.month, p.day].map(two_digits);
    let [[i, j], [k, l], [m, n], [o, q]] = [p.hour, p.minute, p.second, millis / 10].map(two_digits);
    let last = b'0' + (millis % 10) as u8;
    let text = [a, b, c, d, b'-', e, f, b'-', g, h, b'T', i, j, b':', k, l, b':', m, n, b'.', o, q, last];
    out.extend_from_slice(&text);
    out.extend_from_slice(zone.as_bytes());
}

/// Of a number below 100.
#[inline]
fn two_digits(n: u64) -> [u8; 2] {
    let n = n as u8;
    [b'0' + n / 10, b'0' + n % 10]
}

fn formatted(format: &TimeFormat, p: &Parts, out: &mut Vec<u8>) {
    for part in &format.parts {
        let _ = match part {
            TimePart::Text(text) => out.write_all(text.as_bytes()),
            TimePart::UnixSeconds => write!(out, "{}", p.seconds),
            TimePart::Fraction(digits) => fraction(p.nanos, *digits, out),
            TimePart::SecondsFraction(digits) => {
                write!(out, "{:02}.", p.second).and_then(|()| fraction(p.nanos, *digits, out))
            }
            TimePart::OffsetColon => out.write_all(b"+00:00"),
            TimePart::Year4 => write!(out, "{:04}", p.year),
            TimePart::Conversion(letter) => convert(*letter, p, out),
        };
    }
}

fn fraction(nanos: u32, digits: u8, out: &mut Vec<u8>) -> std::io::Result<()> {
    let digits = digits.clamp(1, 9);
    write!(out, "{:0width$}", nanos / 10u32.pow(9 - u32::from(digits)), width = digits as usize)
}

fn convert(letter: char, p: &Parts, out: &mut Vec<u8>) -> std::io::Result<()> {
    let (day, month) = (DAYS[p.weekday as usize % 7], MONTHS[p.month as usize % 13 - 1]);
    let twelve = (p.hour + 11) % 12 + 1;
    let half = if p.hour < 12 { "AM" } else { "PM" };
    match letter {
        'a' => write!(out, "{}", &day[..3]),
        'A' => write!(out, "{day}"),
        'b' | 'h' => write!(out, "{}", &month[..3]),
        'B' => write!(out, "{month}"),
        'C' => write!(out, "{:02}", p.year / 100),
        'd' => write!(out, "{:02}", p.day),
        'e' => write!(out, "{:2}", p.day),
        'g' => write!(out, "{:02}", p.iso_week().1 % 100),
        'G' => write!(out, "{}", p.iso_week().1),
        'H' => write!(out, "{:02}", p.hour),
        'I' => write!(out, "{twelve:02}"),
        'j' => write!(out, "{:03}", p.yearday + 1),
        'k' => write!(out, "{:2}", p.hour),
        'l' => write!(out, "{twelve:2}"),
        'm' => write!(out, "{:02}", p.month),
        'M' => write!(out, "{:02}", p.minute),
        'p' => write!(out, "{half}"),
        'S' => write!(out, "{:02}", p.second),
        't' => write!(out, "\t"),
        'u' => write!(out, "{}", (p.weekday + 6) % 7 + 1),
        'U' => write!(out, "{:02}", (p.yearday + 7 - p.weekday) / 7),
        'V' => write!(out, "{:02}", p.iso_week().0),
        'w' => write!(out, "{}", p.weekday),
        'W' => write!(out, "{:02}", (p.yearday + 7 - (p.weekday + 6) % 7) / 7),
        'y' => write!(out, "{:02}", p.year % 100),
        'Y' => write!(out, "{}", p.year),
        'z' => write!(out, "+0000"),
        'Z' => write!(out, "UTC"),
        _ => compound(letter, p, out),
    }
}

/// Conversions that stand for several others, in the C locale.
fn compound(letter: char, p: &Parts, out: &mut Vec<u8>) -> std::io::Result<()> {
    let pieces: &[(char, &str)] = match letter {
        'c' => &[('a', " "), ('b', " "), ('e', " "), ('T', " "), ('Y', "")],
        'D' | 'x' => &[('m', "/"), ('d', "/"), ('y', "")],
        'F' => &[('Y', "-"), ('m', "-"), ('d', "")],
        'r' => &[('I', ":"), ('M', ":"), ('S', " "), ('p', "")],
        'R' => &[('H', ":"), ('M', "")],
        'T' | 'X' => &[('H', ":"), ('M', ":"), ('S', "")],
        _ => &[],
    };
    for (letter, behind) in pieces {
        convert(*letter, p, out)?;
        out.extend_from_slice(behind.as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, format: &str) -> String {
        let mut out = Vec::new();
        formatted(
            &TimeFormat::parse(format).unwrap(),
            &Parts::new(WallTime(seconds * 1_000_000_000 + 989_052_000)),
            &mut out,
        );
        String::from_utf8(out).unwrap()
    }

    // Expected texts were printed by Envoy 1.40 and by date(1).
    #[test]
    fn conversions() {
        let now = 1_795_403_122;
        assert_eq!(at(now, "%Y/%m/%dT%H:%M:%S%z"), "2026/11/23T03:05:22+0000");
        assert_eq!(at(now, "%s.%3f"), "1795403122.989");
        assert_eq!(at(now, "%s%6f|%f|%9f|%1f"), "1795403122989052|989052000|989052000|9");
        assert_eq!(at(now, "%a,%d%b%j%y%e%I%p%Z"), "Mon,23Nov327262303AMUTC");
        assert_eq!(at(now, "%E3S_%Ez_%E4Y"), "22.989_+00:00_2026");
        assert_eq!(at(now, "%3s"), "1795403122");
        assert_eq!(at(951_782_400, "%F %j %U %W %V %G %u"), "2000-02-29 060 09 09 09 2000 2");
        assert_eq!(at(1_735_689_599, "%F %j %V %G %c"), "2024-12-31 366 01 2025 Tue Dec 31 23:59:59 2024");
        assert_eq!(
            at(1_795_404_960 + 53, "%F_%T_%D_%R_%u_%w_%U_%V_%G_%g_%C_%h_%A_%B"),
            "2026-11-23_03:36:53_11/23/26_03:36_1_1_47_48_2026_26_20_Nov_Monday_November"
        );
        assert_eq!(
            at(1_795_404_960 + 53, "%c_%x_%X_%r_%t_%W_%k_%l_%v_%q_%E_%"),
            "Mon Nov 23 03:36:53 2026_11/23/26_03:36:53_03:36:53 AM_\t_47_ 3_ 3_%v_%q_%E_%"
        );
        assert_eq!(at(0, "%D %R %r %w %U %V %g"), "01/01/70 00:00 12:00:00 AM 4 00 01 70");
    }

    #[test]
    fn iso8601_is_what_format_makes_of_the_parts() {
        let mut rng = millrace_base::Rng::new(11);
        let ends = [0, u64::MAX];
        for time in ends.into_iter().chain((0..5000).map(|_| rng.next_u64())) {
            let (p, mut out) = (Parts::new(WallTime(time)), Vec::new());
            iso8601(&p, "+0000", &mut out);
            let date = format!("{:04}-{:02}-{:02}", p.year, p.month, p.day);
            let millis = p.nanos / 1_000_000;
            let expected = format!("{date}T{:02}:{:02}:{:02}.{millis:03}+0000", p.hour, p.minute, p.second);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
