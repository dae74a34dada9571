//! What happens to the server, and what is seen of it.

#![allow(clippy::disallowed_methods, reason = "time is paused")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers are small")]

use std::ops::Range;
use std::time::Duration;

use tokio::time::sleep_until;
use tower::Service;

use crate::overload::{CAPACITY, Callers, Outcome};
use crate::virtual_server::{Answer, Event, Failed, Mode, Request, Server, Traffic, seed, simulate};

pub(crate) const WORKERS: u32 = 10;

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

/// So many times what the server can do, all the time.
pub(crate) struct Overload {
    pub(crate) load: f64,
}

/// What came of an [`Overload`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
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
    type Outcome = Figures;

    fn run<S>(self, guard: impl FnOnce(Server) -> Guarded<S>) -> Figures
    where
        S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
    {
        fastrand::seed(seed());
        simulate(async {
            let server = Server::of_ten_workers();
            let callers = Callers::new(guard(server.clone()).service);
            let rate = (self.load * f64::from(CAPACITY)) as u32;
            let calls = Traffic::random(rate, Self::COUNTED.end).drive(&server, &[callers]).await;
            let outcome = Outcome::of(&[&calls], &Self::COUNTED);
            let work = [Event::Served, Event::Wasted].map(|event| server.count(event, Self::COUNTED));
            let lasting = Self::COUNTED.end - Self::COUNTED.start;
            let possible = f64::from(CAPACITY) * lasting.as_secs_f64();
            let in_time = outcome.in_time() as f64;
            Figures {
                goodput: in_time / possible,
                p99: outcome.p99().unwrap_or_default(),
                refused: outcome.refused(),
                late: 1.0 - (in_time / work.iter().sum::<usize>() as f64).min(1.0),
            }
        })
    }
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
            let callers = [Callers::new(guarded.service)];
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
                let outcome = Outcome::of(&[&usual, &crowd], &step);
                Moment {
                    at,
                    answered: outcome.in_time() as f64 / STEP.as_secs_f64(),
                    p99: outcome.p99(),
                    limit,
                }
            };
            limits.into_iter().map(moment).collect()
        })
    }
}
