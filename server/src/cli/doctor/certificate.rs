//! What `doctor` asks of the certificate on disk: from when and until when it is good, and whether it is for the name that peers
//! know.
//!
//! Of X.509 (RFC 5280 section 4.1) it reads as far as the two moments of `Validity`; whether a name is among those of the
//! certificate, rustls says.

use gatepost_identity::clock::{Timestamp, system_now};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use super::{Finding, fault, warning};
use crate::config::Config;

/// A day, in milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// Looks over the certificate; none, where there is none.
pub(super) fn check(config: &Config, least_days: u32) -> Option<Vec<Finding>> {
    let (_, files) = config.https.as_ref()?;
    let name = files.certificate.display();
    let remedy = "renew it, and put the new one in its place; the server reads it anew by itself";
    let read = CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = match read {
        Ok(chain) => chain,
        Err(error) => return Some(vec![fault(format!("{name} cannot be read: {error}"), remedy)]),
    };
    let mut findings = Vec::new();
    let now = system_now();
    for (number, certificate) in (1..).zip(&chain) {
        let which = if number == 1 { name.to_string() } else { format!("{name}, its certificate number {number},") };
        let Some((from, until)) = validity(certificate) else {
            findings.push(fault(format!("{which} does not say until when it is good"), remedy));
            continue;
        };
        let left = until.millis().saturating_sub(now.millis());
        if left < 0 {
            findings.push(fault(format!("{which} ended on {}", day(until)), remedy));
        } else if left / DAY < i64::from(least_days) {
            findings.push(warning(format!("{which} ends in {} days, on {}", left / DAY, day(until)), remedy));
        }
        if from > now {
            findings.push(fault(format!("{which} is good only from {} on", day(from)), "see that the machine's clock is right"));
        }
    }
    if let (Some(own), Some(host)) = (chain.first(), host(config)) {
        let is_for = |host: &ServerName<'_>| {
            let parsed = ParsedCertificate::try_from(own).map_err(|error| error.to_string())?;
            verify_server_name(&parsed, host).map_err(|error| error.to_string())
        };
        if let Err(error) = is_for(&host) {
            let what = format!("{name} is not for the host of public_url, {}: {error}", host.to_str());
            findings.push(fault(what, "have one made for that name, or set public_url to a name that it is for"));
        }
    }
    Some(findings)
}

/// The host of `public_url`.
pub(super) fn host(config: &Config) -> Option<ServerName<'static>> {
    let uri: http::Uri = config.public_url.as_ref()?.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(host).ok()
}

fn day(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis())
        .map_or_else(|_| "a day out of reach".to_owned(), |at| at.strftime("%F").to_string())
}

/// From when until when a certificate is good; none, where it cannot be read.
fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    const SEQUENCE: u8 = 0x30;
    /// `[0]`, which holds the version and may be left out.
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, signed, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let rest = match element(signed)? {
        (VERSION, _, rest) => rest,
        _ => signed,
    };
    // The serial number, the algorithm and the issuer.
    let rest = (0..3).try_fold(rest, |rest, _| element(rest).map(|(.., rest)| rest))?;
    let (_, validity, _) = element(rest).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (tag, from, rest) = element(validity)?;
    let (until_tag, until, _) = element(rest)?;
    Some((moment(tag, from)?, moment(until_tag, until)?))
}

/// The first element of DER (X.690 section 8.1): its tag, what is in it, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0_usize, |length, &digit| (length << 8) | usize::from(digit)), rest)
        }
        _ => return None,
    };
    let (inside, rest) = rest.split_at_checked(length)?;
    Some((tag, inside, rest))
}

/// A `Time` (RFC 5280 section 4.1.2.5): always in UTC, with seconds and a `Z`.
fn moment(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        // UTCTime, whose years from 50 on are of the last century.
        0x17 => format!("{}{text}", if text.get(..2)? >= "50" { "19" } else { "20" }),
        // GeneralizedTime.
        0x18 => text.to_owned(),
        _ => return None,
    };
    let at = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_millis(at.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(from: (i32, u8, u8), until: (i32, u8, u8)) -> CertificateDer<'static> {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        parameters.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let key = rcgen::KeyPair::generate().expect("a key");
        parameters.self_signed(&key).expect("a certificate").der().clone()
    }

    #[test]
    fn the_two_moments_are_read_in_both_of_their_forms() {
        let check = |from, until, expected: (&str, &str)| {
            let (from, until) = validity(&made(from, until)).expect("two moments");
            assert_eq!((day(from).as_str(), day(until).as_str()), expected);
        };
        check((2026, 1, 31), (2027, 2, 28), ("2026-01-31", "2027-02-28"));
        check((1999, 12, 31), (2049, 12, 31), ("1999-12-31", "2049-12-31"));
        check((2000, 1, 1), (4096, 1, 1), ("2000-01-01", "4096-01-01"));
    }

    #[test]
    fn what_is_cut_off_or_no_certificate_is_told_apart_and_never_breaks_it() {
        let whole = made((2026, 1, 1), (2027, 1, 1));
        for length in 0..whole.len() {
            assert_eq!(validity(&whole[..length]), None, "{length}");
        }
        for bytes in [&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff][..], &[0x30, 0x80], &[0x30, 0x02, 0x30, 0x00], b"not DER at all"] {
            assert_eq!(validity(bytes), None, "{bytes:?}");
        }
    }
}
