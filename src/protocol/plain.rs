use super::{Carry, Cover, Replay, Watch};
use crate::classify::{CarryGuard, Classify, Guard, Outcome};

/// The protocol of requests that can be cloned. Every error is a failure and every response a success. Every request counts as
/// idempotent: do not use it with retries or hedges for requests that must not be executed twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain;

impl<Req> Carry<Req> for Plain {}

impl<Req: Clone> Replay<Req> for Plain {
    type Request = Req;
    type Kept = Req;

    #[inline]
    fn keep(&self, request: Req, is_wanted: bool) -> (Req, Option<Req>) {
        let kept = is_wanted.then(|| request.clone());
        (request, kept)
    }

    fn again(&self, kept: &mut Req) -> Option<Req> {
        Some(kept.clone())
    }
}

impl<Res, E> Classify<Res, E> for Plain {
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        if result.is_ok() { Outcome::success() } else { Outcome::failure() }
    }
}

impl<Res> CarryGuard<Res> for Plain {
    type Response<G: Guard> = Res;

    // Always: see the guard's `finish`.
    #[inline(always)]
    fn carry<G: Guard>(&self, response: Res, guard: Option<(G, Outcome)>) -> Res {
        if let Some((guard, outcome)) = guard {
            guard.finish(outcome);
        }
        response
    }
}

impl<Res> Cover<Res> for Plain {
    type Covered = Res;

    #[inline]
    fn cover(&self, answer: Res, _: Option<Watch>) -> Res {
        answer
    }
}

/// The protocol of requests that only `copy` can make another of, or none: see [`copied`].
#[derive(Clone, Copy, Debug)]
pub struct Copied<F>(F);

/// Like [`Plain`], for requests of which `copy` makes another one; those of which it makes none are not repeated.
pub const fn copied<F>(copy: F) -> Copied<F> {
    Copied(copy)
}

impl<F, Req> Carry<Req> for Copied<F> {}

impl<F: Fn(&Req) -> Option<Req>, Req> Replay<Req> for Copied<F> {
    type Request = Req;
    type Kept = Req;

    #[inline]
    fn keep(&self, request: Req, is_wanted: bool) -> (Req, Option<Req>) {
        let kept = if is_wanted { (self.0)(&request) } else { None };
        (request, kept)
    }

    fn again(&self, kept: &mut Req) -> Option<Req> {
        (self.0)(kept)
    }
}

impl<F, Res, E> Classify<Res, E> for Copied<F> {
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        Plain.classify(result)
    }
}

impl<F, Res> CarryGuard<Res> for Copied<F> {
    type Response<G: Guard> = Res;

    #[inline]
    fn carry<G: Guard>(&self, response: Res, guard: Option<(G, Outcome)>) -> Res {
        Plain.carry(response, guard)
    }
}

impl<F, Res> Cover<Res> for Copied<F> {
    type Covered = Res;

    #[inline]
    fn cover(&self, answer: Res, _: Option<Watch>) -> Res {
        answer
    }
}
