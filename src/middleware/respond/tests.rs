use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::{grpc_response, grpc_status, http_response, http_status};
use crate::error::{Reason, Rejected};
use crate::http::headers::{Pushback, grpc_retry_pushback, retry_after_by};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

fn refused(wait: Option<u64>) -> Rejected {
    Rejected::after(Reason::RateLimited, "tenants", wait)
}

fn is_about_time(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::TotalTimeout | Reason::AttemptTimeout | Reason::IdleTimeout | Reason::DeadlineExceeded
    )
}

#[test]
fn each_reason_has_an_http_status() {
    for reason in Reason::ALL.iter().copied() {
        let status = match reason {
            Reason::RateLimited => 429,
            _ if is_about_time(reason) => 504,
            _ => 503,
        };
        assert_eq!(http_status(reason).as_u16(), status, "{reason:?}");
        let response: Response<String> = http_response(Rejected::after(reason, "orders", None));
        assert_eq!((response.status().as_u16(), response.body().as_str()), (status, ""), "{reason:?}");
        let soon = ["bulkhead", "limit"].iter().any(|limit| reason.as_str().starts_with(limit));
        let retry_after = response.headers().get(RETRY_AFTER).map(HeaderValue::as_bytes);
        assert_eq!(retry_after, soon.then_some(&b"1"[..]), "{reason:?}");
    }
}

#[test]
fn each_reason_has_a_grpc_status() {
    for reason in Reason::ALL.iter().copied() {
        let status = match reason {
            Reason::CircuitOpen | Reason::Recovering | Reason::NotReady | Reason::Throttled => 14,
            _ if is_about_time(reason) => 4,
            _ => 8,
        };
        assert_eq!(grpc_status(reason), status, "{reason:?}");
        let rejected = Rejected::after(reason, "orders", None);
        let response: Response<String> = grpc_response(rejected);
        assert_eq!((response.status(), response.body().as_str()), (StatusCode::OK, ""), "{reason:?}");
        let headers = response.headers();
        assert_eq!(headers[CONTENT_TYPE], "application/grpc");
        assert_eq!(headers["grpc-status"], status.to_string(), "{reason:?}");
        assert_eq!(headers["grpc-message"], rejected.to_string(), "{reason:?}");
        assert_eq!(headers.len(), 3, "{reason:?}");
    }
}

#[test]
fn a_wait_is_rounded_up_to_the_unit_of_the_header() {
    for (wait, seconds, millis) in [
        (0, 1, 1),
        (1, 1, 1),
        (MILLISECOND, 1, 1),
        (MILLISECOND + 1, 1, 2),
        (SECOND, 1, 1_000),
        (SECOND + 1, 2, 1_001),
        (90 * SECOND, 90, 90_000),
        (u64::MAX - 1, 18_446_744_074, i32::MAX.unsigned_abs().into()),
    ] {
        let response: Response<()> = http_response(refused(Some(wait)));
        assert_eq!(response.headers()[RETRY_AFTER], seconds.to_string(), "{wait} ns");
        let read = retry_after_by(response.headers(), || unreachable!("it is no date"));
        assert_eq!(read, Some(Duration::from_secs(seconds)), "{wait} ns");
        let response: Response<()> = grpc_response(refused(Some(wait)));
        let read = grpc_retry_pushback(response.headers());
        assert_eq!(read, Some(Pushback::After(Duration::from_millis(millis))), "{wait} ns");
    }
}

#[test]
fn a_timeout_has_no_retry_after() {
    let timeout = || Rejected::timeout(Reason::DeadlineExceeded, "orders", SECOND, true);
    assert!(!http_response::<()>(timeout()).headers().contains_key(RETRY_AFTER));
    assert!(!grpc_response::<()>(timeout()).headers().contains_key("grpc-retry-pushback-ms"));
}

#[test]
fn every_layer_name_is_a_valid_message() {
    for (name, text) in
        [("größe", "gr%C3%B6%C3%9Fe"), ("100%", "100%25"), ("a\r\nb\0", "a%0D%0Ab%00"), ("~ ", "~ ")]
    {
        let response: Response<()> = grpc_response(Rejected::new(Reason::CircuitOpen, name));
        assert_eq!(response.headers()["grpc-message"], format!("rejected by {text}: circuit is open"));
    }
}
