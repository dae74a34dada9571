use std::mem;

use super::Outcome;

/// A call in flight, as its layer sees it. Dropping it instead of finishing it cancels the call.
pub trait Guard {
    /// Reports the outcome, and ends the call.
    fn finish(self, outcome: Outcome);

    /// Takes note that the headers of the response are there. For a [`CarryGuard`] that keeps the guard beyond them.
    #[inline]
    fn answered(&mut self) {}
}

/// Lets a response carry the guard of its call to the call's real end, such as the end of a body.
pub trait CarryGuard<Res> {
    /// What the caller receives instead of `Res`; the same, if nothing follows the response.
    type Response<G: Guard>;

    /// Hands `guard` on with the response, [told](Guard::answered) that the headers are there, or ends the call with the
    /// outcome beside it if nothing follows. `None`: the call has ended already.
    fn carry<G: Guard>(&self, response: Res, guard: Option<(G, Outcome)>) -> Self::Response<G>;
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
