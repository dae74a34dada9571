use http::{HeaderMap, Response, StatusCode};
use http_body::Body;

use super::{GuardedBody, Http, TimedBody, Unprocessed};
use crate::base::clock;
use crate::classify::{CarryGuard, Class, Classify, Guard, Outcome, RetryHint, Retryable};
use crate::http::headers::{Pushback, grpc_retry_pushback, retry_after_by};
use crate::protocol::{BodyTimer, WrapBody};

impl<F, B, E> Classify<Response<B>, E> for Http<F>
where
    F: Unprocessed<E>,
{
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) => match grpc_status(response.headers()) {
                Some(status) => classify_grpc(status, response.headers()),
                None => self.classify_status(response.status(), response.headers()),
            },
            Err(error) if self.unprocessed.is_unprocessed(error) => Outcome::unprocessed(),
            Err(_) => Outcome::failure(),
        }
    }
}

impl<F> Http<F> {
    fn classify_status(&self, status: StatusCode, headers: &HeaderMap) -> Outcome {
        let code = status.as_u16();
        let class = match code {
            429 => self.too_many_requests,
            503 => self.service_unavailable,
            500.. => Class::Failure,
            _ => Class::Success,
        };
        let retryable = match code {
            408 | 425 | 429 | 500 | 502..=504 => Retryable::IfIdempotent,
            _ => Retryable::Never,
        };
        // A bug in the server and a request that came too early are no signs of load.
        let overload = matches!(code, 408 | 429 | 502..=504);
        let outcome = Outcome::from(class).retryable(retryable).overload(overload);
        if outcome.is_good() {
            return outcome;
        }
        match retry_after_by(headers, clock::wall) {
            Some(wait) => outcome.retry_hint(RetryHint::AtLeast(wait)),
            None => outcome,
        }
    }
}

const UNKNOWN: u32 = 2;

/// Returns the gRPC status of a call that ended with its headers; other calls have it in the
/// trailers. An invalid status counts as `UNKNOWN`, as in gRPC's own clients.
fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    const LAST: u32 = 16;
    let status = headers.get("grpc-status")?.to_str().ok().and_then(|status| status.parse().ok());
    Some(status.filter(|status| *status <= LAST).unwrap_or(UNKNOWN))
}

fn classify_grpc(status: u32, headers: &HeaderMap) -> Outcome {
    const DEADLINE_EXCEEDED: u32 = 4;
    const RESOURCE_EXHAUSTED: u32 = 8;
    const ABORTED: u32 = 10;
    const UNIMPLEMENTED: u32 = 12;
    const INTERNAL: u32 = 13;
    const UNAVAILABLE: u32 = 14;
    const DATA_LOSS: u32 = 15;
    let overload = matches!(status, RESOURCE_EXHAUSTED | UNAVAILABLE | DEADLINE_EXCEEDED);
    let failure = Outcome::failure().overload(overload);
    match status {
        RESOURCE_EXHAUSTED | UNAVAILABLE | UNKNOWN | DEADLINE_EXCEEDED | ABORTED | UNIMPLEMENTED
        | INTERNAL | DATA_LOSS => match grpc_retry_pushback(headers) {
            Some(Pushback::After(wait)) => failure.retry_hint(RetryHint::Exactly(wait)),
            Some(Pushback::Stop) => failure.retry_hint(RetryHint::Stop),
            None if matches!(status, RESOURCE_EXHAUSTED | UNAVAILABLE) => failure,
            None => failure.retryable(Retryable::Never),
        },
        _ => Outcome::success(),
    }
}

impl<F, B: Body> CarryGuard<Response<B>> for Http<F> {
    type Response<G: Guard> = Response<GuardedBody<B, G>>;

    #[inline]
    fn carry<G: Guard>(&self, response: Response<B>, guard: Option<(G, Outcome)>) -> Self::Response<G> {
        response.map(|body| GuardedBody::new(body, guard))
    }
}

impl<F, B: Body> WrapBody<Response<B>> for Http<F> {
    type Wrapped = Response<TimedBody<B>>;

    fn wrap_body(&self, response: Response<B>, timer: Option<BodyTimer>) -> Self::Wrapped {
        response.map(|body| TimedBody::new(body, timer))
    }
}
