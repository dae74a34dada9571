use std::mem;

use super::{Class, Outcome};

/// A call in flight, as seen by its layer. Dropping the guard without finishing it cancels the
/// call.
pub trait Guard {
    /// Ends the call with `outcome`.
    fn finish(self, outcome: Outcome);

    /// Records that the headers of the response have arrived. Called by a [`CarryGuard`] that holds
    /// the guard beyond them.
    #[inline]
    fn answered(&mut self) {}
}

/// Attaches the guard of a call to its response, so that the call ends with the response's body.
pub trait CarryGuard<Res> {
    /// The response that the caller receives. It is `Res` itself if the response has no body.
    type Response<G: Guard>;

    /// Attaches `guard` to the response after [telling](Guard::answered) it that the headers have
    /// arrived. If no body follows, ends the call with the given outcome at once. `guard` is `None`
    /// if the call has already ended.
    fn carry<G: Guard>(&self, response: Res, guard: Option<(G, Outcome)>) -> Self::Response<G>;
}

/// The moment until which the guard of a call with a response is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HoldUntil {
    /// The arrival of the response's headers.
    Headers,
    /// The moment at which the outcome is known: the arrival of the headers, or the end of the body
    /// if the headers say success.
    Outcome,
    /// The end of the body, whatever the outcome.
    BodyEnd,
}

/// Ends a call with the `outcome` of its result, or attaches its guard to the response.
// Always inlined: the arguments and the return value may be large, and would be copied.
#[inline(always)]
pub(crate) fn settle<P, Res, E, G>(
    protocol: &P,
    result: Result<Res, E>,
    outcome: Outcome,
    guard: G,
    until: HoldUntil,
) -> Result<P::Response<G>, E>
where
    P: CarryGuard<Res>,
    G: Guard,
{
    let is_carried = match until {
        HoldUntil::Headers => false,
        HoldUntil::Outcome => outcome.class == Class::Success && outcome.is_good(),
        HoldUntil::BodyEnd => true,
    };
    match result {
        Ok(response) if is_carried => Ok(protocol.carry(response, Some((guard, outcome)))),
        Ok(response) => {
            guard.finish(outcome);
            Ok(protocol.carry(response, None))
        }
        Err(error) => {
            guard.finish(outcome);
            Err(error)
        }
    }
}

/// Runs `part` of the service, and calls `fail` if it panics, so that the call counts as failed.
/// Dropping the guard would not do: it cannot tell a panic of the service from a panic elsewhere
/// that merely drops the future.
// Always inlined: the return value may be a large future, and would be copied.
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
