use std::io;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use httpdate::HttpDate;

use super::{HTTP, SECOND};
use crate::base::clock::wall;
use crate::classify::{Class, Classify, Outcome, RetryHint, Retryable};

fn outcome(response: &Response<()>) -> Outcome {
    Classify::<_, io::Error>::classify(&HTTP, Ok(response))
}

fn status(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

/// Returns the response of a gRPC call that ended with its headers.
fn ended(status: &str, pushback: Option<&str>) -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert("grpc-status", status.parse().unwrap());
    if let Some(pushback) = pushback {
        response.headers_mut().insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
    }
    response
}

#[test]
fn every_status_has_its_outcome() {
    for code in 100..=999 {
        let expected = match code {
            502..=504 => Outcome::failure(),
            500 => Outcome::failure().overload(false),
            // No sign of ill health, but the caller has no result.
            408 | 429 => Outcome::success().retryable(Retryable::IfIdempotent).overload(true),
            425 => Outcome::success().retryable(Retryable::IfIdempotent),
            _ if code >= 500 => Outcome::failure().retryable(Retryable::Never).overload(false),
            _ => Outcome::success(),
        };
        assert_eq!(outcome(&status(code)), expected, "{code}");
    }
}

#[test]
fn retry_after_is_read_if_the_response_is_retryable() {
    for code in 100..=599 {
        let mut response = status(code);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("7"));
        let hint = match code {
            408 | 425 | 429 | 500..=599 => Some(RetryHint::AtLeast(7 * SECOND)),
            _ => None,
        };
        assert_eq!(outcome(&response).retry_hint, hint, "{code}");
        assert_eq!(outcome(&response).retryable, outcome(&status(code)).retryable);
    }
}

#[test]
fn retry_after_has_two_forms_and_other_values_are_ignored() {
    let cases: [(&[u8], Option<Duration>); 10] = [
        (b"0", Some(Duration::ZERO)),
        (b" 7 ", Some(7 * SECOND)),
        (b"18446744073709551616", Some(Duration::from_secs(u64::MAX))),
        (b"Wed, 21 Oct 2015 07:28:00 GMT", Some(Duration::ZERO)),
        (b"", None),
        (b"-7", None),
        (b"7.5", None),
        (b"soon", None),
        (b"\xff", None),
        (b"Thu, 21 Oct 2015 07:28:00 GMT", None),
    ];
    for (value, wait) in cases {
        let mut response = status(503);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_bytes(value).unwrap());
        let found = outcome(&response);
        assert_eq!(found.retry_hint, wait.map(RetryHint::AtLeast), "{:?}", String::from_utf8_lossy(value));
        assert_eq!((found.class, found.retryable), (Class::Failure, Retryable::IfIdempotent));
    }
}

/// The machine's clock moves on during the test, and a date has whole seconds.
#[test]
fn a_date_is_measured_by_the_calendar_of_this_machine() {
    let date = HttpDate::from(wall() + 3_600 * SECOND).to_string();
    let mut response = status(503);
    response.headers_mut().insert(RETRY_AFTER, date.parse().unwrap());
    let Some(RetryHint::AtLeast(wait)) = outcome(&response).retry_hint else { panic!("no hint") };
    assert!((3_000 * SECOND..=3_600 * SECOND).contains(&wait), "{wait:?}");
}

#[test]
fn every_grpc_status_has_its_outcome() {
    for code in 0..=20 {
        let expected = match code {
            8 | 14 => Outcome::failure(),
            4 => Outcome::failure().retryable(Retryable::Never),
            2 | 10 | 12 | 13 | 15 | 17.. => Outcome::failure().retryable(Retryable::Never).overload(false),
            _ => Outcome::success(),
        };
        assert_eq!(outcome(&ended(&code.to_string(), None)), expected, "{code}");
    }
}

/// As in gRPC clients, an unknown status is `UNKNOWN`, which is 2.
#[test]
fn a_grpc_status_that_cannot_be_read_is_an_unknown_failure() {
    for status in ["", "-1", "14.0", "UNAVAILABLE", "99999999999999999999"] {
        assert_eq!(
            outcome(&ended(status, None)),
            Outcome::failure().retryable(Retryable::Never).overload(false),
            "{status:?}"
        );
    }
    let mut response = Response::new(());
    response.headers_mut().insert("grpc-status", HeaderValue::from_bytes(b"\xff").unwrap());
    assert_eq!(outcome(&response), Outcome::failure().retryable(Retryable::Never).overload(false));
}

#[test]
fn pushback_asks_for_another_attempt_after_any_failure() {
    for code in 0..=16 {
        let code = code.to_string();
        let plain = outcome(&ended(&code, None));
        let (after, stop) = if plain.class == Class::Failure {
            let failed = Outcome::failure().overload(plain.overload);
            (
                failed.retry_hint(RetryHint::Exactly(Duration::from_millis(250))),
                failed.retry_hint(RetryHint::Stop),
            )
        } else {
            (Outcome::success(), Outcome::success())
        };
        assert_eq!(outcome(&ended(&code, Some("250"))), after, "{code}");
        for pushback in ["-1", "soon", "2147483648"] {
            assert_eq!(outcome(&ended(&code, Some(pushback))), stop, "{code}, {pushback}");
        }
    }
}

#[test]
fn a_grpc_status_counts_before_that_of_http() {
    let mut response = ended("5", None);
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("7"));
    assert_eq!(outcome(&response), Outcome::success());
}

#[test]
fn an_error_is_a_failure_that_may_have_had_an_effect() {
    let error = io::Error::from(io::ErrorKind::ConnectionReset);
    assert_eq!(Classify::<Response<()>, _>::classify(&HTTP, Err(&error)), Outcome::failure());
}
