//! Parsers and writers for the headers that carry waits and timeouts.
//!
//! | header | read by | says |
//! |---|---|---|
//! | `retry-after` | [`retry_after`] | the time to wait before the next request |
//! | `grpc-retry-pushback-ms` | [`grpc_retry_pushback`] | the time to wait before a retry, or that retries are unwanted |
//! | `grpc-timeout` | [`grpc_timeout`], [`write_grpc_timeout`] | the time that the caller will wait |
//!
//! Reading a header never panics and never allocates, whatever it contains. Values are returned as
//! sent, up to [`Duration::MAX`]: callers must apply their own limit.
//!
//! ```
//! use std::time::Duration;
//!
//! use http::HeaderMap;
//! use stanchion::http::headers::{grpc_timeout, write_grpc_timeout};
//!
//! let mut headers = HeaderMap::new();
//! headers.insert("grpc-timeout", write_grpc_timeout(Duration::from_millis(250)));
//! assert_eq!(headers["grpc-timeout"], "250000u");
//! assert_eq!(grpc_timeout(&headers), Some(Duration::from_millis(250)));
//! ```

#![warn(clippy::arithmetic_side_effects, reason = "headers come from outside")]

#[cfg(test)]
mod tests;

use std::io::Write;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header};

/// Returns the wait that a `Retry-After` header asks for, counted from `now`.
///
/// Only the first such header is read. It contains a number of seconds, or a date in one of the
/// three formats of RFC 9110, section 5.6.7. A date in the past is zero. A number of seconds above
/// `u64::MAX` counts as `u64::MAX`. Any other value is `None`: a negative number, a fraction, a
/// date with the wrong weekday or a leap second.
///
/// The wait until a date is only as exact as the clocks of the server and the client.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use http::{HeaderMap, HeaderValue, header};
/// use stanchion::http::headers::retry_after;
///
/// let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_450);
/// let mut headers = HeaderMap::new();
/// headers.insert(header::RETRY_AFTER, HeaderValue::from_static("120"));
/// assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(120)));
/// headers.insert(header::RETRY_AFTER, HeaderValue::from_static("Wed, 21 Oct 2015 07:28:00 GMT"));
/// assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(30)));
/// ```
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    retry_after_by(headers, || now)
}

/// Like [`retry_after`], with a clock that is read only if the header contains a date.
pub(crate) fn retry_after_by(headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim_ascii();
    if is_digits(value.as_bytes()) {
        // Too many digits for a `u64` are still a valid number of seconds.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    // With RFC 850 dates, the parser accepts any character in place of the space before the time.
    // All three formats contain at least three spaces.
    let has_spaces = value.bytes().filter(|byte| *byte == b' ').count() >= 3;
    let date = httpdate::parse_http_date(value).ok().filter(|_| has_spaces)?;
    Some(date.duration_since(now()).unwrap_or(Duration::ZERO))
}

/// A server's instruction about retries, as in gRPC's proposal A6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Retry after exactly this time.
    After(Duration),
    /// Do not retry.
    Stop,
}

/// Returns the instruction in `grpc-retry-pushback-ms`, from the headers or the trailers of a
/// response.
///
/// Returns `None` without such a header: the client decides. A number of milliseconds that fits an
/// `i32` is [`Pushback::After`]. Anything else is [`Pushback::Stop`]: a negative number, an invalid
/// number, several headers.
#[must_use]
pub fn grpc_retry_pushback(headers: &HeaderMap) -> Option<Pushback> {
    let mut values = headers.get_all("grpc-retry-pushback-ms").iter();
    let value = values.next()?;
    if values.next().is_some() {
        return Some(Pushback::Stop);
    }
    let millis = value.to_str().ok().filter(|text| is_digits(text.as_bytes()));
    let millis = millis.and_then(|text| text.parse::<i32>().ok()?.try_into().ok());
    Some(millis.map_or(Pushback::Stop, |millis| Pushback::After(Duration::from_millis(millis))))
}

/// The units of a `grpc-timeout`, from short to long: letter, and length in nanoseconds.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60 * 1_000_000_000),
    (b'H', 3_600 * 1_000_000_000),
];

/// The maximum count of a `grpc-timeout`, which has up to eight digits.
const MAX_COUNT: u64 = 99_999_999;

/// Returns the time that the caller will wait, from `grpc-timeout`: one to eight digits and one of
/// `H`, `M`, `S`, `m`, `u`, `n`, for hours, minutes, seconds, milli-, micro- and nanoseconds.
///
/// Only the first such header is read. Returns `None` if there is none or if it is invalid.
#[must_use]
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get("grpc-timeout")?.as_bytes().split_last()?;
    let (_, nanos) = UNITS.into_iter().find(|(letter, _)| letter == unit)?;
    if digits.len() > 8 || !is_digits(digits) {
        return None;
    }
    let count: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(Duration::from_nanos(nanos).saturating_mul(count))
}

/// Returns `timeout` as the value of a `grpc-timeout`, in the shortest unit whose count has at most
/// eight digits.
///
/// The value is rounded down, by less than one part in 100,000, so that the server does not work
/// for longer than its caller waits. Only zero is written as zero. A timeout of 100 million hours
/// or more is written as 99,999,999 hours.
#[must_use]
pub fn write_grpc_timeout(timeout: Duration) -> HeaderValue {
    let nanos = timeout.as_nanos();
    let mut counts = UNITS.into_iter().filter_map(|(letter, unit)| {
        let count = u64::try_from(nanos.checked_div(u128::from(unit))?).ok()?;
        (count <= MAX_COUNT).then_some((letter, count))
    });
    let (letter, count) = counts.next().unwrap_or((b'H', MAX_COUNT));

    let mut text = [0; 9];
    let mut rest = text.as_mut_slice();
    let written = write!(rest, "{count}{}", char::from(letter));
    debug_assert!(written.is_ok(), "eight digits and a letter");
    let unused = rest.len();
    let (text, _) = text.split_at(text.len().saturating_sub(unused));
    HeaderValue::from_bytes(text).expect("digits and a letter are a header")
}

/// Returns `true` for an unsigned number of any length.
fn is_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}
