//! Protocols of which one part is replaced by a closure.

use super::{Attempt, Carry, Claim, Claims, Cover, Replay, Timeouts, Watch};
use crate::classify::{Asking, CarryGuard, Classify, Guard, Outcome};
use crate::deadline::Deadline;

/// The protocol `P`, but for the outcome of a call, which the closure `F` returns. Made by the `classify` of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Classified<P, F> {
    protocol: P,
    classify: F,
}

impl<P, F> Classified<P, F> {
    pub(crate) const fn new(protocol: P, classify: F) -> Self {
        Self { protocol, classify }
    }
}

impl<P, F, O, Res, E> Classify<Res, E> for Classified<P, F>
where
    F: Fn(Result<&Res, &E>) -> O,
    O: Into<Outcome>,
{
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        (self.classify)(result).into()
    }
}

/// The protocol `P`, but for what a request claims, which the closure `F` returns. Made by the `claims` of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Claiming<P, F> {
    protocol: P,
    claims: F,
}

impl<P, F> Claiming<P, F> {
    pub(crate) const fn new(protocol: P, claims: F) -> Self {
        Self { protocol, claims }
    }
}

impl<P, F: Fn(&Req) -> Claim, Req> Claims<Req> for Claiming<P, F> {
    #[inline]
    fn claim(&self, request: &Req) -> Claim {
        (self.claims)(request)
    }
}

/// Takes the parts of a protocol that are named from the one inside of it.
macro_rules! delegate {
    ($part:ident to $field:tt of $name:ident<$($generic:ident),*>; $($rest:tt)*) => {
        delegate!(@$part $name [$($generic),*] $field);
        delegate!($($rest)*);
    };
    (@requests $name:ident [$($generic:ident),*] $field:tt) => {
        impl<$($generic,)* Req> Carry<Req> for $name<$($generic),*>
        where
            P: Carry<Req>,
        {
            #[inline]
            fn deadline(&self, request: &Req) -> Option<Deadline> {
                self.$field.deadline(request)
            }

            #[inline]
            fn set_deadline(&self, request: &mut Req, deadline: Deadline) {
                self.$field.set_deadline(request, deadline);
            }

            #[inline]
            fn timeouts(&self, request: &Req) -> Timeouts {
                self.$field.timeouts(request)
            }

            #[inline]
            fn attempt(&self, request: &Req) -> Option<Attempt> {
                self.$field.attempt(request)
            }

            #[inline]
            fn set_attempt(&self, request: &mut Req, attempt: Attempt) {
                self.$field.set_attempt(request, attempt);
            }

            #[inline]
            fn is_idempotent(&self, request: &Req) -> bool {
                self.$field.is_idempotent(request)
            }
        }

        impl<$($generic,)* Req> Replay<Req> for $name<$($generic),*>
        where
            P: Replay<Req>,
        {
            type Request = P::Request;
            type Kept = P::Kept;

            #[inline]
            fn keep(&self, request: Req, is_wanted: bool) -> (P::Request, Option<P::Kept>) {
                self.$field.keep(request, is_wanted)
            }

            #[inline]
            fn again(&self, kept: &mut P::Kept) -> Option<P::Request> {
                self.$field.again(kept)
            }
        }
    };
    (@claims $name:ident [$($generic:ident),*] $field:tt) => {
        impl<$($generic,)* Req> Claims<Req> for $name<$($generic),*>
        where
            P: Claims<Req>,
        {
            #[inline]
            fn claim(&self, request: &Req) -> Claim {
                self.$field.claim(request)
            }
        }
    };
    (@outcome $name:ident [$($generic:ident),*] $field:tt) => {
        impl<$($generic,)* Res, E> Classify<Res, E> for $name<$($generic),*>
        where
            P: Classify<Res, E>,
        {
            #[inline]
            fn classify(&self, result: Result<&Res, &E>) -> Outcome {
                self.$field.classify(result)
            }
        }
    };
    (@responses $name:ident [$($generic:ident),*] $field:tt) => {
        impl<$($generic,)* Res> CarryGuard<Res> for $name<$($generic),*>
        where
            P: CarryGuard<Res>,
        {
            type Response<G: Guard> = P::Response<G>;

            #[inline]
            fn carry<G: Guard>(&self, response: Res, guard: Option<(G, Outcome)>) -> P::Response<G> {
                self.$field.carry(response, guard)
            }
        }

        impl<$($generic,)* Res> Cover<Res> for $name<$($generic),*>
        where
            P: Cover<Res>,
        {
            type Covered = P::Covered;

            #[inline]
            fn cover(&self, response: Res, watch: Option<Watch>) -> P::Covered {
                self.$field.cover(response, watch)
            }
        }
    };
    () => {};
}

delegate! {
    requests to protocol of Classified<P, F>;
    claims to protocol of Classified<P, F>;
    responses to protocol of Classified<P, F>;
    requests to protocol of Claiming<P, F>;
    outcome to protocol of Claiming<P, F>;
    responses to protocol of Claiming<P, F>;
    requests to 0 of Asking<P>;
    claims to 0 of Asking<P>;
    responses to 0 of Asking<P>;
}
