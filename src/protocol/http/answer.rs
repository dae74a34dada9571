use http::{HeaderMap, Response, StatusCode};
use http_body::Body;

use super::{Http, TimedBody, Unprocessed};
use crate::clock;
use crate::headers::{Pushback, grpc_retry_pushback, retry_after_by};
use crate::protocol::{Cover, Hint, Judge, Judgement, Watch};

impl<F, B, E> Judge<Response<B>, E> for Http<F>
where
    F: Unprocessed<E>,
{
    fn judge(&self, result: Result<&Response<B>, &E>) -> Judgement {
        match result {
            Ok(response) => match grpc_status(response.headers()) {
                Some(status) => of_grpc(status, response.headers()),
                None => of_status(response.status(), response.headers()),
            },
            Err(error) if self.unprocessed.is_unprocessed(error) => Judgement::unprocessed(),
            Err(_) => Judgement::failed(),
        }
    }
}

fn of_status(status: StatusCode, headers: &HeaderMap) -> Judgement {
    match status.as_u16() {
        status @ (408 | 425 | 429 | 500 | 502..=504) => {
            // These two are no sign of load: a mistake in the server, and a request that came too early.
            let failed = match status {
                425 | 500 => Judgement::failed().accepted(),
                _ => Judgement::failed(),
            };
            match retry_after_by(headers, clock::wall) {
                Some(wait) => failed.hint(Hint::AtLeast(wait)),
                None => failed,
            }
        }
        500.. => Judgement::failed().never().accepted(),
        _ => Judgement::good(),
    }
}

const UNKNOWN: u32 = 2;

/// The status of a call of gRPC that ended with its head; otherwise it is in the trailers. What is no status is
/// unknown, as gRPC has it.
fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    const LAST: u32 = 16;
    let status = headers.get("grpc-status")?.to_str().ok().and_then(|status| status.parse().ok());
    Some(status.filter(|status| *status <= LAST).unwrap_or(UNKNOWN))
}

fn of_grpc(status: u32, headers: &HeaderMap) -> Judgement {
    const DEADLINE_EXCEEDED: u32 = 4;
    const RESOURCE_EXHAUSTED: u32 = 8;
    const ABORTED: u32 = 10;
    const UNIMPLEMENTED: u32 = 12;
    const INTERNAL: u32 = 13;
    const UNAVAILABLE: u32 = 14;
    const DATA_LOSS: u32 = 15;
    let pushback = grpc_retry_pushback(headers);
    let failed = match status {
        RESOURCE_EXHAUSTED | UNAVAILABLE | DEADLINE_EXCEEDED => Judgement::failed(),
        _ => Judgement::failed().accepted(),
    };
    match status {
        RESOURCE_EXHAUSTED | UNAVAILABLE | UNKNOWN | DEADLINE_EXCEEDED | ABORTED | UNIMPLEMENTED
        | INTERNAL | DATA_LOSS => match pushback {
            Some(Pushback::After(wait)) => failed.hint(Hint::Exactly(wait)),
            Some(Pushback::Stop) => failed.hint(Hint::Stop),
            None if matches!(status, RESOURCE_EXHAUSTED | UNAVAILABLE) => failed,
            None => failed.never(),
        },
        _ => Judgement::good(),
    }
}

impl<F, B: Body> Cover<Response<B>> for Http<F> {
    type Covered = Response<TimedBody<B>>;

    fn cover(&self, answer: Response<B>, watch: Option<Watch>) -> Self::Covered {
        answer.map(|body| TimedBody::new(body, watch))
    }
}
