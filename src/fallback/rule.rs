//! Which ends of a call need a fallback: decided without a clock.

use super::failure::Why;
use crate::classify::Class;
use crate::protocol::Judge;

/// Decides which ends of a call need a fallback.
///
/// A `Failure` needs one. A `Success` is handed out, and is the last good answer of its key for
/// [`stale`](super::FallbackLayer::stale). What is `Ignored` is handed out, and is not.
pub trait Rule<Res, E> {
    /// What the end of a call is.
    fn decide(&self, end: Result<&Res, (&E, Why)>) -> Class;
}

/// Goes by a [`Judge`]. Refusals and timeouts of layers further in are not put before it: they are failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged<J>(pub(super) J);

impl<J: Judge<Res, E>, Res, E> Rule<Res, E> for Judged<J> {
    #[inline]
    fn decide(&self, end: Result<&Res, (&E, Why)>) -> Class {
        match end {
            Err((_, Why::Refused | Why::TimedOut)) => Class::Failure,
            end => self.0.judge(end.map_err(|(error, _)| error)).class(),
        }
    }
}

/// Goes by a predicate, which also sees refusals and timeouts.
#[derive(Clone, Copy, Debug)]
pub struct When<F>(pub(super) F);

impl<F: Fn(Result<&Res, &E>) -> bool, Res, E> Rule<Res, E> for When<F> {
    #[inline]
    fn decide(&self, end: Result<&Res, (&E, Why)>) -> Class {
        if self.0(end.map_err(|(error, _)| error)) { Class::Failure } else { Class::Success }
    }
}
