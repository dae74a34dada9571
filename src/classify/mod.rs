//! What counts as a failure.
//!
//! A call ends as a [`Class`]: `Success`, `Failure`, or `Ignored` where its end says nothing about the service.
//! [`Classify`] decides which, and when: a plain classifier as soon as there is a result, the one for HTTP when
//! the response's body has ended.
//!
//! Any closure is a classifier:
//!
//! ```
//! use stanchion::classify::Class;
//! use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer};
//!
//! let layer = CircuitBreakerLayer::new(CircuitBreakerConfig::new()).classify(
//!     |result: Result<&u32, &std::io::Error>| match result {
//!         Ok(_) => Class::Success,
//!         Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Class::Ignored,
//!         Err(_) => Class::Failure,
//!     },
//! );
//! # let _ = layer;
//! ```
//!
//! Refusals by layers of this crate further in are not put before a classifier at all: they are `Ignored`.

#[cfg(feature = "http")]
pub mod http;

use std::mem;
use std::time::Duration;

/// What the end of a call says about the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It did its job.
    Success,
    /// It did not.
    Failure,
    /// Nothing: the call was wrong, or was never made.
    Ignored,
}

/// What a layer holds while a call is under way, waiting to be told how it ended. Dropped instead, it
/// takes the call for cancelled.
pub trait Guard {
    /// Ends the call.
    fn finish(self, class: Class);

    /// Ends the call, and passes on how long the service wants to be left alone.
    fn finish_and_wait(self, class: Class, retry_after: Duration)
    where
        Self: Sized,
    {
        let _ = retry_after;
        self.finish(class);
    }
}

/// Runs a part of the service, and `fail` if it panics: then the call has failed. The drop of a guard alone could not
/// tell that from another panic, by which the future is merely dropped.
// Always, since what it returns may be a large future.
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

/// Decides how a call ended, and what the caller receives.
///
/// Implemented by every closure that looks at a result and returns a [`Class`]. Implement it yourself where a
/// call goes on after the response is there, so that the response must carry the guard with it.
pub trait Classify<Res, E> {
    /// What the caller receives instead of `Res`; the same, unless it carries the guard.
    type Response<G: Guard>;

    /// Ends the call through `guard`, or hands the guard on with the response.
    ///
    /// # Errors
    ///
    /// That of `result`, as it is.
    fn settle<G: Guard>(&self, result: Result<Res, E>, guard: G) -> Result<Self::Response<G>, E>;
}

impl<F, Res, E> Classify<Res, E> for F
where
    F: Fn(Result<&Res, &E>) -> Class,
{
    type Response<G: Guard> = Res;

    #[inline]
    fn settle<G: Guard>(&self, result: Result<Res, E>, guard: G) -> Result<Res, E> {
        guard.finish(self(result.as_ref()));
        result
    }
}

/// Every error is a failure, every response a success. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorsAreFailures;

impl<Res, E> Classify<Res, E> for ErrorsAreFailures {
    type Response<G: Guard> = Res;

    #[inline]
    fn settle<G: Guard>(&self, result: Result<Res, E>, guard: G) -> Result<Res, E> {
        guard.finish(if result.is_ok() { Class::Success } else { Class::Failure });
        result
    }
}
