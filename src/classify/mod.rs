//! Classification of results: one [`Outcome`] for every layer.
//!
//! A [`Classify`] inspects the result of a call and returns an [`Outcome`]: whether the call
//! succeeded, whether it may be retried, what the server said about retries, and whether the
//! service signals overload. A circuit breaker, a retry and a throttle with the same classifier
//! never disagree about a response.
//!
//! The layers that use outcomes (circuit breaker, retry, hedge, fallback, throttle, bulkhead,
//! adaptive limit) have two setters for them. `.protocol(..)` sets everything that the layer knows
//! about requests and responses, such as `http::Http`. `.classify(..)` sets the outcome alone, with
//! a closure:
//!
//! ```
//! use stanchion::classify::{Class, Outcome};
//! use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, RetryConfig, RetryLayer};
//!
//! fn outcome(result: Result<&u32, &std::io::Error>) -> Outcome {
//!     match result {
//!         Ok(_) => Outcome::success(),
//!         Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Outcome::ignored(),
//!         Err(_) => Outcome::failure(),
//!     }
//! }
//!
//! let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new()).classify(outcome);
//! let retry = RetryLayer::new(RetryConfig::new()).classify(outcome);
//! // A closure may return the class alone.
//! let by_class = RetryLayer::new(RetryConfig::new())
//!     .classify(|result: Result<&u32, &std::io::Error>| if result.is_ok() { Class::Success } else { Class::Failure });
//! # let _ = (breaker, retry, by_class);
//! ```
//!
//! Layers [ask the error](crate::CarryRejected) first. A rejection that did not reach the service
//! is never passed to the classifier: its outcome is [`Ignored`](Class::Ignored). A timeout after
//! the call reached the service is passed to the classifier like any other error.
//! `classify_opaque`, and [`when`](crate::FallbackLayer::when) on a fallback, see every result.

mod asking;
mod guard;
mod outcome;

pub use asking::Asking;
pub(crate) use asking::outcome_of;
pub(crate) use guard::in_service;
pub use guard::{CarryGuard, Guard};
pub(crate) use outcome::Cause;
pub use outcome::{Class, Outcome, RetryHint, Retryable};

/// Classifies the result of a call.
///
/// Implemented by [protocols](crate::protocol). To use a closure, pass it to the `classify` setter
/// of a layer.
pub trait Classify<Res, E> {
    /// Returns the outcome of a call that ended with `result`.
    fn classify(&self, result: Result<&Res, &E>) -> Outcome;
}
