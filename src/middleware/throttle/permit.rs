use std::sync::Arc;

use super::shared::Shared;
use super::state::{End, Sent};
use crate::base::clock::Now;
use crate::classify::{Guard, Outcome};
use crate::error::Rejected;
use crate::middleware::gate::{GatePermit, HoldUntil};

/// The permit of a call that was sent. Dropping it cancels the call.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    sent: Sent,
    has_ended: bool,
}

impl Permit {
    #[inline]
    pub(super) fn new(shared: &Arc<Shared>, sent: Sent) -> Self {
        Self { shared: Arc::clone(shared), sent, has_ended: false }
    }

    #[inline]
    fn end(&mut self, end: End) {
        self.has_ended = true;
        let now = Now::of(&self.shared.clock);
        self.shared.measured(|measures| measures.end(self.sent, end, &now));
    }
}

impl Guard for Permit {
    // Always inlined: an outcome that is known at compile time then needs no memory.
    #[inline(always)]
    fn finish(mut self, outcome: Outcome) {
        self.end(match outcome.overload {
            _ if outcome.is_rejected() => End::NotSent,
            _ if outcome.is_cut_off() => End::CutOff,
            true => End::Rejected,
            false => End::Accepted,
        });
    }
}

impl GatePermit for Permit {
    type Rejection = Rejected;

    #[inline]
    fn pend(&mut self) {
        self.sent.wait();
    }

    /// Does nothing: a call that panics counts as cancelled.
    #[inline]
    fn fail(&mut self) {}

    #[inline]
    fn hold_until(&self) -> HoldUntil {
        HoldUntil::Headers
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(End::Cancelled);
        }
    }
}
