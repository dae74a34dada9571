use std::sync::Arc;
use std::time::Duration;

use super::pass::{Pass, Verdict};
use super::shared::Shared;
use crate::classify::{Class, Guard};
use crate::clock::Now;
use crate::error::Rejected;
use crate::telemetry::{Event, Outcome};

/// Leave to make one call, from a [circuit breaker](super).
///
/// Tell it how the call ended with [`finish`](Self::finish). Dropped instead, it takes the call for cancelled:
/// a trial call's slot is free again at once, and no verdict is recorded, unless the call has been slow already.
#[derive(Debug)]
#[must_use = "dropping the permit at once cancels the call"]
pub struct Permit {
    shared: Arc<Shared>,
    pass: Pass,
    stage: Stage,
}

/// What it means if the permit is dropped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The call has not begun: there is none.
    Reserved,
    /// The caller gave up.
    Begun,
    /// The service is running, so it has panicked.
    InService,
}

impl Permit {
    #[inline]
    pub(super) fn acquire(shared: &Arc<Shared>) -> Result<Self, Rejected> {
        match shared.circuit.admit_plainly() {
            Some(pass) if !shared.wants_calls => {
                Ok(Self { shared: Arc::clone(shared), pass, stage: Stage::Begun })
            }
            _ => Self::acquire_slowly(shared),
        }
    }

    /// As [`acquire`](Self::acquire), for what is no call that could be refused.
    pub(super) fn acquire_quietly(shared: &Arc<Shared>) -> Option<Self> {
        let now = shared.now();
        shared.admit(&now).ok().map(|pass| Self::new(shared, pass, &now))
    }

    /// Leave to make a trial call that has not begun yet: until it does it takes no time.
    pub(super) fn reserve(shared: &Arc<Shared>, mut pass: Pass, now: &Now<'_>) -> Self {
        shared.circuit.hold(&mut pass, now);
        Self { shared: Arc::clone(shared), pass, stage: Stage::Reserved }
    }

    #[inline(never)]
    fn acquire_slowly(shared: &Arc<Shared>) -> Result<Self, Rejected> {
        let now = shared.now();
        match shared.admit(&now) {
            Ok(pass) => Ok(Self::new(shared, pass, &now)),
            Err(refusal) => Err(shared.refuse(refusal)),
        }
    }

    pub(super) fn new(shared: &Arc<Shared>, mut pass: Pass, now: &Now<'_>) -> Self {
        if shared.wants_calls {
            pass.started = now.get();
        }
        Self { shared: Arc::clone(shared), pass, stage: Stage::Begun }
    }

    /// Ends the call.
    #[inline]
    pub fn finish(mut self, class: Class) {
        self.end(class.into(), None);
    }

    /// Whether a reserved trial call still has its slot.
    pub(super) fn is_held(&self) -> bool {
        self.shared.circuit.is_held(&self.pass, &self.shared.now())
    }

    /// Begins the call of a permit that was taken ahead of it; `None` if that was too long ago.
    pub(super) fn begin(mut self) -> Option<Self> {
        if !self.shared.circuit.renew(&mut self.pass, &self.shared.now()) {
            return None;
        }
        self.stage = Stage::Begun;
        Some(self)
    }

    /// Runs a part of the service. If it panics, the call has failed; the drop of a permit alone could not tell
    /// that from another panic, by which the future is merely dropped.
    #[inline]
    pub(super) fn in_service<R>(&mut self, part: impl FnOnce() -> R) -> R {
        self.stage = Stage::InService;
        let result = part();
        self.stage = Stage::Begun;
        result
    }

    #[inline]
    fn end(&mut self, verdict: Verdict, retry_after: Option<Duration>) {
        let Some(pass) = self.pass.end() else { return };
        if verdict == Verdict::Success && pass.is_plain() {
            let changed = self.shared.circuit.settle_plainly(&pass, &self.shared.now());
            self.shared.after(changed);
        } else {
            self.end_measured(&pass, verdict, retry_after);
        }
    }

    #[inline(never)]
    fn end_measured(&self, pass: &Pass, verdict: Verdict, retry_after: Option<Duration>) {
        let shared = &*self.shared;
        let now = shared.now();
        let changed = shared.circuit.settle(pass, verdict, retry_after, &now);
        if shared.wants_calls && self.stage != Stage::Reserved {
            let slow = shared.circuit.is_slow(pass, &now);
            let latency = now.get().since(pass.started);
            shared.telemetry.emit(&Event::Call { outcome: verdict.into(), slow, latency });
        }
        shared.after(changed);
    }
}

impl Guard for Permit {
    #[inline]
    fn finish(self, class: Class) {
        Self::finish(self, class);
    }

    fn finish_and_wait(mut self, class: Class, retry_after: Duration) {
        self.end(class.into(), Some(retry_after));
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if let Some(pass) = self.pass.end() {
            let verdict = if self.stage == Stage::InService { Verdict::Failure } else { Verdict::Cancelled };
            self.end_measured(&pass, verdict, None);
        }
    }
}

impl From<Class> for Verdict {
    #[inline]
    fn from(class: Class) -> Self {
        match class {
            Class::Success => Self::Success,
            Class::Failure => Self::Failure,
            Class::Ignored => Self::Ignored,
        }
    }
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Success => Self::Success,
            Verdict::Failure => Self::Failure,
            Verdict::Ignored => Self::Ignored,
            Verdict::Cancelled => Self::Cancelled,
        }
    }
}
