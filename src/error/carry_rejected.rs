use std::error::Error as StdError;
use std::io;

use super::{Error, Rejected};

/// An error type that can be created from a [`Rejected`], and that returns the rejection when
/// asked.
///
/// A layer that rejects calls requires this trait of its service's error type. Outer layers use it
/// to tell a rejection from a failure of the service.
///
/// Implement it for your own error type in one line with
/// [`carry_rejected!`](crate::carry_rejected), or by hand:
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
/// If such an error is boxed, wrapped in an [`Error`](enum@crate::Error) or the source of another
/// error, layers find the rejection through [`source`](StdError::source). Return the [`Rejected`]
/// there, as `thiserror` does for `#[from]` and `#[source]`.
///
/// The implementations in this crate search the chain of sources. An error with a rejection
/// anywhere in its chain therefore counts as that rejection: no breaker counts it, and no retry
/// repeats it. If a service makes calls of its own, handles the rejection of one of them, and later
/// fails for another reason, leave the rejection out of the chain.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry a rejection",
    label = "layers must be able to tell whether this error is a rejection",
    note = "for an `E` that implements `std::error::Error`, choose `stanchion::Error<E>` below the layers: `.map_err(stanchion::Error::Inner)`",
    note = "boxed errors, `std::io::Error` and `Rejected` implement it, and `anyhow::Error` and `tonic::Status` with the features `anyhow` and `grpc`: do not wrap them in `stanchion::Error`",
    note = "a `HedgeLayer` or a `FallbackLayer` does not need it with `.classify_opaque(..)`",
    note = "or implement it for your own enum with a variant that holds the rejection: `stanchion::carry_rejected!(YourError, Rejected);`"
)]
pub trait CarryRejected: Sized {
    /// Creates an error from a rejection.
    fn from_rejected(rejected: Rejected) -> Self;

    /// Returns the rejection if this error is one.
    fn rejected(&self) -> Option<Rejected>;

    /// Returns the first error of the chain that is `'static`: this error or its
    /// [source](StdError::source).
    ///
    /// [`Http`](crate::http::Http) searches the chain from there for an error which says that the
    /// request was not processed. Default: `None`, so nothing is known about the cause.
    #[inline]
    fn as_cause(&self) -> Option<&(dyn StdError + 'static)> {
        None
    }
}

/// Implements [`CarryRejected`](crate::CarryRejected) for an enum with a variant that holds a
/// [`Rejected`](crate::Rejected): `carry_rejected!(Enum, Variant);`.
///
/// If the enum is an [`Error`](std::error::Error), return the rejection as its `source` as well:
/// once the enum is boxed, layers find the rejection only there. The variant must be a tuple of
/// that one field, and the enum must have no generic parameters. For other enums, write the two
/// functions by hand.
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
            // `E` may borrow, so it cannot be downcast. Its source is `'static`.
            Self::Inner(error) => error.source(),
        }
    }
}

/// The error type of a service that cannot fail by itself.
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
        /// Finds the rejection in the chain of sources, even behind tower's `Buffer` and across
        /// spawned tasks. Creating an error from a rejection allocates the box.
        // Implemented for every lifetime: the compiler erases lifetimes inside an `async` block,
        // and could not prove such a block `Send` if the implementation required `'static`.
        impl<'a> CarryRejected for $boxed {
            fn from_rejected(rejected: Rejected) -> Self {
                Box::new(rejected)
            }

            fn rejected(&self) -> Option<Rejected> {
                // The boxed error may not be `'static`, so it cannot be downcast. Its source can.
                Rejected::find_in((**self).source())
            }

            fn as_cause(&self) -> Option<&(dyn StdError + 'static)> {
                (**self).source()
            }
        }
    )*};
}

carry_in_boxes!(Box<dyn StdError + Send + Sync + 'a>, Box<dyn StdError + Send + 'a>, Box<dyn StdError + 'a>);

/// Maps a timeout to the kind [`TimedOut`](io::ErrorKind::TimedOut) and every other rejection to
/// [`Other`](io::ErrorKind::Other). Creating an error from a rejection allocates.
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

/// Finds the rejection in the chain of sources. Creating an error from a rejection allocates.
#[cfg(feature = "anyhow")]
impl CarryRejected for anyhow::Error {
    fn from_rejected(rejected: Rejected) -> Self {
        Self::new(rejected)
    }

    fn rejected(&self) -> Option<Rejected> {
        // `downcast_ref` sees through a context that was added to the rejection. The chain holds
        // rejections that are further down.
        self.downcast_ref().copied().or_else(|| Rejected::find(self.as_ref()))
    }

    fn as_cause(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.as_ref())
    }
}
