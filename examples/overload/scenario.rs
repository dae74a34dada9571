//! What happens to the server, and what is seen of it.

#![allow(clippy::disallowed_methods, reason = "time is paused")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers are small")]

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use stanchion::Error;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout};
use tower::{Service, ServiceExt};

use crate::virtual_server::{
    Answer, Calls, Event, Failed, Made, Mode, Request, Server, Traffic, seed, simulate,
};

pub(crate) const WORKERS: u32 = 10;
/// Calls per second.
pub(crate) const CAPACITY: u32 = 1_000;
/// So long callers wait.
pub(crate) const DEADLINE: Duration = Duration::from_millis(100);
pub(crate) const LEFT: Failed = Error::Inner("the caller has left");

/// The server, behind whatever guards it.
pub(crate) struct Guarded<S> {
    service: S,
    limit: Option<Box<dyn Fn() -> u32>>,
}

impl<S> Guarded<S> {
    pub(crate) fn new(service: S) -> Self {
        Self { service, limit: None }
    }

    /// How many calls it lets through at a time, to be asked now and then.
    pub(crate) fn limit(self, limit: impl Fn() -> u32 + 'static) -> Self {
        Self { limit: Some(Box::new(limit)), ..self }
    }
}

pub(crate) trait Scenario {
    type Outcome: Send;

    fn run<S>(self, guard: impl FnOnce(Server) -> Guarded<S>) -> Self::Outcome
    where
        S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static;
}

/// Callers that leave after [`DEADLINE`], which the server does not notice.
#[derive(Clone)]
struct Callers<S>(S);

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
        let request = Request { deadline: Some(Instant::now() + DEADLINE), ..request };
        let mut call = Box::pin(self.0.clone().oneshot(request));
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

/// So many times what the server can do, all the time.
pub(crate) struct Overload {
    pub(crate) load: f64,
}

/// What came of an [`Overload`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Answers in time, as a share of what the server can do.
    pub(crate) goodput: f64,
    /// Of the calls that were not refused.
    pub(crate) p99: Duration,
    /// The share of calls that were refused.
    pub(crate) refused: f64,
    /// The share of the server's work that came too late.
    pub(crate) late: f64,
}

impl Overload {
    pub(crate) const LOADS: [f64; 7] = [0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0];
    /// What is seen from the start is not what lasts.
    const COUNTED: Range<Duration> = Duration::from_secs(4)..Duration::from_secs(12);
}

impl Scenario for Overload {
    type Outcome = Outcome;

    fn run<S>(self, guard: impl FnOnce(Server) -> Guarded<S>) -> Outcome
    where
        S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
    {
        fastrand::seed(seed());
        simulate(async {
            let server = Server::of_ten_workers();
            let callers = Callers(guard(server.clone()).service);
            let rate = (self.load * f64::from(CAPACITY)) as u32;
            let calls = Traffic::random(rate, Self::COUNTED.end).drive(&server, &[callers]).await;
            let made = calls.of(Self::COUNTED).len() as f64;
            let refused = calls.of(Self::COUNTED).iter().filter(|call| is_refused(&call.result)).count();
            let accepted = accepted(&[&calls], &Self::COUNTED);
            let in_time = in_time(&accepted) as f64;
            let work = [Event::Served, Event::Wasted].map(|event| server.count(event, Self::COUNTED));
            let lasting = Self::COUNTED.end - Self::COUNTED.start;
            let possible = f64::from(CAPACITY) * lasting.as_secs_f64();
            Outcome {
                goodput: in_time / possible,
                p99: quantile(&accepted, 0.99).unwrap_or_default(),
                refused: refused as f64 / made,
                late: 1.0 - (in_time / work.iter().sum::<usize>() as f64).min(1.0),
            }
        })
    }
}

fn is_refused(result: &Result<Answer, Failed>) -> bool {
    result.as_ref().is_err_and(|error| *error != LEFT)
}

/// How long the calls took that began then and were not refused; the shortest first. Callers have left at [`DEADLINE`].
fn accepted(all: &[&Calls<Failed>], began: &Range<Duration>) -> Vec<Duration> {
    let began = all.iter().flat_map(|calls| calls.of(began.clone()));
    let accepted = began.filter(|call| !is_refused(&call.result));
    let end = |call: &Made<Failed>| call.result.as_ref().map_or(call.end, |answer| answer.ready);
    let mut times: Vec<_> = accepted.map(|call| end(call) - call.start).collect();
    times.sort_unstable();
    times
}

fn in_time(times: &[Duration]) -> usize {
    times.partition_point(|time| *time < DEADLINE)
}

fn quantile(times: &[Duration], share: f64) -> Option<Duration> {
    let place = (share * times.len() as f64).ceil().max(1.0) as usize - 1;
    times.get(place).copied()
}

/// A load that the server can bear, and two troubles: [`CROWD`] and [`SLOW`].
pub(crate) struct Troubles;

/// Three times what the server can do.
pub(crate) const CROWD: Range<Duration> = Duration::from_secs(10)..Duration::from_secs(20);
/// Each call takes five times as long.
pub(crate) const SLOW: Range<Duration> = Duration::from_secs(30)..Duration::from_secs(40);
/// In all.
pub(crate) const LASTING: Duration = Duration::from_secs(50);

/// One step of the time that [`Troubles`] take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Its middle.
    pub(crate) at: Duration,
    /// Calls answered in time, per second.
    pub(crate) answered: f64,
    /// Of the calls that were not refused; none if all were.
    pub(crate) p99: Option<Duration>,
    pub(crate) limit: Option<u32>,
}

impl Scenario for Troubles {
    type Outcome = Vec<Moment>;

    fn run<S>(self, guard: impl FnOnce(Server) -> Guarded<S>) -> Vec<Moment>
    where
        S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
    {
        const STEP: Duration = Duration::from_millis(500);
        fastrand::seed(seed());
        simulate(async {
            let server =
                Server::of_ten_workers().weather([(SLOW.start, Mode::Slow(5.0)), (SLOW.end, Mode::Well)]);
            let guarded = guard(server.clone());
            let callers = [Callers(guarded.service)];
            let usual = Traffic::random(7 * CAPACITY / 10, LASTING).drive(&server, &callers);
            let crowd = async {
                sleep_until(server.at(CROWD.start)).await;
                Traffic::random(23 * CAPACITY / 10, CROWD.end - CROWD.start).drive(&server, &callers).await
            };
            let limits = async {
                let mut limits = Vec::new();
                let mut at = STEP / 2;
                while at < LASTING {
                    sleep_until(server.at(at)).await;
                    limits.push((at, guarded.limit.as_ref().map(|limit| limit())));
                    at += STEP;
                }
                limits
            };
            let (usual, crowd, limits) = tokio::join!(usual, crowd, limits);
            let moment = |(at, limit): (Duration, Option<u32>)| {
                let step = at - STEP / 2..at + STEP / 2;
                let accepted = accepted(&[&usual, &crowd], &step);
                Moment {
                    at,
                    answered: in_time(&accepted) as f64 / STEP.as_secs_f64(),
                    p99: quantile(&accepted, 0.99),
                    limit,
                }
            };
            limits.into_iter().map(moment).collect()
        })
    }
}
