//! Dates and spans as this wire writes them ("Data Types" of the published documents).
//!
//! A `DateTime` is ISO 8601; the documents show its basic and its extended form, and clients read only the extended one.
//! A `Time` is `[days.]hours:minutes[:seconds[.fraction]]`, whose parts need no padding.

use std::time::Duration;

use gatepost_identity::clock::Timestamp;
use serde::Deserialize;

/// Which form of ISO 8601 a date has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DateFormat {
    /// `2031-01-02T03:04:05Z`
    Extended,
    /// `20310102T030405Z`
    Basic,
}

/// Writes a moment in UTC, cut to whole seconds, so that nobody is told a later end than the true one.
pub(super) fn push_date(out: &mut String, moment: Timestamp, format: DateFormat) {
    let seconds = moment.millis().div_euclid(1000);
    let stamp =
        jiff::Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX });
    let civil = jiff::tz::Offset::UTC.to_datetime(stamp);
    let (dash, colon) = match format {
        DateFormat::Extended => ("-", ":"),
        DateFormat::Basic => ("", ""),
    };
    push_padded(out, civil.year().unsigned_abs().into(), 4);
    out.push_str(dash);
    push_padded(out, civil.month().unsigned_abs().into(), 2);
    out.push_str(dash);
    push_padded(out, civil.day().unsigned_abs().into(), 2);
    out.push('T');
    push_padded(out, civil.hour().unsigned_abs().into(), 2);
    out.push_str(colon);
    push_padded(out, civil.minute().unsigned_abs().into(), 2);
    out.push_str(colon);
    push_padded(out, civil.second().unsigned_abs().into(), 2);
    out.push('Z');
}

/// Writes a span under a day with its fraction, `00:29:59.9370000`: the one form that a client seen reads.
pub(super) fn push_remainder(out: &mut String, span: Duration) {
    push_clock(out, span);
    push_fraction(out, span);
}

/// Writes a span under a day, with a fraction only where there is one: `00:00:35`.
pub(super) fn push_span(out: &mut String, span: Duration) {
    push_clock(out, span);
    if span.subsec_nanos() >= 100 {
        push_fraction(out, span);
    }
}

fn push_clock(out: &mut String, span: Duration) {
    let seconds = span.as_secs();
    push_padded(out, seconds / 3600, 2);
    out.push(':');
    push_padded(out, seconds / 60 % 60, 2);
    out.push(':');
    push_padded(out, seconds % 60, 2);
}

/// Seven digits, as .NET writes them.
fn push_fraction(out: &mut String, span: Duration) {
    out.push('.');
    push_padded(out, u64::from(span.subsec_nanos() / 100), 7);
}

fn push_padded(out: &mut String, number: u64, width: u32) {
    let mut unit = 10_u64.pow(width - 1);
    while unit > 0 {
        out.push(char::from(b'0' + (number / unit % 10) as u8));
        unit /= 10;
    }
}

/// Reads a span. `None`: it is not of the documented form, or negative.
pub(super) fn parse_span(text: &str) -> Option<Duration> {
    let mut parts = text.split(':');
    let (first, minutes, last) = (parts.next()?, parts.next()?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let (days, hours) = match first.split_once('.') {
        Some((days, hours)) => (number(days, 10_000_000)?, hours),
        None => (0, first),
    };
    let (seconds, fraction) = last.unwrap_or("0").split_once('.').map_or((last.unwrap_or("0"), None), |(s, f)| (s, Some(f)));
    let whole = ((days * 24 + number(hours, 23)?) * 60 + number(minutes, 59)?) * 60 + number(seconds, 59)?;
    Some(Duration::new(whole, fraction.map_or(Some(0), nanoseconds)?))
}

fn number(digits: &str, most: u64) -> Option<u64> {
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| plain && *number <= most)
}

/// One to seven digits behind the point.
fn nanoseconds(digits: &str) -> Option<u32> {
    let digits = Some(digits).filter(|digits| digits.len() <= 7)?;
    let number = number(digits, 9_999_999)?;
    u32::try_from(number * 10_u64.pow(9 - digits.len() as u32)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_utc_in_whole_seconds() {
        let check = |millis, format, expected: &str| {
            let mut out = String::new();
            push_date(&mut out, Timestamp::from_millis(millis), format);
            assert_eq!(out, expected, "{millis}");
        };
        check(0, DateFormat::Extended, "1970-01-01T00:00:00Z");
        check(1_925_089_445_999, DateFormat::Extended, "2031-01-02T03:04:05Z");
        check(1_925_089_445_999, DateFormat::Basic, "20310102T030405Z");
        check(951_782_400_000, DateFormat::Extended, "2000-02-29T00:00:00Z");
        check(-1, DateFormat::Extended, "1969-12-31T23:59:59Z");
        assert!(
            !{
                let mut out = String::new();
                push_date(&mut out, Timestamp::from_millis(i64::MAX), DateFormat::Extended);
                out
            }
            .is_empty()
        );
    }

    #[test]
    fn a_remainder_always_has_its_fraction_and_a_span_only_where_needed() {
        let written = |write: fn(&mut String, Duration), millis| {
            let mut out = String::new();
            write(&mut out, Duration::from_millis(millis));
            out
        };
        assert_eq!(written(push_remainder, 1_799_937), "00:29:59.9370000");
        assert_eq!(written(push_remainder, 0), "00:00:00.0000000");
        assert_eq!(written(push_remainder, 86_399_999), "23:59:59.9990000");
        assert_eq!(written(push_span, 35_000), "00:00:35");
        assert_eq!(written(push_span, 300_000), "00:05:00");
        assert_eq!(written(push_span, 5_500), "00:00:05.5000000");
    }

    #[test]
    fn spans_are_read_in_every_documented_form_and_no_other() {
        let check = |text, millis: Option<u64>| assert_eq!(parse_span(text), millis.map(Duration::from_millis), "{text:?}");
        check("00:00:35", Some(35_000));
        check("0:0:5", Some(5_000));
        check("1:30", Some(5_400_000));
        check("00:00:01.5", Some(1_500));
        check("00:00:01.5000000", Some(1_500));
        check("2.03:00:00", Some(183_600_000));
        check("00:00:00", Some(0));
        for text in [
            "",
            "35",
            ":",
            "::",
            "0:0:",
            ":0:5",
            "-00:00:05",
            "+0:0:5",
            "00:60:00",
            "00:00:60",
            "24:00",
            "0:0:0:5",
            "0:0:5.",
            "0:0:5.12345678",
        ] {
            check(text, None);
        }
        for text in [" 00:00:05", "00:00:05 ", "0:0:5.x", ".1:00", "1.:00", "1.2.3:00", "٣:00", "999999999.0:0"] {
            check(text, None);
        }
    }
}
