use std::mem;

use super::asking::outcome_of;
use super::{Class, Classify, Outcome};
use crate::error::CarryRejected;

/// A call in flight, as its layer sees it. Dropping it instead of finishing it cancels the call.
pub trait Guard {
    /// Reports the outcome, and ends the call.
    fn finish(self, outcome: Outcome);
}

/// Lets a response carry the guard of its call to the call's real end, such as the end of a body.
pub trait CarryGuard<Res> {
    /// What the caller receives instead of `Res`; the same, if nothing follows the response.
    type Response<G: Guard>;

    /// Hands `guard` on with the response, or ends the call with the outcome beside it if nothing follows. `None`: the
    /// call has ended already.
    fn carry<G: Guard>(&self, response: Res, guard: Option<(G, Outcome)>) -> Self::Response<G>;
}

/// Until when the guard of a call is held if there is a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HoldUntil {
    /// Until the headers of the response are there.
    Headers,
    /// Until the outcome is known: at once unless the response is good, and then until what follows it has ended.
    Outcome,
    /// Until what follows the headers has ended, whatever the outcome.
    BodyEnd,
}

/// Ends a call with the outcome of `result`, or hands its guard on with the response.
// Always, since what it is given and what it returns may be large.
#[inline(always)]
pub(crate) fn settle<P, Res, E, G>(
    protocol: &P,
    result: Result<Res, E>,
    guard: G,
    until: HoldUntil,
) -> Result<P::Response<G>, E>
where
    P: Classify<Res, E> + CarryGuard<Res>,
    E: CarryRejected,
    G: Guard,
{
    let response = match result {
        Ok(response) => response,
        Err(error) => return Err(settle_error(protocol, error, guard)),
    };
    let outcome = protocol.classify(Ok(&response));
    let is_carried = match until {
        HoldUntil::Headers => false,
        HoldUntil::Outcome => outcome.class == Class::Success && outcome.is_good(),
        HoldUntil::BodyEnd => true,
    };
    if is_carried {
        return Ok(protocol.carry(response, Some((guard, outcome))));
    }
    guard.finish(outcome);
    Ok(protocol.carry(response, None))
}

/// Ends a call with an error: as a failure, if looking at it panics.
#[cold]
fn settle_error<P, Res, E, G>(protocol: &P, error: E, guard: G) -> E
where
    P: Classify<Res, E>,
    E: CarryRejected,
    G: Guard,
{
    let mut guard = Some(guard);
    let finish = |guard: &mut Option<G>, outcome| {
        if let Some(guard) = guard.take() {
            guard.finish(outcome);
        }
    };
    let outcome = in_service(|| outcome_of(protocol, Err(&error)), || finish(&mut guard, Outcome::failure()));
    finish(&mut guard, outcome);
    error
}

/// Runs a part of the service, and `fail` if it panics: then the call has failed. The drop of a guard alone could not
/// tell that from another panic, by which the future is merely dropped.
// Always, since what it returns may be a large future.
#[inline(always)]
pub(crate) fn in_service<R>(part: impl FnOnce() -> R, fail: impl FnMut()) -> R {
    struct OnPanic<F: FnMut()>(F);
    impl<F: FnMut()> Drop for OnPanic<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let on_panic = OnPanic(fail);
    let result = part();
    mem::forget(on_panic);
    result
}
