//! Protocols in which a closure replaces one part.

use super::{Attempt, BodyTimer, CallAttributes, Replay, RequestContext, Timeouts, WrapBody};
use crate::classify::{Asking, CarryGuard, Classify, Guard, Outcome};
use crate::deadline::Deadline;

/// The protocol `P` with the closure `F` as its classifier. Made by the `classify` setter of a
/// layer.
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

/// The protocol `P` with a closure `F` that returns the [attributes](CallAttributes) of a call.
/// Made by the `attributes` setter of a layer.
#[derive(Clone, Copy, Debug)]
pub struct WithAttributes<P, F> {
    protocol: P,
    attributes: F,
}

impl<P, F> WithAttributes<P, F> {
    pub(crate) const fn new(protocol: P, attributes: F) -> Self {
        Self { protocol, attributes }
    }
}

/// Forwards the methods of `RequestContext` to a field, except for `attributes`.
macro_rules! forward_context {
    ($field:tt) => {
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
    };
}

impl<P, F, Req> RequestContext<Req> for WithAttributes<P, F>
where
    P: RequestContext<Req>,
    F: Fn(&Req) -> CallAttributes,
{
    forward_context!(protocol);

    #[inline]
    fn attributes(&self, request: &Req) -> CallAttributes {
        (self.attributes)(request)
    }
}

/// Implements the given traits by forwarding to a field.
macro_rules! delegate {
    ($part:ident to $field:tt of $name:ident<$($generic:ident),*>; $($rest:tt)*) => {
        delegate!(@$part $name [$($generic),*] $field);
        delegate!($($rest)*);
    };
    (@context $name:ident [$($generic:ident),*] $field:tt) => {
        impl<$($generic,)* Req> RequestContext<Req> for $name<$($generic),*>
        where
            P: RequestContext<Req>,
        {
            forward_context!($field);

            #[inline]
            fn attributes(&self, request: &Req) -> CallAttributes {
                self.$field.attributes(request)
            }
        }
    };
    (@replay $name:ident [$($generic:ident),*] $field:tt) => {
        impl<$($generic,)* Req> Replay<Req> for $name<$($generic),*>
        where
            P: Replay<Req>,
        {
            type Request = P::Request;
            type Saved = P::Saved;

            #[inline]
            fn save(&self, request: Req, is_wanted: bool) -> (P::Request, Option<P::Saved>) {
                self.$field.save(request, is_wanted)
            }

            #[inline]
            fn replay(&self, saved: &mut P::Saved) -> Option<P::Request> {
                self.$field.replay(saved)
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

        impl<$($generic,)* Res> WrapBody<Res> for $name<$($generic),*>
        where
            P: WrapBody<Res>,
        {
            type Wrapped = P::Wrapped;

            #[inline]
            fn wrap_body(&self, response: Res, timer: Option<BodyTimer>) -> P::Wrapped {
                self.$field.wrap_body(response, timer)
            }
        }
    };
    () => {};
}

delegate! {
    context to protocol of Classified<P, F>;
    replay to protocol of Classified<P, F>;
    responses to protocol of Classified<P, F>;
    replay to protocol of WithAttributes<P, F>;
    outcome to protocol of WithAttributes<P, F>;
    responses to protocol of WithAttributes<P, F>;
    context to 0 of Asking<P>;
    replay to 0 of Asking<P>;
    responses to 0 of Asking<P>;
}
