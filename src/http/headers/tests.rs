//! The values of each header, byte for byte.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test may fail")]

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::{Pushback, grpc_retry_pushback, grpc_timeout, retry_after, retry_after_by, write_grpc_timeout};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Half a minute before `Wed, 21 Oct 2015 07:28:00 GMT`.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + 1_445_412_450 * SECOND
}

fn headers(name: &'static str, values: &[&[u8]]) -> HeaderMap {
    let value = |value: &&[u8]| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in values.iter().map(value) {
        headers.append(name, value);
    }
    headers
}

#[track_caller]
fn retry_after_is(values: &[&[u8]], expected: Option<Duration>) {
    assert_eq!(retry_after(&headers("retry-after", values), now()), expected, "{}", shown(values));
}

fn shown(values: &[&[u8]]) -> String {
    values.iter().map(|value| format!("{:?} ", String::from_utf8_lossy(value))).collect()
}

#[test]
fn retry_after_is_a_number_of_seconds() {
    let most = Duration::from_secs(u64::MAX);
    for (value, wait) in [
        (&b"0"[..], Duration::ZERO),
        (b"120", 120 * SECOND),
        (b" 5 ", 5 * SECOND),
        (b"\t5\t", 5 * SECOND),
        (b"0007", 7 * SECOND),
        (b"18446744073709551615", most),
        (b"18446744073709551616", most),
        (&[b'9'; 400], most),
    ] {
        retry_after_is(&[value], Some(wait));
    }
}

#[test]
fn retry_after_is_a_date_in_each_of_the_three_formats() {
    for value in [
        &b"Wed, 21 Oct 2015 07:28:00 GMT"[..],
        b"Wednesday, 21-Oct-15 07:28:00 GMT",
        b"Wed Oct 21 07:28:00 2015",
        b"  Wed, 21 Oct 2015 07:28:00 GMT ",
    ] {
        retry_after_is(&[value], Some(30 * SECOND));
    }
    retry_after_is(&[b"Sat Oct 31 07:27:30 2015"], Some(10 * 86_400 * SECOND));
    retry_after_is(&[b"Sun Nov  1 07:27:30 2015"], Some(11 * 86_400 * SECOND));
    retry_after_is(&[b"Fri, 31 Dec 9999 23:59:59 GMT"], Some(Duration::from_secs(251_956_888_349)));
}

#[test]
fn a_date_is_never_taken_for_earlier_than_it_is() {
    let date = headers("retry-after", &[b"Wed, 21 Oct 2015 07:28:00 GMT"]);
    let wait = |now| retry_after(&date, now).unwrap();
    assert_eq!(wait(now() + MILLISECOND), 30 * SECOND - MILLISECOND);
    assert_eq!(wait(now() + 30 * SECOND - Duration::from_nanos(1)), Duration::from_nanos(1));
}

#[test]
fn a_date_that_has_passed_is_no_wait() {
    for value in [
        &b"Wed, 21 Oct 2015 07:27:30 GMT"[..],
        b"Wed, 21 Oct 2015 07:27:29 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Thu Jan  1 00:00:00 1970",
    ] {
        retry_after_is(&[value], Some(Duration::ZERO));
    }
}

#[test]
fn a_retry_after_that_is_neither_is_none() {
    for value in [
        &b""[..],
        b" ",
        b"-1",
        b"+1",
        b"1.5",
        b"1e9",
        b"1 2",
        b"7, 8",
        b"0x10",
        b"\xff\xfe",
        "٧".as_bytes(),
        b"soon",
        // The weekday is wrong.
        b"Thu, 21 Oct 2015 07:28:00 GMT",
        b"Wed, 21 Oct 2015 07:28:00 UTC",
        b"Wed, 21 oct 2015 07:28:00 GMT",
        b"Wed, 21 Oct 2015 24:00:00 GMT",
        b"Wed, 21 Oct 2015 07:28:60 GMT",
        b"Mon, 30 Feb 2015 07:28:00 GMT",
        b"2015-10-21T07:28:00Z",
        b"Wednesday, 21-Oct-15007:28:00 GMT",
    ] {
        retry_after_is(&[value], None);
    }
    retry_after_is(&[], None);
}

#[test]
fn only_the_first_retry_after_is_read() {
    retry_after_is(&[b"7", b"8"], Some(7 * SECOND));
    retry_after_is(&[b"soon", b"8"], None);
}

#[test]
fn the_clock_is_read_only_for_a_date() {
    for (value, reads) in [(&b"7"[..], 0), (b"soon", 0), (b"Wed, 21 Oct 2015 07:28:00 GMT", 1)] {
        let read = Cell::new(0);
        let _ = retry_after_by(&headers("retry-after", &[value]), || {
            read.set(read.get() + 1);
            now()
        });
        assert_eq!(read.get(), reads, "{}", shown(&[value]));
    }
}

