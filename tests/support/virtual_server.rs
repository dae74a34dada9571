//! A server for simulations: a queue before some workers, or neither, under paused time and on one thread.
//!
//! It works in exact time, although tokio's timers fire on whole milliseconds: a worker that ends within a
//! millisecond goes on with the next request there and then, and an [`Answer`] says when it was ready. So its
//! capacity and its latencies are those that are written down. What is random follows from `STANCHION_SEED`.

#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::unwrap_used, reason = "time is paused")]
#![allow(dead_code, unused_imports, reason = "no simulation uses all of it")]

mod random;
mod traffic;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use stanchion::Error;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep_until};
use tower::Service;

pub(crate) use random::{Random, seed, times};
pub(crate) use traffic::Traffic;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

pub(crate) type Failed = Error<&'static str>;

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
}

impl Request {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, deadline: None, attempt: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    /// Since the server was made, and up to a millisecond before the client is woken.
    pub(crate) ready: Duration,
}

/// How long a request takes once a worker has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Latency {
    Fixed(Duration),
    Exponential {
        mean: Duration,
    },
    Lognormal {
        median: Duration,
        sigma: f64,
    },
    /// 5 ms and exponential 5 ms more, but for a fiftieth of the requests another 200 ms.
    Stragglers,
}

impl Latency {
    fn draw(self, random: &mut Random) -> Duration {
        match self {
            Self::Fixed(time) => time,
            Self::Exponential { mean } => random.exponential(mean),
            Self::Lognormal { median, sigma } => random.lognormal(median, sigma),
            Self::Stragglers => {
                let straggles = if random.chance(0.02) { 200 } else { 0 };
                (5 + straggles) * MILLISECOND + random.exponential(5 * MILLISECOND)
            }
        }
    }
}

/// What happens to requests: to those that arrive, if the server is down, and to those that are begun otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    Well,
    /// Fails at once.
    Down,
    /// Fails this share of the requests, after as much work as for an answer.
    Fails(f64),
    /// Takes so many times as long.
    Slow(f64),
    /// Fails after so long a time.
    Hangs(Duration),
}

/// What becomes of the work for a client that has gone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Orphans {
    /// It is done.
    Served,
    /// It is not begun.
    Skipped,
    /// It is not begun, or stopped.
    Stopped,
}

/// Cheap to clone; all clones are one server.
#[derive(Clone, Debug)]
pub(crate) struct Server(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    random: Random,
    latency: Latency,
    /// Idle ones.
    workers: usize,
    orphans: Orphans,
    /// From when on; in order.
    weather: Vec<(Duration, Mode)>,
    queue: VecDeque<Rc<Job>>,
    /// By the time when it will be done, and then by number.
    working: BTreeMap<(Duration, u64), Rc<Job>>,
    jobs: u64,
    /// Of those, whose clients are waiting.
    awaited: usize,
    clockwork: Option<Waker>,
    /// In the order of time.
    log: Vec<(Duration, Event)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Arrived,
    Served,
    Failed,
    /// The client has gone.
    Cancelled,
    /// Work was done for a client that had gone.
    Wasted,
}

#[derive(Debug)]
struct Job {
    number: u64,
    stage: Cell<Stage>,
    /// Why it is going to fail, if it is.
    failure: Cell<Option<&'static str>>,
    result: Cell<Option<Result<Answer, &'static str>>>,
    client: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Queued,
    Working(Duration),
    Done,
    /// The client has gone, and the work will be done nevertheless.
    Pointless,
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

