//! IMF-fixdate (RFC 9110 section 5.6.7) from seconds since the epoch, without a calendar library.

/// Length of a formatted date.
pub const DATE_LEN: usize = 29;

/// Formats `unix_seconds` like `Sun, 06 Nov 1994 08:49:37 GMT`. Years beyond 9999 are shown as their last
/// four digits.
pub fn format(unix_seconds: u64) -> [u8; DATE_LEN] {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut out = *b"ddd, 00 mmm 0000 00:00:00 GMT";
    let weekday = (days % 7) as usize * 3;
    out[..3].copy_from_slice(&DAYS[weekday..weekday + 3]);
    out[8..11].copy_from_slice(&MONTHS[month * 3..month * 3 + 3]);
    two(&mut out, 5, day);
    two(&mut out, 12, year / 100 % 100);
    two(&mut out, 14, year % 100);
    two(&mut out, 17, second / 3600);
    two(&mut out, 20, second / 60 % 60);
    two(&mut out, 23, second % 60);
    out
}

fn two(out: &mut [u8], at: usize, n: u64) {
    out[at] = b'0' + (n / 10) as u8;
    out[at + 1] = b'0' + (n % 10) as u8;
}

/// Year, month (0 = January) and day of the month. Years are counted from March, so that the leap day is the
/// last of its year.
fn civil(days: u64) -> (u64, usize, u64) {
    const ERA: u64 = 146_097;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let in_era = days % ERA;
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = days / ERA * 400 + year_of_era + u64::from(month < 2);
    (year, month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    fn text(seconds: u64) -> String {
        String::from_utf8(format(seconds).to_vec()).expect("ascii")
    }

    #[test]
    fn known_dates() {
        assert_eq!(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(1_709_251_199), "Thu, 29 Feb 2024 23:59:59 GMT");
        assert_eq!(text(1_735_689_600), "Wed, 01 Jan 2025 00:00:00 GMT");
        assert_eq!(text(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
        assert_eq!(text(u64::MAX).len(), DATE_LEN);
    }

    #[test]
    fn every_day_follows_the_one_before() {
        const LENGTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut previous = civil(0);
        for day in 1..200_000 {
            let (y, m, d) = previous;
            let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
            let last = LENGTHS[m] + u64::from(m == 1 && leap);
            let next = match (m, d) {
                (11, 31) => (y + 1, 0, 1),
                (_, d) if d == last => (y, m + 1, 1),
                _ => (y, m, d + 1),
            };
            assert_eq!(civil(day), next);
            previous = next;
        }
    }
}
