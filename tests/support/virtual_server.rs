//! A server for simulations: a queue before some workers, or neither, under paused time and on one thread.
//!
//! It works in exact time, although tokio's timers fire on whole milliseconds: a worker that ends within a
//! millisecond goes on with the next request there and then, and an [`Answer`] says when it was ready. So its
//! capacity and its latencies are those that are written down. What is random follows from `STANCHION_SEED`.

#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::unwrap_used, reason = "time is paused")]
#![allow(dead_code, unused_imports, reason = "no simulation uses all of it")]

#[path = "virtual_server/random.rs"]
mod random;
#[path = "virtual_server/traffic.rs"]
mod traffic;
#[path = "virtual_server/workers.rs"]
mod workers;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::Error;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep_until};
use tower::Service;

pub(crate) use random::{Latency, Random, seed, times};
pub(crate) use traffic::{Call as Made, Calls, Traffic};
pub(crate) use workers::{Event, Mode, Orphans};
use workers::{Job, State};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

pub(crate) type Failed = Error<Fault>;

/// Runs a simulation to its end. A [`Server`] is made inside.
pub(crate) fn simulate<T>(simulation: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(LocalSet::new().run_until(simulation))
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    /// The number of the call, the same for all its attempts.
    pub(crate) id: u64,
    pub(crate) deadline: Option<Instant>,
    /// How many attempts came before.
    pub(crate) attempt: u32,
    /// Which of several kinds of callers made it.
    pub(crate) kind: u8,
}

impl Request {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, deadline: None, attempt: 0, kind: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    /// Since the server was made, and up to a millisecond before the client is woken.
    pub(crate) ready: Duration,
}

/// Cheap to clone; all clones are one server.
#[derive(Clone, Debug)]
pub(crate) struct Server(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    state: RefCell<State>,
}

impl Server {
    /// Ten workers of exponential 10 ms behind a queue: it can serve 1,000 requests per second.
    pub(crate) fn of_ten_workers() -> Self {
        Self::new(10, Latency::Exponential { mean: 10 * MILLISECOND })
    }

    /// As many workers as it takes, so that there is no queue.
    pub(crate) fn without_queue(latency: Latency) -> Self {
        Self::new(usize::MAX, latency)
    }

    /// So many workers behind a queue.
    pub(crate) fn of(workers: usize, latency: Latency) -> Self {
        Self::new(workers, latency)
    }

    fn new(workers: usize, latency: Latency) -> Self {
        let state = State::new(workers, latency);
        Self(Rc::new(Shared { start: Instant::now(), state: RefCell::new(state) }))
    }

    pub(crate) fn orphans(self, orphans: Orphans) -> Self {
        self.0.state.borrow_mut().orphans = orphans;
        self
    }

    /// Plans from when on, since its start, the server is in which mode.
    pub(crate) fn weather(self, weather: impl IntoIterator<Item = (Duration, Mode)>) -> Self {
        self.0.state.borrow_mut().weather.extend(weather);
        self
    }

    /// From now on, after all that is planned.
    pub(crate) fn set(&self, mode: Mode) {
        let now = self.now();
        self.0.state.borrow_mut().weather.push((now, mode));
    }

    /// Since it was made.
    pub(crate) fn now(&self) -> Duration {
        self.0.start.elapsed()
    }

    pub(crate) fn at(&self, time: Duration) -> Instant {
        self.0.start + time
    }

    /// How many clients are waiting for an answer.
    pub(crate) fn awaited(&self) -> usize {
        self.0.state.borrow().awaited
    }

    /// How often it happened, by the exact times.
    pub(crate) fn count(&self, event: Event, during: Range<Duration>) -> usize {
        self.0.state.borrow().count(event, during)
    }

    pub(crate) fn arrived(&self, during: Range<Duration>) -> usize {
        self.count(Event::Arrived, during)
    }

    /// Goes on with the work, and says when there will be more to do.
    fn turn(&self, clockwork: &Waker) -> Option<Instant> {
        let state = &mut *self.0.state.borrow_mut();
        state.advance(self.now());
        let next = state.next();
        state.clockwork = next.map(|_| clockwork.clone());
        next.map(|next| self.at(next))
    }

    /// Ends when there is nothing to do.
    async fn clockwork(self) {
        let mut timer = pin!(sleep_until(Instant::now()));
        poll_fn(|cx| {
            while let Some(next) = self.turn(cx.waker()) {
                timer.as_mut().reset(next);
                ready!(timer.as_mut().poll(cx));
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl Service<Request> for Server {
    type Response = Answer;
    type Error = Failed;
    type Future = Call;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Call {
        let state = &mut *self.0.state.borrow_mut();
        let job = state.arrive(self.now());
        if state.clockwork.is_none() && state.next().is_some() {
            state.clockwork = Some(Waker::noop().clone());
            spawn_local(self.clone().clockwork());
        }
        Call { server: self.clone(), job }
    }
}

/// A client that waits.
#[derive(Debug)]
pub(crate) struct Call {
    server: Server,
    job: Rc<Job>,
}

impl Future for Call {
    type Output = Result<Answer, Failed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.job.result.take() {
            return Poll::Ready(result.map_err(|error| Error::Inner(Fault(error))));
        }
        *self.job.client.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.server.0.state.borrow_mut().leave(&self.job, self.server.now());
    }
}
