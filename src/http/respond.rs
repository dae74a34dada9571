use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};

use crate::error::{Reason, Rejected};

/// The response to a refusal over HTTP, to be given to [`respond`](crate::respond()): a [status](http_status),
/// `Retry-After` with when to come again, and an empty body.
///
/// `Retry-After` counts in whole seconds: it is rounded up, and at least 1. Where as many calls are under way as may, and it is
/// not known when there will be room, it is 1: that is soon, and the least that the header can say.
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
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Infallible> {
/// let app = Router::new().route("/", get(|| async { "hello" })).layer(
///     ServiceBuilder::new()
///         .layer(respond(http_response))
///         .layer(RateLimitLayer::new(Quota::per_second(10)))
///         .map_err(Error::<Infallible>::Inner),
/// );
/// for _ in 0..10 {
///     assert_eq!(app.clone().oneshot(Request::new(Body::empty())).await?.status(), StatusCode::OK);
/// }
/// let refused = app.oneshot(Request::new(Body::empty())).await?;
/// assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
/// assert_eq!(refused.headers()["retry-after"], "1");
/// # Ok(())
/// # }
/// ```
///
/// To say more, change what it returns:
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

/// Whether it is enough that one of the calls under way ends.
const fn has_room_soon(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BulkheadFull | Reason::BulkheadTimeout | Reason::LimitReached | Reason::LimitTimeout
    )
}

/// What a server says to a caller whose call was refused or given up for this reason.
///
/// | status | reasons |
/// |---|---|
/// | 429 Too Many Requests | [`RateLimited`](Reason::RateLimited): this caller is to come less often |
/// | 504 Gateway Timeout | time ran out: total, attempt and idle timeouts, and deadlines |
/// | 503 Service Unavailable | all others: the server, or what it depends on, has too much to do or is ill |
///
/// A call that [waited for too long](Reason::BulkheadTimeout) in a queue is 503, as is one that found the queue full.
#[must_use]
pub const fn http_status(reason: Reason) -> StatusCode {
    match reason {
        Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reason::TotalTimeout | Reason::AttemptTimeout | Reason::IdleTimeout | Reason::DeadlineExceeded => {
            StatusCode::GATEWAY_TIMEOUT
        }
        // That the keys are too many is not the fault of whoever comes with another.
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

/// Whole ones, not fewer than there are. None at all would invite everybody at once.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}
