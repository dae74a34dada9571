use super::{Classify, Outcome};
use crate::error::CarryRejected;

/// A classifier that asks each error whether it is a rejection before it passes the result on to
/// `C`.
///
/// [Hedges](crate::hedge) and [fallbacks](crate::fallback) use it, unless they are given a
/// classifier with `classify_opaque`. Layers that reject calls do not need it, since they require
/// an error type that can be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asking<C>(pub(crate) C);

impl<C, Res, E> Classify<Res, E> for Asking<C>
where
    C: Classify<Res, E>,
    E: CarryRejected,
{
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        outcome_of(&self.0, result)
    }
}

/// Returns the outcome of a call: the rejection's own if the error is one, `classify`'s otherwise.
#[inline]
pub(crate) fn outcome_of<C, Res, E>(classify: &C, result: Result<&Res, &E>) -> Outcome
where
    C: Classify<Res, E>,
    E: CarryRejected,
{
    match result {
        // A separate arm: the outcome of a success is often a compile-time constant.
        Ok(_) => classify.classify(result),
        Err(error) => Outcome::asked(error.rejected(), || classify.classify(result)),
    }
}
