use crate::classify::{Cause, Classify, Outcome};
use crate::error::CarryRejected;

/// A classifier that sends a call to the fallback if a predicate returns `true`. The predicate also
/// sees rejections and timeouts. Made by [`FallbackLayer::when`](super::FallbackLayer::when).
#[derive(Clone, Copy, Debug)]
pub struct FallbackPredicate<F>(pub(super) F);

impl<F, Res, E> Classify<Res, E> for FallbackPredicate<F>
where
    F: Fn(Result<&Res, &E>) -> bool,
    E: CarryRejected,
{
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        let needs_fallback = (self.0)(result);
        let outcome = if needs_fallback { Outcome::failure() } else { Outcome::success() };
        let rejected = result.err().and_then(CarryRejected::rejected);
        Outcome { cause: rejected.as_ref().map_or(Cause::Service, Cause::of), ..outcome }
    }
}