#[test]
fn pushback_is_a_delay_or_stop() {
    let after = |millis| Some(Pushback::After(Duration::from_millis(millis)));
    for (values, expected) in [
        (&[][..], None),
        (&[&b"100"[..]], after(100)),
        (&[b"0"], after(0)),
        (&[b"007"], after(7)),
        (&[b"2147483647"], after(2_147_483_647)),
        (&[b"2147483648"], Some(Pushback::Stop)),
        (&[b"99999999999"], Some(Pushback::Stop)),
        (&[b"-1"], Some(Pushback::Stop)),
        (&[b"-0"], Some(Pushback::Stop)),
        (&[b"+1"], Some(Pushback::Stop)),
        (&[b""], Some(Pushback::Stop)),
        (&[b" 1"], Some(Pushback::Stop)),
        (&[b"abc"], Some(Pushback::Stop)),
        (&[b"1.5"], Some(Pushback::Stop)),
        (&[b"\xff"], Some(Pushback::Stop)),
        (&[b"100", b"100"], Some(Pushback::Stop)),
    ] {
        let headers = headers("grpc-retry-pushback-ms", values);
        assert_eq!(grpc_retry_pushback(&headers), expected, "{}", shown(values));
    }
}

#[test]
fn a_grpc_timeout_is_digits_and_a_unit() {
    for (value, timeout) in [
        (&b"1H"[..], Duration::from_secs(3_600)),
        (b"1M", Duration::from_secs(60)),
        (b"1S", SECOND),
        (b"100m", Duration::from_millis(100)),
        (b"1u", Duration::from_micros(1)),
        (b"99999999n", Duration::from_nanos(99_999_999)),
        (b"0n", Duration::ZERO),
        (b"00000001S", SECOND),
        (b"99999999H", Duration::from_secs(99_999_999 * 3_600)),
    ] {
        assert_eq!(grpc_timeout(&headers("grpc-timeout", &[value])), Some(timeout), "{}", shown(&[value]));
    }
    assert_eq!(grpc_timeout(&headers("grpc-timeout", &[b"1S", b"2S"])), Some(SECOND));
}

#[test]
fn other_values_are_no_grpc_timeout() {
    for value in [
        &b""[..],
        b"S",
        b"1",
        b"1s",
        b"1h",
        b"123456789S",
        b"000000001S",
        b"1.5S",
        b"-1S",
        b"+1S",
        b" 1S",
        b"1S ",
        b"1 S",
        b"1SS",
        b"\xff",
        b"\xffS",
        "٧S".as_bytes(),
    ] {
        assert_eq!(grpc_timeout(&headers("grpc-timeout", &[value])), None, "{}", shown(&[value]));
    }
    assert_eq!(grpc_timeout(&HeaderMap::new()), None);
}

#[test]
fn a_timeout_is_written_in_the_shortest_unit_that_holds_it() {
    for (timeout, text) in [
        (Duration::ZERO, "0n"),
        (Duration::from_nanos(1), "1n"),
        (Duration::from_nanos(99_999_999), "99999999n"),
        (Duration::from_nanos(100_000_000), "100000u"),
        (Duration::from_nanos(100_000_999), "100000u"),
        (SECOND, "1000000u"),
        (100 * SECOND, "100000m"),
        (100_000 * SECOND, "100000S"),
        (100_000_000 * SECOND, "1666666M"),
        (Duration::from_secs(100_000_000 * 60), "1666666H"),
        (Duration::from_secs(99_999_999 * 3_600), "99999999H"),
        (Duration::from_secs(100_000_000 * 3_600), "99999999H"),
        (Duration::MAX, "99999999H"),
    ] {
        assert_eq!(write_grpc_timeout(timeout), text, "{timeout:?}");
    }
}

fn timeout() -> impl Strategy<Value = Duration> {
    // Numbers of all lengths are equally likely.
    (any::<u64>(), 0..64_u32, 0..1_000_000_000_u32)
        .prop_map(|(seconds, shift, nanos)| Duration::new(seconds >> shift, nanos))
}

proptest! {
    #[test]
    fn a_timeout_that_is_written_and_read_is_no_longer_and_hardly_shorter(timeout in timeout()) {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", write_grpc_timeout(timeout));
        let read = grpc_timeout(&headers).unwrap();
        prop_assert!(read <= timeout);
        let most = Duration::from_secs(99_999_999 * 3_600);
        let lost = timeout.min(most) - read;
        prop_assert!(lost <= timeout / 100_000, "{timeout:?} became {read:?}");
    }
}
