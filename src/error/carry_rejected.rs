use std::error::Error as StdError;
use std::io;

use super::{Error, Rejected};

/// An error type that can be made from a [`Rejected`], and returns it when asked.
///
/// Layers that can reject a call ask for it, and layers around them ask the error what it is.
///
/// Implement it for an error type of your own in one line with [`carry_rejected!`](crate::carry_rejected), or by hand:
///
/// ```
/// use stanchion::{CarryRejected, Rejected};
///
/// enum PaymentError {
///     Declined,
///     Rejected(Rejected),
/// }
///
/// impl CarryRejected for PaymentError {
///     fn from_rejected(rejected: Rejected) -> Self {
///         Self::Rejected(rejected)
///     }
///
///     fn rejected(&self) -> Option<Rejected> {
///         match self {
///             Self::Rejected(rejected) => Some(*rejected),
///             Self::Declined => None,
///         }
///     }
/// }
/// ```
///
/// In a box, in an [`Error`](enum@crate::Error) or behind another type, such an error is known as a rejection by its
/// [`source`](StdError::source): return the [`Rejected`] there, as `thiserror` does for `#[from]` and `#[source]`.
///
/// The ready-made implementations search the chain of sources, so an error that has a rejection anywhere in its chain counts as
/// that rejection: no breaker counts it, and no retry repeats it. If a service makes calls of its own, goes on after one was
/// rejected and then fails for another reason, leave the rejection out of the chain.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry a rejection",
    label = "layers need to ask this error whether it is a rejection",
    note = "for an `E` that implements `std::error::Error`, choose `stanchion::Error<E>` below the layers: `.map_err(stanchion::Error::Inner)`",
    note = "boxed errors, `std::io::Error` and `Rejected` implement it, and `anyhow::Error` and `tonic::Status` with the features `anyhow` and `grpc`: do not wrap them in `stanchion::Error`",
    note = "a `HedgeLayer` or a `FallbackLayer` can do without: `.classify_opaque(..)`",
    note = "or implement it for an enum of your own that has a variant for it: `stanchion::carry_rejected!(YourError, Rejected);`"
)]
pub trait CarryRejected: Sized {
    /// Makes an error from a rejection.
    fn from_rejected(rejected: Rejected) -> Self;

    /// Returns the rejection, if this error is one.
    fn rejected(&self) -> Option<Rejected>;

    /// Returns the first error of the chain that can be looked at: this one or its [source](StdError::source).
    ///
    /// [`Http`](crate::http::Http) looks there for what says that a request was not processed. `None` by default,
    /// which means that nothing is known.
    #[inline]
    fn as_cause(&self) -> Option<&(dyn StdError + 'static)> {
        None
    }
}

/// Implements [`CarryRejected`](crate::CarryRejected) for an enum with a variant that holds a
/// [`Rejected`](crate::Rejected): `carry_rejected!(Enum, Variant);`.
///
/// If the enum is an [`Error`](std::error::Error), return the rejection as its `source` as well: in a box it is known by
/// that alone. The variant is a tuple of that one field, and the enum has no parameters; for others write the two functions.
///
/// ```
/// use stanchion::{CarryRejected, Reason, Rejected};
///
/// enum PaymentError {
///     Declined,
///     Rejected(Rejected),
/// }
///
/// stanchion::carry_rejected!(PaymentError, Rejected);
///
/// let error = PaymentError::from_rejected(Rejected::new(Reason::CircuitOpen, "payments"));
/// assert_eq!(error.rejected().unwrap().reason(), Reason::CircuitOpen);
/// assert!(PaymentError::Declined.rejected().is_none());
/// ```
#[macro_export]
macro_rules! carry_rejected {
    ($error:ty, $variant:ident) => {
        impl $crate::error::CarryRejected for $error {
            #[inline]
            fn from_rejected(rejected: $crate::error::Rejected) -> Self {
                Self::$variant(rejected)
            }

            #[inline]
            fn rejected(&self) -> ::core::option::Option<$crate::error::Rejected> {
                match self {
                    Self::$variant(rejected) => ::core::option::Option::Some(*rejected),
                    #[allow(unreachable_patterns, reason = "the enum may have no other variant")]
                    _ => ::core::option::Option::None,
                }
            }
        }
    };
}

impl<E: StdError> CarryRejected for Error<E> {
    #[inline]
    fn from_rejected(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }

    #[inline]
    fn rejected(&self) -> Option<Rejected> {
        Self::rejected(self)
    }

    fn as_cause(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected(_) => None,
            // An error that may borrow cannot be looked at.
            Self::Inner(error) => error.source(),
        }
    }
}

/// For a service that cannot fail by itself.
impl CarryRejected for Rejected {
    #[inline]
    fn from_rejected(rejected: Rejected) -> Self {
        rejected
    }

    #[inline]
    fn rejected(&self) -> Option<Rejected> {
        Some(*self)
    }
}

macro_rules! carry_in_boxes {
    ($($boxed:ty),*) => {$(
        /// Finds the rejection in the chain of sources, so also behind tower's `Buffer` and after a spawned task. Making
        /// an error from one allocates the box.
        // For every lifetime, since the compiler forgets which one it is within an `async` block that has to be `Send`.
        impl<'a> CarryRejected for $boxed {
            fn from_rejected(rejected: Rejected) -> Self {
                Box::new(rejected)
            }

            fn rejected(&self) -> Option<Rejected> {
                // What is on top cannot be looked at in this lifetime; a rejection is known by its source.
                Rejected::find_in((**self).source())
            }

            fn as_cause(&self) -> Option<&(dyn StdError + 'static)> {
                (**self).source()
            }
        }
    )*};
}

carry_in_boxes!(Box<dyn StdError + Send + Sync + 'a>, Box<dyn StdError + Send + 'a>, Box<dyn StdError + 'a>);

/// A timeout is of the kind [`TimedOut`](io::ErrorKind::TimedOut), every other rejection of the kind
/// [`Other`](io::ErrorKind::Other). Making an error from one allocates.
impl CarryRejected for io::Error {
    fn from_rejected(rejected: Rejected) -> Self {
        let kind =
            if rejected.reason().is_timeout() { io::ErrorKind::TimedOut } else { io::ErrorKind::Other };
        Self::new(kind, rejected)
    }

    fn rejected(&self) -> Option<Rejected> {
        Rejected::find(self.get_ref()?)
    }

    fn as_cause(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }
}

/// Finds the rejection in the chain of sources. Making an error from one allocates.
#[cfg(feature = "anyhow")]
impl CarryRejected for anyhow::Error {
    fn from_rejected(rejected: Rejected) -> Self {
        Self::new(rejected)
    }

    fn rejected(&self) -> Option<Rejected> {
        // `anyhow` itself finds what was given a context; the chain has what lies deeper.
        self.downcast_ref().copied().or_else(|| Rejected::find(self.as_ref()))
    }

    fn as_cause(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.as_ref())
    }
}
