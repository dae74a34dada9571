use super::{BodyTimer, Replay, RequestContext, WrapBody};
use crate::classify::{CarryGuard, Classify, Guard, Outcome};

/// The protocol of requests that implement [`Clone`].
///
/// Every error is a failure and every response a success. Every request counts as idempotent: do
/// not use this protocol with retries or hedges for requests that must not be executed twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnyRequest;

impl<Req> RequestContext<Req> for AnyRequest {}

impl<Req: Clone> Replay<Req> for AnyRequest {
    type Request = Req;
    type Saved = Req;

    #[inline]
    fn save(&self, request: Req, is_wanted: bool) -> (Req, Option<Req>) {
        let saved = is_wanted.then(|| request.clone());
        (request, saved)
    }

    fn replay(&self, saved: &mut Req) -> Option<Req> {
        Some(saved.clone())
    }
}

impl<Res, E> Classify<Res, E> for AnyRequest {
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        if result.is_ok() { Outcome::success() } else { Outcome::failure() }
    }
}

impl<Res> CarryGuard<Res> for AnyRequest {
    type Response<G: Guard> = Res;

    // Always inlined, like `Guard::finish`, which it calls.
    #[inline(always)]
    fn carry<G: Guard>(&self, response: Res, guard: Option<(G, Outcome)>) -> Res {
        if let Some((guard, outcome)) = guard {
            guard.finish(outcome);
        }
        response
    }
}

impl<Res> WrapBody<Res> for AnyRequest {
    type Wrapped = Res;

    #[inline]
    fn wrap_body(&self, response: Res, _: Option<BodyTimer>) -> Res {
        response
    }
}

/// The protocol of requests that a closure clones, made by [`clone_with`].
#[derive(Clone, Copy, Debug)]
pub struct CloneWith<F>(F);

/// Creates a protocol like [`AnyRequest`] for requests that `copy` clones. A request for which
/// `copy` returns `None` is not repeated.
pub const fn clone_with<F>(copy: F) -> CloneWith<F> {
    CloneWith(copy)
}

impl<F, Req> RequestContext<Req> for CloneWith<F> {}

impl<F: Fn(&Req) -> Option<Req>, Req> Replay<Req> for CloneWith<F> {
    type Request = Req;
    type Saved = Req;

    #[inline]
    fn save(&self, request: Req, is_wanted: bool) -> (Req, Option<Req>) {
        let saved = if is_wanted { (self.0)(&request) } else { None };
        (request, saved)
    }

    fn replay(&self, saved: &mut Req) -> Option<Req> {
        (self.0)(saved)
    }
}

impl<F, Res, E> Classify<Res, E> for CloneWith<F> {
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        AnyRequest.classify(result)
    }
}

impl<F, Res> CarryGuard<Res> for CloneWith<F> {
    type Response<G: Guard> = Res;

    #[inline]
    fn carry<G: Guard>(&self, response: Res, guard: Option<(G, Outcome)>) -> Res {
        AnyRequest.carry(response, guard)
    }
}

impl<F, Res> WrapBody<Res> for CloneWith<F> {
    type Wrapped = Res;

    #[inline]
    fn wrap_body(&self, response: Res, _: Option<BodyTimer>) -> Res {
        response
    }
}
