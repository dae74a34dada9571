use std::fmt::Write;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response};

use crate::error::{Reason, Rejected};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Returns the gRPC response to a rejection: headers only, with its [status](grpc_status) and the
/// text of the rejection as the message. Pass this function to [`respond`](crate::respond()). It
/// works with tonic, and does not depend on it.
///
/// If the time to wait is known, `grpc-retry-pushback-ms` holds it in milliseconds: rounded up, at
/// least 1, and at most 2,147,483,647, as gRPC's proposal A6 requires. The message contains the
/// name of the layer. To hide it from callers, replace `grpc-message` in the response.
///
/// ```
/// use std::convert::Infallible;
///
/// use http::{Request, Response};
/// use stanchion::rate_limit::Quota;
/// use stanchion::respond::grpc_response;
/// use stanchion::{Error, RateLimitLayer, respond};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Infallible> {
/// // With tonic: `Server::builder().layer(layers)`.
/// let layers = ServiceBuilder::new()
///     .layer(respond(grpc_response))
///     .layer(RateLimitLayer::new(Quota::per_second(4).burst(1)).name("lookups"))
///     .map_err(Error::<Infallible>::Inner);
/// let mut service = layers.service(service_fn(|_: Request<()>| async { Ok(Response::new(())) }));
///
/// service.ready().await?.call(Request::new(())).await?;
/// let rejected = service.ready().await?.call(Request::new(())).await?;
/// assert_eq!(rejected.headers()["grpc-status"], "8", "RESOURCE_EXHAUSTED");
/// assert_eq!(rejected.headers()["grpc-retry-pushback-ms"], "250");
/// let message = "rejected by lookups: rate limit reached, retry after 250ms";
/// assert_eq!(rejected.headers()["grpc-message"], message);
/// # Ok(())
/// # }
/// ```
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "this is how `respond` calls it")]
pub fn grpc_response<B: Default>(rejected: Rejected) -> Response<B> {
    let mut response = Response::new(B::default());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from(grpc_status(rejected.reason())));
    headers.insert(MESSAGE, encoded(&rejected.to_string()));
    if let Some(wait) = rejected.retry_after() {
        headers.insert(PUSHBACK, HeaderValue::from(millis(wait)));
    }
    response
}

/// Returns the number of the gRPC status for a call that was rejected or given up for `reason`.
///
/// | status | reasons |
/// |---|---|
/// | 8, `RESOURCE_EXHAUSTED` | [quotas](crate::rate_limit) and [bulkheads](crate::bulkhead) |
/// | 4, `DEADLINE_EXCEEDED` | timeouts and deadlines: total, attempt and idle timeouts, `DeadlineExceeded` |
/// | 14, `UNAVAILABLE` | all others: a dependency of the server is unhealthy |
#[must_use]
pub const fn grpc_status(reason: Reason) -> i32 {
    const DEADLINE_EXCEEDED: i32 = 4;
    const RESOURCE_EXHAUSTED: i32 = 8;
    const UNAVAILABLE: i32 = 14;
    match reason {
        Reason::RateLimited
        | Reason::TooManyKeys
        | Reason::BulkheadFull
        | Reason::BulkheadTimeout
        | Reason::LimitReached
        | Reason::LimitTimeout => RESOURCE_EXHAUSTED,
        Reason::TotalTimeout | Reason::AttemptTimeout | Reason::IdleTimeout | Reason::DeadlineExceeded => {
            DEADLINE_EXCEEDED
        }
        Reason::CircuitOpen | Reason::Recovering | Reason::NotReady | Reason::Throttled => UNAVAILABLE,
    }
}

/// Maps a rejection to a status with the code of [`grpc_status`]. The rejection is the status's
/// [`source`](std::error::Error::source), which is not sent over the network. Creating a status
/// from a rejection allocates.
#[cfg(feature = "grpc")]
impl crate::error::CarryRejected for tonic::Status {
    fn from_rejected(rejected: Rejected) -> Self {
        let code = tonic::Code::from_i32(grpc_status(rejected.reason()));
        let mut status = Self::new(code, rejected.to_string());
        status.set_source(std::sync::Arc::new(rejected));
        status
    }

    fn rejected(&self) -> Option<Rejected> {
        Rejected::find(std::error::Error::source(self)?)
    }
}

/// Rounds up to whole milliseconds, at least 1 and at most `i32::MAX`.
fn millis(wait: Duration) -> i32 {
    i32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX).max(1)
}

/// Percent-encodes a message as gRPC does: printable ASCII stays, except for the percent sign.
fn encoded(text: &str) -> HeaderValue {
    let mut header = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            header.push(char::from(byte));
        } else {
            write!(header, "%{byte:02X}").expect("a string takes everything");
        }
    }
    HeaderValue::try_from(header).expect("printable ASCII is a header")
}
