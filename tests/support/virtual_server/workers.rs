//! What the server does with requests. It is told the time, and knows no timer.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use super::Answer;
use super::random::{Latency, Random, times};

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

#[derive(Debug)]
pub(super) struct State {
    random: Random,
    latency: Latency,
    /// Idle ones.
    workers: usize,
    pub(super) orphans: Orphans,
    /// From when on; in order.
    pub(super) weather: Vec<(Duration, Mode)>,
    queue: VecDeque<Rc<Job>>,
    /// By the time when it will be done, and then by number.
    working: BTreeMap<(Duration, u64), Rc<Job>>,
    jobs: u64,
    /// Of those, whose clients are waiting.
    pub(super) awaited: usize,
    pub(super) clockwork: Option<Waker>,
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
pub(super) struct Job {
    number: u64,
    stage: Cell<Stage>,
    /// Why it is going to fail, if it is.
    failure: Cell<Option<&'static str>>,
    pub(super) result: Cell<Option<Result<Answer, &'static str>>>,
    pub(super) client: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Queued,
    Working(Duration),
    Done,
    /// The client has gone, and the work will be done nevertheless.
    Pointless,
}

impl State {
    /// `workers`: idle ones.
    pub(super) fn new(workers: usize, latency: Latency) -> Self {
        Self {
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
        }
    }

    pub(super) fn count(&self, event: Event, during: Range<Duration>) -> usize {
        let after = |time| self.log.partition_point(|(at, _)| *at < time);
        let log = self.log.get(after(during.start)..after(during.end)).unwrap_or_default();
        log.iter().filter(|(_, which)| *which == event).count()
    }

    /// When there will be more to do.
    pub(super) fn next(&self) -> Option<Duration> {
        self.working.first_key_value().map(|((until, _), _)| *until)
    }

    pub(super) fn arrive(&mut self, now: Duration) -> Rc<Job> {
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
    pub(super) fn advance(&mut self, now: Duration) {
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
    pub(super) fn leave(&mut self, job: &Job, now: Duration) {
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
