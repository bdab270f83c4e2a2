//! What an event's fields may be.

use std::borrow::Cow;

use super::borrowed::Raw;
use super::{EventError, MAX_ID_BYTES};

fn invalid(field: &'static str, problem: impl Into<String>) -> EventError {
    EventError::InvalidField {
        field,
        problem: problem.into(),
    }
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) if text.trim().len() == text.len() => Cow::Owned(text),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

pub(super) fn text<'a>(field: &'static str, value: Raw<'a>) -> Result<Option<Cow<'a, str>>, EventError> {
    let text = match value {
        Raw::Nothing => return Ok(None),
        Raw::Text(text) => trimmed(text),
        // ksqlDB turns a number into text where VARCHAR is declared: so do we.
        Raw::Number(number) => Cow::Owned(number.to_string()),
        other => {
            return Err(invalid(
                field,
                format!("must be a string, found {}", other.kind()),
            ));
        }
    };
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(invalid(field, format!("is longer than {MAX_ID_BYTES} bytes")));
    }
    let controls = match text.is_ascii() {
        true => text.bytes().any(|byte| byte.is_ascii_control()),
        false => text.chars().any(char::is_control),
    };
    if controls {
        return Err(invalid(field, "contains control characters"));
    }
    Ok(Some(text))
}

/// No shop sells so many or for so much, and sums of prices times quantities stay numbers.
const MOST: f64 = 1e12;

pub(super) fn number(field: &'static str, value: Raw<'_>) -> Result<Option<f64>, EventError> {
    let number = match value {
        Raw::Nothing => return Ok(None),
        Raw::Number(number) => number.as_f64(),
        Raw::Text(text) => text.trim().parse().ok(),
        other => {
            return Err(invalid(
                field,
                format!("must be a number, found {}", other.kind()),
            ));
        }
    };
    match number {
        Some(number) if (0.0..=MOST).contains(&number) => Ok(Some(number)),
        _ => Err(invalid(field, "must be a number from 0 to a million millions")),
    }
}

pub(super) fn object(field: &'static str, value: &Raw<'_>) -> Result<(), EventError> {
    match value {
        Raw::Nothing | Raw::Object => Ok(()),
        other => Err(invalid(
            field,
            format!("must be an object, found {}", other.kind()),
        )),
    }
}

/// RFC 3339, or epoch milliseconds as number or digits.
pub(super) fn timestamp(value: Raw<'_>) -> Result<Option<i64>, EventError> {
    let bad = || {
        invalid(
            "timestamp",
            "must be RFC 3339 (2026-01-31T12:00:00Z) or epoch milliseconds",
        )
    };
    let ms = match value {
        Raw::Nothing => return Ok(None),
        Raw::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|f| f as i64))
            .ok_or_else(bad)?,
        Raw::Text(text) => match text.trim().parse::<i64>() {
            Ok(ms) => ms,
            Err(_) => text
                .trim()
                .parse::<jiff::Timestamp>()
                .map_err(|_| bad())?
                .as_millisecond(),
        },
        _ => return Err(bad()),
    };
    // Years 1970 to 9999: anything else is seconds, nanoseconds or rubbish.
    if (0..=253_402_300_799_999).contains(&ms) {
        Ok(Some(ms))
    } else {
        Err(bad())
    }
}
