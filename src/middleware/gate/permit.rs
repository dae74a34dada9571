use std::fmt;

use crate::classify::Guard;
use crate::error::Rejected;

/// The permit of a call through a gate. The future of the call holds it, and ends the call with its
/// outcome. Dropped instead, the permit cancels the call.
pub trait GatePermit: Guard {
    /// A rejection on its way to the caller, from which the [`Rejected`] is made where it arrives.
    type Rejection: Into<Rejected> + fmt::Debug;

    /// Records that the service was not ready with the call when it was polled.
    #[inline]
    fn pend(&mut self) {}

    /// Records that the service or the classifier panicked; the permit is dropped next. A gate for
    /// which a panic is a failure ends the call here. For any other, the drop cancels the call.
    fn fail(&mut self);

    /// Returns until when the permit is held if there is a response.
    fn hold_until(&self) -> HoldUntil;
}

/// Until when the guard of a call is held if there is a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldUntil {
    /// Until the headers of the response are there.
    Headers,
    /// Until the outcome is known: at once unless the response is good, and then until what follows
    /// it has ended.
    Outcome,
    /// Until what follows the headers has ended, whatever the outcome.
    BodyEnd,
}
