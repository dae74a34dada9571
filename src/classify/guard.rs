use std::mem;

use super::Outcome;

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
