use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};

use crate::error::{Reason, Rejected};

/// Returns the HTTP response to a rejection: its [status](http_status), `Retry-After` if known, and
/// an empty body. Pass this function to [`respond`](crate::respond()).
///
/// `Retry-After` is in whole seconds, rounded up, and at least 1. If a limit on calls in flight is
/// reached and the wait is unknown, it is 1, the smallest value of the header: calls end all the
/// time.
///
/// ```
/// use std::convert::Infallible;
///
/// use axum::{Router, body::Body, routing::get};
/// use http::{Request, StatusCode};
/// use stanchion::rate_limit::Quota;
/// use stanchion::respond::http_response;
/// use stanchion::{Error, RateLimitLayer, respond};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Infallible> {
/// let app = Router::new().route("/", get(|| async { "hello" })).layer(
///     ServiceBuilder::new()
///         .layer(respond(http_response))
///         .layer(RateLimitLayer::new(Quota::per_second(10)))
///         .map_err(Error::<Infallible>::Inner),
/// );
/// for _ in 0..10 {
///     let response = app.clone().oneshot(Request::new(Body::empty())).await?;
///     assert_eq!(response.status(), StatusCode::OK);
/// }
/// let rejected = app.oneshot(Request::new(Body::empty())).await?;
/// assert_eq!(rejected.status(), StatusCode::TOO_MANY_REQUESTS);
/// assert_eq!(rejected.headers()["retry-after"], "1");
/// # Ok(())
/// # }
/// ```
///
/// To add to the response, change what the function returns:
///
/// ```
/// use http::Response;
/// use stanchion::respond::http_response;
/// use stanchion::{Rejected, respond};
///
/// let layer = respond(|rejected: Rejected| {
///     let why = rejected.reason().to_string();
///     http_response::<()>(rejected).map(|()| why)
/// });
/// # let _ = layer;
/// ```
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "this is how `respond` calls it")]
pub fn http_response<B: Default>(rejected: Rejected) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = http_status(rejected.reason());
    let soon = has_room_soon(rejected.reason()).then_some(Duration::ZERO);
    if let Some(wait) = rejected.retry_after().or(soon) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds(wait)));
    }
    response
}

/// Returns `true` if the next call can be admitted as soon as one of the calls in flight ends.
const fn has_room_soon(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BulkheadFull | Reason::BulkheadTimeout | Reason::LimitReached | Reason::LimitTimeout
    )
}

/// Returns the HTTP status for a call that was rejected or given up for `reason`.
///
/// | status | reasons |
/// |---|---|
/// | 429 Too Many Requests | [`RateLimited`](Reason::RateLimited): this caller sends too many requests |
/// | 504 Gateway Timeout | timeouts and deadlines: total, attempt and idle timeouts, `DeadlineExceeded` |
/// | 503 Service Unavailable | all others: the server or one of its dependencies is overloaded or unhealthy |
///
/// A call that [timed out](Reason::BulkheadTimeout) in a queue is answered with 503, like a call
/// that found the queue full.
#[must_use]
pub const fn http_status(reason: Reason) -> StatusCode {
    match reason {
        Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reason::TotalTimeout | Reason::AttemptTimeout | Reason::IdleTimeout | Reason::DeadlineExceeded => {
            StatusCode::GATEWAY_TIMEOUT
        }
        // Not 429: the number of keys is not the fault of the caller with the next new key.
        Reason::TooManyKeys
        | Reason::CircuitOpen
        | Reason::Recovering
        | Reason::NotReady
        | Reason::Throttled
        | Reason::BulkheadFull
        | Reason::BulkheadTimeout
        | Reason::LimitReached
        | Reason::LimitTimeout => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Rounds up to whole seconds, at least 1: `Retry-After: 0` would make every client retry at once.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}
