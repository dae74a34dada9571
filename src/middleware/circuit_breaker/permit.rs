use std::mem;
use std::sync::Arc;

use super::pass::{Pass, Refusal, Verdict};
use super::shared::{Refused, Shared};
use crate::classify::{Class, Guard, Outcome};
use crate::middleware::gate::{GatePermit, HoldUntil};
use crate::telemetry::CallOutcome;

/// Leave to make one call, from a [circuit breaker](super).
///
/// Tell it how the call ended with [`finish`](Self::finish). Dropped instead, it takes the call for cancelled:
/// a trial call's slot is free again at once, and no verdict is recorded, unless the call has been slow already.
#[derive(Debug)]
#[must_use = "dropping the permit at once cancels the call"]
pub struct Permit {
    /// None once the call has ended.
    shared: Option<Arc<Shared>>,
    pass: Pass,
}

impl Permit {
    #[inline]
    pub(super) fn acquire(shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let pass = match shared.admit_plainly() {
            Some(pass) => pass,
            None => shared.admit_slowly()?,
        };
        Ok(Self::new(shared, pass))
    }

    #[inline]
    pub(super) fn new(shared: &Arc<Shared>, pass: Pass) -> Self {
        Self { shared: Some(Arc::clone(shared)), pass }
    }

    /// Ends the call with an [`Outcome`], or with a [`Class`] where that is all there is to it.
    #[inline]
    pub fn finish(self, outcome: impl Into<Outcome>) {
        self.end(outcome.into());
    }

    /// Whether a reserved trial call still has its slot.
    pub(super) fn is_held(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.circuit.is_held(&self.pass, &shared.now()))
    }

    /// Begins the call of a permit that was taken ahead of it; `None` if that was too long ago.
    pub(super) fn begin(mut self) -> Option<Pass> {
        let mut pass = self.pass;
        let is_renewed =
            self.shared.as_ref().is_some_and(|shared| shared.circuit.renew(&mut pass, &shared.now()));
        // Otherwise what was reserved is given back.
        is_renewed.then(|| {
            self.shared = None;
            pass
        })
    }

    // Always inlined, and without a drop at its end: a permit is not to be put into memory just to be ended.
    #[inline(always)]
    fn end(mut self, outcome: Outcome) {
        let (shared, pass) = (self.shared.take(), self.pass);
        mem::forget(self);
        if let Some(shared) = shared {
            let verdict = match outcome.past_deadline() {
                Some(given) if outcome.class == Class::Failure => shared.cut_off(pass, given),
                _ => outcome.class.into(),
            };
            shared.settle(pass, verdict, outcome.retry_after());
        }
    }
}

impl Guard for Permit {
    // Always: what is known of an outcome where it is made is not to be put into memory and asked again.
    #[inline(always)]
    fn finish(self, outcome: Outcome) {
        self.end(outcome);
    }

    // Always, as `end` is.
    #[inline(always)]
    fn answered(&mut self) {
        if let Some(shared) = self.shared.as_ref().filter(|_| self.pass.may_be_sample()) {
            shared.answered(self.pass);
            self.pass = self.pass.answered();
        }
    }
}

impl GatePermit for Permit {
    type Rejection = Refused;

    fn fail(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.settle(self.pass, Verdict::Failure, None);
        }
    }

    #[inline]
    fn hold_until(&self) -> HoldUntil {
        HoldUntil::Outcome
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.settle(self.pass, Verdict::Cancelled, None);
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

impl From<Verdict> for CallOutcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Success => Self::Success,
            Verdict::Failure => Self::Failure,
            Verdict::Ignored => Self::Ignored,
            Verdict::Cancelled => Self::Cancelled,
        }
    }
}
