//! Errors of calls that a layer rejected.
//!
//! No layer changes the error type of the service it wraps. A layer that can reject a call requires
//! that this error type [can carry a `Rejected`](CarryRejected): the error is created from the
//! rejection, and returns the rejection when asked. An outer layer can therefore tell a rejection
//! or a timeout from a failure of the service, even if other middleware lies in between.
//!
//! | error type of the service | how to use it |
//! |---|---|
//! | a type that implements `std::error::Error`, such as a client's | [`Error<E>`], with `.map_err(stanchion::Error::Inner)` below the layers |
//! | a boxed error, `std::io::Error`, [`Rejected`] | unchanged |
//! | `anyhow::Error`, `tonic::Status` | unchanged, with the features `anyhow` and `grpc` |
//! | your own enum | [`carry_rejected!`](crate::carry_rejected) in one line, or two short functions |
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

/// A ready-made error type: a rejection, or the error of the service.
///
/// `E` must implement [`std::error::Error`]. Do not wrap a boxed error: `Error<BoxError>` cannot
/// carry rejections, and a boxed error carries them without a wrapper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// A layer rejected the call, or gave up waiting for the service.
    Rejected(Rejected),
    /// The service failed.
    Inner(E),
}

impl<E> Error<E> {
    /// Returns the service's error if this is one.
    #[must_use]
    pub const fn inner(&self) -> Option<&E> {
        match self {
            Self::Rejected(_) => None,
            Self::Inner(inner) => Some(inner),
        }
    }
}

impl<E: StdError> Error<E> {
    /// Returns the rejection if this error is one, or if the inner error has one in its chain of
    /// sources (a nested `Error`, for example).
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
