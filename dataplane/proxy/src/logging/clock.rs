//! Calendar dates from seconds since 1970, in UTC.

/// A point in time, taken apart. UTC: a container's local time is UTC, and no time zone database is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    pub(super) epoch_seconds: u64,
    pub(super) nanos: u32,
    pub(super) year: u64,
    /// 1 to 12.
    pub(super) month: u64,
    /// 1 to 31.
    pub(super) day: u64,
    pub(super) hour: u64,
    pub(super) minute: u64,
    pub(super) second: u64,
    /// 0 is Sunday.
    pub(super) weekday: usize,
}

pub(super) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub(super) const MONTHS: [&str; 12] = [
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

impl Calendar {
    pub(super) fn new(epoch_seconds: u64, nanos: u32) -> Self {
        let days = epoch_seconds / 86_400;
        let rest = epoch_seconds % 86_400;
        // Days are counted from 1 March of year 0, so that the leap day ends a year; an era is 400 years.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self {
            epoch_seconds,
            nanos,
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: usize::try_from((days + 4) % 7).unwrap_or(0),
        }
    }

    pub(super) fn weekday_name(&self) -> &'static str {
        WEEKDAYS.get(self.weekday).copied().unwrap_or("")
    }

    pub(super) fn month_name(&self) -> &'static str {
        let index = usize::try_from(self.month.saturating_sub(1)).unwrap_or(0);
        MONTHS.get(index).copied().unwrap_or("")
    }

    /// The hour on a 12-hour clock.
    pub(super) fn hour12(&self) -> u64 {
        (self.hour + 11) % 12 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        for (seconds, date, weekday) in [
            (0, (1970, 1, 1), "Thursday"),
            (951_782_400, (2000, 2, 29), "Tuesday"),
            (951_868_800, (2000, 3, 1), "Wednesday"),
            (1_795_402_453, (2026, 11, 23), "Monday"),
            (4_107_542_399, (2100, 2, 28), "Sunday"),
            (4_107_542_400, (2100, 3, 1), "Monday"),
        ] {
            let calendar = Calendar::new(seconds, 0);
            assert_eq!((calendar.year, calendar.month, calendar.day), date, "{seconds}");
            assert_eq!(calendar.weekday_name(), weekday, "{seconds}");
        }
        let end = Calendar::new(4_107_542_399, 5);
        assert_eq!((end.hour, end.minute, end.second, end.nanos), (23, 59, 59, 5));
        assert_eq!((end.hour12(), Calendar::new(0, 0).hour12()), (11, 12));
    }
}