    fn new(workers: usize, latency: Latency) -> Self {
        let state = State {
            random: Random::of("server"),
            latency,
            workers,
            orphans: Orphans::Served,
            weather: vec![],
            queue: VecDeque::new(),
            working: BTreeMap::new(),
            jobs: 0,
            awaited: 0,
            clockwork: None,
            log: vec![],
        };
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

    /// From now on.
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

    pub(crate) fn count(&self, event: Event, during: Range<Duration>) -> usize {
        let state = self.0.state.borrow();
        let after = |time| state.log.partition_point(|(at, _)| *at < time);
        let log = state.log.get(after(during.start)..after(during.end)).unwrap_or_default();
        log.iter().filter(|(_, which)| *which == event).count()
    }

    pub(crate) fn arrived(&self, during: Range<Duration>) -> usize {
        self.count(Event::Arrived, during)
    }

    /// Goes on with the work, and says when there will be more to do.
    fn turn(&self, clockwork: &Waker) -> Option<Instant> {
        let state = &mut *self.0.state.borrow_mut();
        state.advance(self.now());
        let next = state.working.first_key_value().map(|((until, _), _)| self.at(*until));
        state.clockwork = next.map(|_| clockwork.clone());
        next
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
        if state.clockwork.is_none() && !state.working.is_empty() {
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
            return Poll::Ready(result.map_err(Error::Inner));
        }
        *self.job.client.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.job.stage.get() != Stage::Done {
            self.server.0.state.borrow_mut().leave(&self.job, self.server.now());
        }
    }
}

impl State {
    fn arrive(&mut self, now: Duration) -> Rc<Job> {
        self.advance(now);
        self.log.push((now, Event::Arrived));
        self.jobs += 1;
        self.awaited += 1;
        let job = Rc::new(Job {
            number: self.jobs,
            stage: Cell::new(Stage::Queued),
            failure: Cell::new(None),
            result: Cell::new(None),
            client: RefCell::new(None),
        });
        if self.mode(now) == Mode::Down {
            job.failure.set(Some("down"));
            self.finish(&job, now);
        } else {
            self.queue.push_back(Rc::clone(&job));
            self.begin(now);
        }
        job
    }

    fn mode(&self, at: Duration) -> Mode {
        self.weather.iter().rev().find(|(from, _)| *from <= at).map_or(Mode::Well, |(_, mode)| *mode)
    }

    /// Gives the idle workers something to do.
    fn begin(&mut self, at: Duration) {
        while self.workers > 0 {
            let Some(job) = self.queue.pop_front() else { return };
            if job.stage.get() == Stage::Done {
                continue;
            }
            let time = self.latency.draw(&mut self.random);
            let (time, failure) = match self.mode(at) {
                Mode::Well | Mode::Down => (time, None),
                Mode::Fails(share) => (time, self.random.chance(share).then_some("failed")),
                Mode::Slow(factor) => (times(time, factor), None),
                Mode::Hangs(time) => (time, Some("timed out")),
            };
            job.failure.set(failure);
            let until = at + time;
            if job.stage.get() == Stage::Queued {
                job.stage.set(Stage::Working(until));
            }
            self.workers -= 1;
            let key = (until, job.number);
            self.working.insert(key, job);
            if self.working.first_key_value().is_some_and(|(first, _)| *first == key) {
                self.clockwork.iter().for_each(Waker::wake_by_ref);
            }
        }
    }

    /// Does what there was to do until now.
    fn advance(&mut self, now: Duration) {
        while let Some(first) = self.working.first_entry().filter(|first| first.key().0 <= now) {
            let ((until, _), job) = first.remove_entry();
            self.workers += 1;
            self.finish(&job, until);
            self.begin(until);
        }
    }

    fn finish(&mut self, job: &Job, at: Duration) {
        let failure = job.failure.get();
        let event = match (job.stage.replace(Stage::Done), failure) {
            (Stage::Pointless, _) => Event::Wasted,
            (_, None) => Event::Served,
            (_, Some(_)) => Event::Failed,
        };
        self.log.push((at, event));
        if event != Event::Wasted {
            self.awaited -= 1;
            job.result.set(Some(failure.map_or(Ok(Answer { ready: at }), Err)));
            job.client.take().into_iter().for_each(Waker::wake);
        }
    }

    /// The client of a job has gone.
    fn leave(&mut self, job: &Job, now: Duration) {
        self.advance(now);
        let stage = job.stage.get();
        if stage == Stage::Done {
            return;
        }
        self.awaited -= 1;
        self.log.push((now, Event::Cancelled));
        match (self.orphans, stage) {
            (Orphans::Served, _) | (Orphans::Skipped, Stage::Working(_)) => job.stage.set(Stage::Pointless),
            (_, Stage::Working(until)) => {
                job.stage.set(Stage::Done);
                self.working.remove(&(until, job.number));
                self.workers += 1;
                self.begin(now);
            }
            _ => job.stage.set(Stage::Done),
        }
    }
}
