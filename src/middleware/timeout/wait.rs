//! The wait for a service to become ready, for limits that include it.
//!
//! A service is not told when a caller goes away, so this module infers from the polls who is
//! waiting.
//!
//! * A caller that waits polls when it is woken.
//! * A poll long after the wake-up, or from another task, means that the earlier caller has gone: a
//!   new wait starts. For a task that is late, that happens only once, since a task that is late
//!   again is slow and still waits.
//! * A task that polls without having been woken may be another caller in the same task (behind a
//!   load shedder, for instance), or a sibling future of the caller that waits. A task that is late
//!   may be busy. The time before is then not charged to the call, but the limit on the wait
//!   continues, so that a busy task cannot extend it for ever.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::state::Bound;
use crate::base::clock::{BoxedTimer, instant, instant_after, nanos};
use crate::base::sync::{Mutex, lock};
use crate::error::Reason;

/// The longest time between the wake-up and the poll of a task that waits. It covers the scheduling
/// delay of a busy machine.
const PROMPTLY: Duration = Duration::from_millis(100);

/// The divisor of the limit: a task that has not polled for longer than this part of it is taken to
/// have gone away.
const GONE: u32 = 4;

#[derive(Debug)]
pub(super) struct Wait {
    progress: Progress,
    /// The moment from which the current caller has been waiting.
    since: Instant,
    reason: Reason,
    limit: Duration,
    /// The end of the limit.
    end: Instant,
    timer: BoxedTimer,
    task: Arc<Task>,
    /// `true` if this wait replaced one of a task that was late.
    is_second: bool,
}

/// The origin of a poll, as far as it can be inferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The caller that has been waiting.
    Same,
    /// The caller that has been waiting, if it is slow, or else the first new caller of its task.
    Late,
    Other,
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    /// The service is not ready yet.
    GoesOn,
    /// The service became ready after this time, and the caller was told at this moment.
    Took(Duration, Instant),
    /// The service was not ready at the end of the limit, and the caller was told at this moment.
    Over(Instant),
}

/// The consequence of a wait for the call that follows.
#[derive(Debug)]
pub(super) enum Waited {
    /// The service is ready, and this part of the limit is used.
    Took(Duration),
    /// The service was not ready in time, and must not be called.
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

    /// Marks this wait as the second one of a task that was late.
    pub(super) const fn second(&mut self) {
        self.is_second = true;
    }

    /// Returns the origin of a poll at `now`.
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

    /// Polls the service for the caller. Also ready when the limit is over.
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

    /// Returns the consequence for a call that is made now.
    pub(super) fn ended(&self) -> Waited {
        match self.progress {
            Progress::Over(_) => Waited::Over(Bound::new(self.reason, nanos(self.limit))),
            Progress::Took(waited, _) => Waited::Took(waited),
            // The caller did not wait to be told that the service is ready.
            Progress::GoesOn => Waited::Took(Duration::ZERO),
        }
    }
}

/// The task that waits, and the moment at which it was woken.
#[derive(Debug, Default)]
struct Task(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    waker: Option<Waker>,
    /// The identity of the waker. It is only compared, and never dereferenced, after the waker is
    /// used up.
    identity: (usize, usize),
    woken: Option<Instant>,
}

impl Task {
    /// Records that the task of `waker` is polling and waits from now on.
    fn waits(&self, waker: &Waker) {
        let new = Waiting { waker: Some(waker.clone()), identity: identity(waker), woken: None };
        let old = std::mem::replace(&mut *lock(&self.0), new);
        // A waker is foreign code, so it is neither cloned nor dropped under the lock.
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
