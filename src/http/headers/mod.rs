//! What servers and callers say about time in headers.
//!
//! | header | read by | says |
//! |---|---|---|
//! | `retry-after` | [`retry_after`] | how long to leave the server alone |
//! | `grpc-retry-pushback-ms` | [`grpc_retry_pushback`] | when to retry, or that retrying is unwanted |
//! | `grpc-timeout` | [`grpc_timeout`], [`write_grpc_timeout`] | how long the caller will wait |
//!
//! Whatever is in a header, nothing here panics or allocates on reading it. What is read is what was said, up to
//! [`Duration::MAX`]: who acts on it sets a limit.
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

/// How long a `Retry-After` asks to wait, counted from `now`.
///
/// The first such header counts. It is a number of seconds, or a date in one of the three formats of RFC 9110,
/// section 5.6.7. A date that has passed is zero; more seconds than a `u64` holds are as many as it holds.
/// Anything else is `None`: a negative number, a fraction, a date with the wrong weekday or a leap second.
///
/// A date is only as good as the two clocks that it is measured by.
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

/// The same, with a clock that is read only for a date.
pub(crate) fn retry_after_by(headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim_ascii();
    if is_digits(value.as_bytes()) {
        // More seconds than fit are still a number of seconds.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    // In the format of RFC 850 the parser takes any character for the space before the time; each format has three.
    let has_spaces = value.bytes().filter(|byte| *byte == b' ').count() >= 3;
    let date = httpdate::parse_http_date(value).ok().filter(|_| has_spaces)?;
    Some(date.duration_since(now()).unwrap_or(Duration::ZERO))
}

/// What a server wants to become of a retry, by gRPC's proposal A6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Retry after exactly this time.
    After(Duration),
    /// Do not retry.
    Stop,
}

/// What a `grpc-retry-pushback-ms` says, which is in the headers of a response or in its trailers.
///
/// `None`: there is no such header, and the client decides. A number of milliseconds that fits an `i32` is
/// [`Pushback::After`]. All else is [`Pushback::Stop`]: a negative number, what is no number, several headers.
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

/// The units of a `grpc-timeout`, from short to long: their letter, and their length in nanoseconds.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60 * 1_000_000_000),
    (b'H', 3_600 * 1_000_000_000),
];

/// The most that its eight digits say.
const MOST: u64 = 99_999_999;

/// How long the caller waits, by a `grpc-timeout`: one to eight digits and one of `H`, `M`, `S`, `m`, `u`, `n`,
/// for hours, minutes, seconds, milli-, micro- and nanoseconds.
///
/// The first such header counts. `None` if there is none, or if it is anything else.
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

/// `timeout` as a `grpc-timeout`, in the shortest unit whose count has no more than eight digits.
///
/// What does not fit is cut off, so that no server waits for longer than its caller does: less than one part in
/// 100 000. Zero remains zero, nothing else becomes it. From 100 million hours on, it is one hour less than that.
#[must_use]
pub fn write_grpc_timeout(timeout: Duration) -> HeaderValue {
    let nanos = timeout.as_nanos();
    let mut counts = UNITS.into_iter().filter_map(|(letter, unit)| {
        let count = u64::try_from(nanos.checked_div(u128::from(unit))?).ok()?;
        (count <= MOST).then_some((letter, count))
    });
    let (letter, count) = counts.next().unwrap_or((b'H', MOST));

    let mut text = [0; 9];
    let mut rest = text.as_mut_slice();
    let written = write!(rest, "{count}{}", char::from(letter));
    debug_assert!(written.is_ok(), "eight digits and a letter");
    let unused = rest.len();
    let (text, _) = text.split_at(text.len().saturating_sub(unused));
    HeaderValue::from_bytes(text).expect("digits and a letter are a header")
}

/// Whether it is a number without a sign, however long.
fn is_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}
