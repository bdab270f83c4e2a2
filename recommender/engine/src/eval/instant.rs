//! Times of event records.

/// Milliseconds since 1970 of `YYYY-MM-DDTHH:MM:SS[.fff]` with `Z` or an offset: evaluation data has only
/// this form, and a calendar library is not worth it in a crate without a clock.
pub(super) fn instant(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let (time, offset_minutes) = match time.strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => {
            let at = time.rfind(['+', '-'])?;
            let (hours, minutes) = time[at + 1..].split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            (
                &time[..at],
                if time.as_bytes()[at] == b'+' {
                    minutes
                } else {
                    -minutes
                },
            )
        }
    };
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split(':');
    let hour: i64 = time.next()?.parse().ok()?;
    let minute: i64 = time.next()?.parse().ok()?;
    let seconds: f64 = time.next().unwrap_or("0").parse().ok()?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    // Days since 1970 by the usual shift of the year to March, so that leap days come last.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted - era * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(((days * 24 + hour) * 60 + minute - offset_minutes) * 60_000 + (seconds * 1_000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_those_of_the_calendar() {
        assert_eq!(instant("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(instant("2000-03-01T00:00:00Z"), Some(951_868_800_000));
        assert_eq!(instant("2011-12-09T12:50:00Z"), Some(1_323_435_000_000));
        assert_eq!(instant("2011-12-09T13:50:00.000+01:00"), Some(1_323_435_000_000));
        assert_eq!(instant("2011-12-09 12:20:00-00:30"), Some(1_323_435_000_000));
        assert_eq!(instant("yesterday"), None);
        assert_eq!(instant("2011-12-09T12:50:00"), None);
    }
}
