//! Overload: callers that leave, which the server does not notice, and what is left of its work.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "time is paused; helpers of simulations")]
#![allow(dead_code, reason = "no simulation uses all of it")]

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use stanchion::Error;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};
use tower::{Service, ServiceExt};

use crate::virtual_server::{Answer, Calls, Failed, MILLISECOND, Request};

/// Calls per second.
pub(crate) const CAPACITY: u32 = 1_000;
/// So long callers wait.
pub(crate) const DEADLINE: Duration = Duration::from_millis(100);
pub(crate) const LEFT: Failed = Error::Inner("the caller has left");

/// Callers of one kind that leave after [`DEADLINE`], which the server does not notice.
#[derive(Clone)]
pub(crate) struct Callers<S> {
    service: S,
    kind: u8,
}

impl<S> Callers<S> {
    pub(crate) fn new(service: S) -> Self {
        Self { service, kind: 0 }
    }

    pub(crate) fn of_kind(self, kind: u8) -> Self {
        Self { kind, ..self }
    }
}

impl<S> Service<Request> for Callers<S>
where
    S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
{
    type Response = Answer;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Failed>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let request = Request { deadline: Some(Instant::now() + DEADLINE), kind: self.kind, ..request };
        let mut call = Box::pin(self.service.clone().oneshot(request));
        Box::pin(async move {
            match timeout(DEADLINE, &mut call).await {
                Ok(result) => result,
                Err(_) => {
                    spawn_local(call);
                    Err(LEFT)
                }
            }
        })
    }
}

/// What came of the calls that began within some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) made: usize,
    /// Calls that were not refused.
    pub(crate) accepted: usize,
    pub(crate) in_time: usize,
    /// Of the calls that were not refused; callers have left at [`DEADLINE`].
    pub(crate) p99: Duration,
}

impl Outcome {
    pub(crate) fn of(calls: &Calls<Failed>, began: Range<Duration>) -> Self {
        let calls = calls.of(began);
        let is_refused = |result: &Result<Answer, Failed>| result.as_ref().is_err_and(|error| *error != LEFT);
        let accepted = calls.iter().filter(|call| !is_refused(&call.result));
        let mut times: Vec<_> = accepted
            .map(|call| {
                call.result.as_ref().map_or(DEADLINE + MILLISECOND, |answer| answer.ready - call.start)
            })
            .collect();
        times.sort_unstable();
        let place = (0.99 * times.len() as f64).ceil().max(1.0) as usize - 1;
        Self {
            made: calls.len(),
            accepted: times.len(),
            in_time: times.partition_point(|time| *time <= DEADLINE),
            p99: times.get(place).copied().unwrap_or_default(),
        }
    }

    /// The share of all calls that was answered in time.
    pub(crate) fn success(&self) -> f64 {
        self.in_time as f64 / self.made as f64
    }

    /// The share of the accepted calls that was not.
    pub(crate) fn late(&self) -> f64 {
        1.0 - self.in_time as f64 / self.accepted.max(1) as f64
    }
}
