//! The error of a call that a layer rejected.
//!
//! No layer changes the error type of the service it wraps. A layer that can reject a call asks that the error type
//! [can carry a `Rejected`](CarryRejected): it is made from one, and returns it when asked. That is how a layer further out
//! tells a rejection or a timeout from a failure of the service, whatever lies in between: the error itself says what it is.
//!
//! | error type of the service | to use it |
//! |---|---|
//! | a type that is an error, such as that of a client | [`Error<E>`], by `.map_err(stanchion::Error::Inner)` below the layers |
//! | a boxed error, `std::io::Error`, [`Rejected`] | as it is |
//! | `anyhow::Error`, `tonic::Status` | as it is, with the features `anyhow` and `grpc` |
//! | an enum of your own | [`carry_rejected!`](crate::carry_rejected) in one line, or two short functions |
//!
//! Choose the type once, below the layers:
//!
//! ```
//! use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Error};
//! use tower::{ServiceBuilder, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::new(CircuitBreakerConfig::new()))
//!     .map_err(Error::Inner)
//!     .service(service_fn(|n: u32| async move { n.checked_add(1).ok_or(std::fmt::Error) }));
//! # use tower::ServiceExt;
//! assert_eq!(service.oneshot(1).await.unwrap(), 2);
//! # }
//! ```

mod carry_rejected;
mod chain;
mod reason;
mod rejected;

pub use carry_rejected::CarryRejected;
#[cfg(feature = "http")]
pub(crate) use chain::chain;
pub use reason::Reason;
pub use rejected::Rejected;

use std::error::Error as StdError;
use std::fmt;

/// A ready-made error type: a rejection, or the error of the service below.
///
/// `E` must be an error. Do not wrap a boxed error: `Error<BoxError>` cannot carry rejections, and the box carries them by
/// itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// A layer rejected the call, or gave up waiting for the service.
    Rejected(Rejected),
    /// The service failed.
    Inner(E),
}

impl<E> Error<E> {
    /// Returns the service's own error, if it is one.
    #[must_use]
    pub const fn inner(&self) -> Option<&E> {
        match self {
            Self::Rejected(_) => None,
            Self::Inner(inner) => Some(inner),
        }
    }
}

impl<E: StdError> Error<E> {
    /// Returns the rejection, if this is one or if one is in the chain of sources of the inner error (a nested `Error`, for
    /// example).
    #[must_use]
    #[inline]
    pub fn rejected(&self) -> Option<Rejected> {
        match self {
            Self::Rejected(rejected) => Some(*rejected),
            Self::Inner(inner) => Rejected::find_in(inner.source()),
        }
    }
}

impl<E> From<Rejected> for Error<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Inner(inner) => inner.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Inner(inner) => Some(inner),
        }
    }
}
