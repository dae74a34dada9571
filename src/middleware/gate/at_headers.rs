use crate::classify::{CarryGuard, Classify, Guard, Outcome};

/// The outcomes of the protocol `P`, for a gate whose calls end when the headers of the response
/// are there: responses stay as they are.
#[derive(Clone, Copy, Debug)]
pub struct AtHeaders<P>(pub(crate) P);

impl<P: Classify<Res, E>, Res, E> Classify<Res, E> for AtHeaders<P> {
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        self.0.classify(result)
    }
}

impl<P, Res> CarryGuard<Res> for AtHeaders<P> {
    type Response<G: Guard> = Res;

    // Always, as the guard's `finish` is.
    #[inline(always)]
    fn carry<G: Guard>(&self, response: Res, guard: Option<(G, Outcome)>) -> Res {
        if let Some((guard, outcome)) = guard {
            guard.finish(outcome);
        }
        response
    }
}
