//! Overload: callers that leave, which the server does not notice, and what is left of its work.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "time is paused; helpers of simulations")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "numbers are small"
)]
#![allow(dead_code, reason = "no simulation uses all of it")]

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::slice::from_ref;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::bulkhead::Wait;
use stanchion::protocol::{AnyRequest, WithAttributes};
use stanchion::{Bulkhead, BulkheadConfig, BulkheadLayer, CallAttributes, Deadline, Error};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceExt};

use crate::virtual_server::{
    Answer, Calls, Failed, MILLISECOND, Made, Mode, Request, SECOND, Server, Traffic, seed, simulate,
};

/// Calls per second.
pub(crate) const CAPACITY: u32 = 1_000;
/// So long callers wait.
pub(crate) const DEADLINE: Duration = Duration::from_millis(100);
pub(crate) const LEFT: Failed = Error::Inner(Fault("the caller has left"));

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

/// A bulkhead in which calls wait, and that is told of them.
pub(crate) type Queued<S> = Bulkhead<S, Wait, WithAttributes<AnyRequest, fn(&Request) -> CallAttributes>>;

pub(crate) fn behind<S>(
    config: BulkheadConfig,
    claim: fn(&Request) -> CallAttributes,
) -> impl Fn(S) -> Queued<S> {
    move |server| BulkheadLayer::waiting(config.clone()).attributes(claim).layer(server)
}

/// Calls say nothing but when their callers leave.
pub(crate) fn deadline(request: &Request) -> CallAttributes {
    request
        .deadline
        .map_or(CallAttributes::new(), |deadline| CallAttributes::new().deadline(Deadline::at(deadline)))
}

/// What came of the calls that began within some time.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    made: usize,
    /// How long those took that were not refused, the shortest first. Callers have left at [`DEADLINE`].
    accepted: Vec<Duration>,
}

impl Outcome {
    pub(crate) fn of(all: &[&Calls<Failed>], began: &Range<Duration>) -> Self {
        let calls = || all.iter().flat_map(|calls| calls.of(began.clone()));
        let is_refused = |result: &Result<Answer, Failed>| result.as_ref().is_err_and(|error| *error != LEFT);
        let accepted = calls().filter(|call| !is_refused(&call.result));
        // An answer may be a little earlier than its caller hears of it.
        let late = DEADLINE + MILLISECOND;
        let time =
            |call: &Made<Failed>| call.result.as_ref().map_or(late, |answer| answer.ready - call.start);
        let mut accepted: Vec<_> = accepted.map(time).collect();
        accepted.sort_unstable();
        Self { made: calls().count(), accepted }
    }

    pub(crate) fn in_time(&self) -> usize {
        self.accepted.partition_point(|time| *time <= DEADLINE)
    }

    /// The share of all calls that was answered in time.
    pub(crate) fn success(&self) -> f64 {
        self.in_time() as f64 / self.made as f64
    }

    pub(crate) fn refused(&self) -> f64 {
        1.0 - self.accepted.len() as f64 / self.made as f64
    }

    /// The share of the accepted calls that was not answered in time.
    pub(crate) fn late(&self) -> f64 {
        1.0 - self.in_time() as f64 / self.accepted.len().max(1) as f64
    }

    /// Of the calls that were not refused.
    pub(crate) fn p99(&self) -> Option<Duration> {
        let place = (0.99 * self.accepted.len() as f64).ceil().max(1.0) as usize - 1;
        self.accepted.get(place).copied()
    }
}

/// What must be good enough.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) load: f64,
    /// Answers in time as a share of what the server can do, in each of the windows that count.
    pub(crate) goodput: Vec<f64>,
    pub(crate) late: f64,
    pub(crate) p99: Duration,
}

pub(crate) const fn seconds(range: Range<u64>) -> Range<Duration> {
    Duration::from_secs(range.start)..Duration::from_secs(range.end)
}

fn is_long() -> bool {
    std::env::var_os("STANCHION_LONG").is_some()
}

impl Figures {
    pub(crate) fn of<S>(load: f64, guard: impl FnOnce(Server) -> S) -> Self
    where
        S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
    {
        let windows =
            if is_long() { vec![seconds(10..40), seconds(300..330)] } else { vec![seconds(10..20)] };
        Self::within(&windows, load, guard)
    }

    /// The same, of calls that began within these windows.
    pub(crate) fn within<S>(windows: &[Range<Duration>], load: f64, guard: impl FnOnce(Server) -> S) -> Self
    where
        S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
    {
        let lasting = windows.last().unwrap().end;
        fastrand::seed(seed());
        simulate(async {
            let server = Server::of_ten_workers();
            let callers = Callers::new(guard(server.clone()));
            let rate = (load * f64::from(CAPACITY)) as u32;
            let calls = Traffic::random(rate, lasting).drive(&server, from_ref(&callers)).await;
            let outcomes: Vec<_> = windows.iter().map(|window| Outcome::of(&[&calls], window)).collect();
            let counted = lasting - windows.last().unwrap().start;
            let possible = f64::from(CAPACITY) * counted.as_secs_f64();
            Self {
                load,
                goodput: outcomes.iter().map(|outcome| outcome.in_time() as f64 / possible).collect(),
                late: outcomes.iter().map(Outcome::late).fold(0.0, f64::max),
                p99: outcomes.iter().filter_map(Outcome::p99).max().unwrap(),
            }
        })
    }
}

impl Figures {
    pub(crate) fn misses(&self) -> Vec<&'static str> {
        let least = if self.load < 1.0 { 0.77 } else { 0.93 };
        out_of_bounds([
            ("goodput", self.goodput.iter().all(|goodput| *goodput >= least)),
            ("late", self.late <= 0.02),
            ("p99", self.p99 <= 95 * MILLISECOND),
        ])
    }
}

/// The server takes five times as long for ten seconds, while seven tenths of what it usually can do is asked for.
#[derive(Debug)]
pub(crate) struct BrownOut {
    /// Answers in time, as a share of what it can do then, in the last eight of these seconds.
    pub(crate) goodput: f64,
    /// After it, until 95 % of the calls are answered in time.
    pub(crate) recovery: Option<Duration>,
}

impl BrownOut {
    pub(crate) fn of<S>(guard: impl FnOnce(Server) -> S) -> Self
    where
        S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
    {
        fastrand::seed(seed());
        simulate(async {
            let (slow, end) = (seconds(30..40), 60 * SECOND);
            let server =
                Server::of_ten_workers().weather([(slow.start, Mode::Slow(5.0)), (slow.end, Mode::Well)]);
            let callers = Callers::new(guard(server.clone()));
            let calls = Traffic::random(CAPACITY * 7 / 10, end).drive(&server, from_ref(&callers)).await;
            let last = Outcome::of(&[&calls], &seconds(32..40));
            Self {
                goodput: last.in_time() as f64 / (f64::from(CAPACITY) / 5.0 * 8.0),
                recovery: calls.recovery(slow.end, end, 0.95),
            }
        })
    }

    pub(crate) fn misses(&self) -> Vec<&'static str> {
        out_of_bounds([
            ("brown-out", self.goodput >= 0.55),
            ("recovery", self.recovery.is_some_and(|recovery| recovery <= 3 * SECOND)),
        ])
    }
}

/// The names whose numbers are out of bounds.
fn out_of_bounds<const N: usize>(figures: [(&'static str, bool); N]) -> Vec<&'static str> {
    figures.into_iter().filter_map(|(name, is_good)| (!is_good).then_some(name)).collect()
}
