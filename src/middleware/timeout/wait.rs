//! The wait for a service to become ready, where that counts.
//!
//! A service is not told when a caller goes away, so who waits is concluded from how it is polled. A caller that waits polls
//! when it is woken. One that polls long after that, or after the limit was over, has not waited, and neither has another task;
//! for them a wait begins anew; once only for a task that is late, since one that is late again is slow and waits. A task that
//! polls without having been woken may be another caller in the same task, behind a load shedder for instance, or a sibling of
//! the one that waits; one that is late may be busy. What they have waited so far is not charged to the call, but the limit on
//! the wait goes on, so that a busy task does not put it off for ever.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::state::Bound;
use crate::base::clock::{BoxedTimer, instant, instant_after, nanos};
use crate::base::sync::{Mutex, lock};
use crate::error::Reason;

/// How long after it was woken a task that waits polls at the latest: longer than it has to queue on a busy machine.
const PROMPTLY: Duration = Duration::from_millis(100);

/// The share of the limit after which a task that has not polled is taken to have gone away, and not to be slow.
const GONE: u32 = 4;

#[derive(Debug)]
pub(super) struct Wait {
    progress: Progress,
    /// Since when the caller has been waiting.
    since: Instant,
    reason: Reason,
    limit: Duration,
    /// When the limit is over.
    end: Instant,
    timer: BoxedTimer,
    task: Arc<Task>,
    /// Whether it began anew because its task was late.
    is_second: bool,
}

/// Who polls, as far as can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The caller that has waited so far.
    Same,
    /// The same, but slow; or the first of its task that comes after it.
    Late,
    Other,
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    /// The service is not ready yet.
    GoesOn,
    /// It was ready after so long, and the caller heard of it then.
    Took(Duration, Instant),
    /// It was not ready when the limit was over, and the caller heard of it then.
    Over(Instant),
}

/// What a wait comes to for the call that follows it.
#[derive(Debug)]
pub(super) enum Waited {
    /// So much of the limit is used.
    Took(Duration),
    /// The service was not ready in time: it is not called.
    Over(Bound),
}

impl Wait {
    pub(super) fn begin(now: Instant, reason: Reason, limit: Duration) -> Box<Self> {
        Box::new(Self {
            progress: Progress::GoesOn,
            since: now,
            reason,
            limit,
            end: instant_after(now, limit),
            timer: BoxedTimer::new(),
            task: Arc::default(),
            is_second: false,
        })
    }

    /// Notes that it begins anew since its task was late.
    pub(super) const fn second(&mut self) {
        self.is_second = true;
    }

    /// Returns who polls at `now`.
    pub(super) fn by(&mut self, waker: &Waker, now: Instant) -> By {
        if !self.task.is(waker) {
            return By::Other;
        }
        let is_within = |since: Instant, patience| now <= instant_after(since, patience);
        let woken = match self.progress {
            Progress::Took(_, at) | Progress::Over(at) if is_within(at, PROMPTLY) => return By::Same,
            Progress::Took(..) | Progress::Over(_) => return By::Other,
            Progress::GoesOn => self.task.woken(),
        };
        if !woken.is_some_and(|woken| is_within(woken, PROMPTLY)) {
            self.since = now;
        }
        let slowly = PROMPTLY.max(self.limit / GONE);
        let is_late = !is_within(self.end, slowly) || woken.is_some_and(|woken| !is_within(woken, slowly));
        if is_late && !self.is_second { By::Late } else { By::Same }
    }

    /// Polls the service for the caller; ready as well when the limit is over.
    pub(super) fn poll<E>(
        &mut self,
        cx: &Context<'_>,
        now: Instant,
        poll_ready: impl FnOnce(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Result<(), E>> {
        if matches!(self.progress, Progress::Over(_)) {
            return Poll::Ready(Ok(()));
        }
        self.task.waits(cx.waker());
        let waker = Waker::from(Arc::clone(&self.task));
        let cx = &mut Context::from_waker(&waker);
        let is_ready = poll_ready(cx);
        match is_ready {
            Poll::Ready(Ok(())) => {
                if matches!(self.progress, Progress::GoesOn) {
                    self.progress = Progress::Took(now.saturating_duration_since(self.since), now);
                }
                self.timer.stop();
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                self.progress = Progress::GoesOn;
                if self.timer.poll(cx, self.end).is_ready() {
                    self.progress = Progress::Over(now);
                    return Poll::Ready(Ok(()));
                }
            }
        }
        is_ready
    }

    /// Returns what it comes to for a call that is made now.
    pub(super) fn ended(&self) -> Waited {
        match self.progress {
            Progress::Over(_) => Waited::Over(Bound::new(self.reason, nanos(self.limit))),
            Progress::Took(waited, _) => Waited::Took(waited),
            // Whoever calls now does so without having been told to.
            Progress::GoesOn => Waited::Took(Duration::ZERO),
        }
    }
}

/// The task that waits, and when it was woken.
#[derive(Debug, Default)]
struct Task(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    waker: Option<Waker>,
    /// What the waker was made of. It is compared when the waker has been used up, and never followed.
    identity: (usize, usize),
    woken: Option<Instant>,
}

impl Task {
    /// It is polled, and waits from now on.
    fn waits(&self, waker: &Waker) {
        let new = Waiting { waker: Some(waker.clone()), identity: identity(waker), woken: None };
        let old = std::mem::replace(&mut *lock(&self.0), new);
        // A waker is foreign code: it is neither cloned nor dropped under the lock.
        drop(old);
    }

    fn is(&self, waker: &Waker) -> bool {
        lock(&self.0).identity == identity(waker)
    }

    fn woken(&self) -> Option<Instant> {
        lock(&self.0).woken
    }
}

fn identity(waker: &Waker) -> (usize, usize) {
    (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr())
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let now = instant();
        let waker = {
            let mut waiting = lock(&self.0);
            waiting.woken.get_or_insert(now);
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
