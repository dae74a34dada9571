//! Calls through a hedge layer whose attempts take so long and end so.

#![allow(clippy::disallowed_methods, reason = "attempts take time")]
#![allow(dead_code, reason = "not every test needs all of it")]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::classify::{Asking, Classify, Outcome, RetryHint, Retryable};
use stanchion::hedge::HedgeDelay;
use stanchion::protocol::{Attempt, Replay, RequestContext};
use stanchion::{Budget, BudgetConfig, Deadline, Error, HedgeConfig, HedgeLayer};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const DELAY: Duration = Duration::from_millis(50);
pub(crate) const LONG: Duration = Duration::from_secs(10);

pub(crate) type Answer = Result<&'static str, Error<Fault>>;

/// An inner service whose attempts take so long and end so, one after another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) steps: Arc<Mutex<VecDeque<(Duration, Answer)>>>,
    attempts: Arc<Mutex<Vec<(Duration, Request)>>>,
    start: Arc<Mutex<Option<Instant>>>,
    /// How often it was asked whether it is ready.
    asked: Arc<AtomicUsize>,
    /// Futures that are alive.
    alive: Arc<()>,
}

pub(crate) fn after(time: Duration, answer: Answer) -> (Duration, Answer) {
    (time, answer)
}

pub(crate) fn failed(error: &'static str) -> Answer {
    Err(Error::Inner(Fault(error)))
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = (Duration, Answer)>) -> Self {
        let script = Self::default();
        script.add(steps);
        *script.start.lock().unwrap() = Some(Instant::now());
        script
    }

    pub(crate) fn add(&self, steps: impl IntoIterator<Item = (Duration, Answer)>) {
        self.steps.lock().unwrap().extend(steps);
    }

    /// When the attempts were made.
    pub(crate) fn times(&self) -> Vec<Duration> {
        self.attempts.lock().unwrap().iter().map(|(time, _)| *time).collect()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.attempts.lock().unwrap().iter().map(|(_, request)| *request).collect()
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn alive(&self) -> usize {
        // One is held by each instance of the script itself, and those are not counted here.
        Arc::weak_count(&self.alive)
    }
}

impl Service<Request> for Script {
    type Response = &'static str;
    type Error = Error<Fault>;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send + Sync>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let start = self.start.lock().unwrap().unwrap();
        self.attempts.lock().unwrap().push((start.elapsed(), request));
        let (time, answer) = self.steps.lock().unwrap().pop_front().expect("one attempt too many");
        let alive = Arc::downgrade(&self.alive);
        Box::pin(async move {
            let _alive = alive;
            if !time.is_zero() {
                sleep(time).await;
            }
            answer
        })
    }
}

/// A request that carries everything.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Request {
    pub(crate) writes: bool,
    pub(crate) once: bool,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) attempt: Option<Attempt>,
    /// What was left until the deadline when the request was last told of it.
    pub(crate) left: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol;

impl RequestContext<Request> for Protocol {
    fn deadline(&self, request: &Request) -> Option<Deadline> {
        request.deadline
    }

    fn set_deadline(&self, request: &mut Request, deadline: Deadline) {
        request.left = Some(deadline.remaining());
    }

    fn attempt(&self, request: &Request) -> Option<Attempt> {
        request.attempt
    }

    fn set_attempt(&self, request: &mut Request, attempt: Attempt) {
        request.attempt = Some(attempt);
    }

    fn is_idempotent(&self, request: &Request) -> bool {
        !request.writes
    }
}

impl Replay<Request> for Protocol {
    type Request = Request;
    type Saved = Request;

    fn save(&self, request: Request, is_wanted: bool) -> (Request, Option<Request>) {
        (request, (is_wanted && !request.once).then_some(request))
    }

    fn replay(&self, kept: &mut Request) -> Option<Request> {
        Some(*kept)
    }
}

/// `Ok("503")` is a failure, and errors say what they want.
impl Classify<&'static str, Error<Fault>> for Protocol {
    fn classify(&self, result: Result<&&'static str, &Error<Fault>>) -> Outcome {
        match result {
            Ok(&"503") => Outcome::failure(),
            Ok(_) => Outcome::success(),
            Err(Error::Inner(Fault("not found"))) => stanchion::classify::Class::Ignored.into(),
            Err(Error::Inner(Fault("fatal"))) => Outcome::failure().retryable(Retryable::Never),
            Err(Error::Inner(Fault("stop"))) => Outcome::failure().retry_hint(RetryHint::Stop),
            Err(Error::Inner(Fault("later"))) => Outcome::failure().retry_hint(RetryHint::AtLeast(4 * DELAY)),
            Err(_) => Outcome::failure(),
        }
    }
}

pub(crate) fn config() -> HedgeConfig {
    HedgeConfig::new().delay(HedgeDelay::Fixed(DELAY))
}

pub(crate) fn layer() -> HedgeLayer<Asking<Protocol>> {
    with(config())
}

pub(crate) fn with(config: HedgeConfig) -> HedgeLayer<Asking<Protocol>> {
    HedgeLayer::new(config).protocol(Protocol)
}

/// The answer, and after how long it came.
pub(crate) async fn call<S>(service: &mut S, request: Request) -> (Answer, Duration)
where
    S: Service<Request, Response = &'static str, Error = Error<Fault>>,
{
    let start = Instant::now();
    let answer = service.ready().await.unwrap().call(request).await;
    (answer, start.elapsed())
}

/// Of a new layer around what answers so.
pub(crate) async fn hedged(
    layer: &HedgeLayer<Asking<Protocol>>,
    steps: impl IntoIterator<Item = (Duration, Answer)>,
) -> (Answer, Duration, Vec<Duration>) {
    let script = Script::new(steps);
    let (answer, time) = call(&mut layer.layer(script.clone()), Request::default()).await;
    assert_eq!(script.alive(), 0, "an attempt outlives the answer");
    (answer, time, script.times())
}

pub(crate) const SOME: Duration = Duration::from_millis(20);
pub(crate) const NOW: Duration = Duration::ZERO;

/// A budget of so many tokens and no more.
pub(crate) fn tokens(tokens: f64) -> Budget {
    Budget::new(BudgetConfig::new().ratio(0.0).per_second(0.0).cap(tokens).timeout_cost(1.0))
}

pub(crate) fn copy(number: u32, hedge: u32) -> Attempt {
    let mut attempt = Attempt::default();
    attempt.number = number;
    attempt.hedge = hedge;
    attempt
}
