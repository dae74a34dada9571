use super::{Classify, Outcome};
use crate::error::CarryRejected;

/// Asks an error what it is before it is put before the classifier `C`: what [hedges](crate::hedge) and
/// [fallbacks](crate::fallback) do unless they are given a classifier for errors that cannot be asked.
///
/// Layers that reject calls themselves do so without it, since their error types can be asked in any case.
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

/// Returns the outcome of a call: a rejection is what it says it is, all else is what `classify` makes of it.
#[inline]
pub(crate) fn outcome_of<C, Res, E>(classify: &C, result: Result<&Res, &E>) -> Outcome
where
    C: Classify<Res, E>,
    E: CarryRejected,
{
    match result {
        // By itself: there the outcome is often known when this is compiled.
        Ok(_) => classify.classify(result),
        Err(error) => Outcome::asked(error.rejected(), || classify.classify(result)),
    }
}
