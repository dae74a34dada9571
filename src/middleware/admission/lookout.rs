use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use super::limit::Limit;
use super::shared::Shared;
use tokio::runtime::{Handle, Id};

use crate::base::clock::{BoxedTimer, Clock, Timestamp, instant, instant_after};
use crate::base::sync::{Mutex, lock};
use crate::primitives::semaphore::Permits;

/// The timer of a layer that looks for permits which were granted to a call and not claimed, while
/// another call waits.
///
/// It belongs to one runtime, which may be gone or stand still when the timer is due. So it moves to the runtime of each task
/// that begins to wait or is polled while it waits.
///
/// It needs no task: when it fires it does not wake one, but has the permits granted to others. So
/// calls that wait have no such timer themselves, and it does not matter which of them are polled.
pub(super) struct Lookout {
    alarm: Waker,
    watch: Mutex<RuntimeTimer>,
}

/// A timer, and the runtime that it belongs to.
#[derive(Debug)]
struct RuntimeTimer {
    /// When the timer fires; [`Timestamp::NEVER`] if it does not run.
    at: Timestamp,
    timer: BoxedTimer,
    /// The runtime of the timer; none before it has been made.
    runtime: Option<Id>,
}

/// What the timer wakes.
struct Alarm<L: Limit>(Weak<Shared<L>>);

impl Lookout {
    pub(super) fn new<L: Limit>(shared: Weak<Shared<L>>) -> Self {
        let watch = RuntimeTimer { at: Timestamp::NEVER, timer: BoxedTimer::new(), runtime: None };
        Self { alarm: Waker::from(Arc::new(Alarm(shared))), watch: Mutex::new(watch) }
    }

    /// Makes the timer one of the runtime in which a call begins to wait: permits may come back
    /// outside of any.
    pub(super) fn prepare(&self, now: Timestamp) {
        let Some(runtime) = current_runtime() else { return };
        let lost = {
            let mut watch = lock(&self.watch);
            if watch.runs(now) {
                return;
            }
            watch.prepare(runtime)
        };
        drop(lost);
    }

    /// Looks at this time, or sooner.
    pub(super) fn look_at(&self, at: Timestamp, clock: &Clock) {
        let (now, current) = (clock.now(), current_runtime());
        let lost = {
            let mut watch = lock(&self.watch);
            let moves_to = current.filter(|current| watch.runtime != Some(*current));
            if watch.at != Timestamp::NEVER && moves_to.is_none() {
                return;
            }
            let lost = moves_to.and_then(|runtime| watch.prepare(runtime));
            watch.run_until(at.max(now.after(RuntimeTimer::SOON)), &self.alarm, clock);
            lost
        };
        drop(lost);
    }

    fn fires(&self) {
        lock(&self.watch).at = Timestamp::NEVER;
    }
}

impl RuntimeTimer {
    /// A timer that is later than this does not run any more: its runtime is gone, or stands still.
    const LATE: Duration = Duration::from_secs(1);
    /// The least time that a timer is set to, so that it is never over at once.
    const SOON: Duration = Duration::from_millis(1);

    fn runs(&self, now: Timestamp) -> bool {
        self.at != Timestamp::NEVER && now < self.at.after(Self::LATE)
    }

    /// Returns the timer that there was, which is not dropped under the lock.
    fn prepare(&mut self, runtime: Id) -> Option<BoxedTimer> {
        let was_lost = self.at != Timestamp::NEVER;
        // One that is set still would wake the alarm if it was set anew, which waits for the lock.
        let lost = was_lost.then(|| std::mem::replace(&mut self.timer, BoxedTimer::new()));
        self.at = Timestamp::NEVER;
        // The runtime may have no timers.
        let is_prepared = catch_unwind(AssertUnwindSafe(|| self.timer.prepare())).is_ok();
        self.runtime = is_prepared.then_some(runtime);
        lost
    }

    fn run_until(&mut self, at: Timestamp, alarm: &Waker, clock: &Clock) {
        if self.runtime.is_none() {
            return;
        }
        let mut cx = Context::from_waker(alarm);
        let mut until = clock.instant(at);
        // The runtime may just be shutting down, and then has no timers any more. The next call that
        // waits brings another.
        let runs = catch_unwind(AssertUnwindSafe(|| {
            while self.timer.poll(&mut cx, until).is_ready() {
                until = instant_after(instant(), Self::SOON);
            }
        }));
        self.at = if runs.is_ok() { at } else { Timestamp::NEVER };
    }
}

/// Outside of a runtime there are no timers.
fn current_runtime() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

impl<L: Limit> Wake for Alarm<L> {
    fn wake(self: Arc<Self>) {
        let Some(shared) = self.0.upgrade() else { return };
        shared.lookout.fires();
        Permits::grant(&*shared);
    }
}

impl fmt::Debug for Lookout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookout").finish_non_exhaustive()
    }
}
