//! What a layer answers when it refuses a call.
//!
//! No layer changes the error type of the service it wraps: it asks that the type can hold a [`Rejected`],
//! `S::Error: From<Rejected>`. `Box<dyn Error + Send + Sync>` and `anyhow::Error` can already, an own enum
//! writes one `From`, and [`Error<E>`] is ready made for everything else. Choose once, below the layers:
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

use std::any::Any;
use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::clock::Rounded;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The circuit is open, or half-open with every probe slot taken.
    CircuitOpen,
    /// The circuit is recovering and this call was not in the share that is let through yet.
    Recovering,
}

impl Reason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::CircuitOpen, Self::Recovering];

    /// A stable name for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CircuitOpen => "circuit_open",
            Self::Recovering => "recovering",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CircuitOpen => "circuit is open",
            Self::Recovering => "circuit is recovering",
        })
    }
}

/// A call refused by a layer of this crate, before it reached the service.
///
/// Small, cloneable and made without allocating.
#[derive(Clone, PartialEq, Eq)]
pub struct Rejected {
    reason: Reason,
    policy: &'static str,
    /// In nanoseconds; [`UNKNOWN`](Self::UNKNOWN). A `Duration` would make of its niche the tag of each `Result` around
    /// it, and copying that is slow.
    wait: u64,
}

impl Rejected {
    const UNKNOWN: u64 = u64::MAX;

    /// A refusal after which to wait for `wait` nanoseconds, if that is known.
    #[inline]
    pub(crate) fn new(reason: Reason, policy: &'static str, wait: Option<u64>) -> Self {
        Self { reason, policy, wait: wait.unwrap_or(Self::UNKNOWN) }
    }

    /// Why the call was refused.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The name of the layer that refused it.
    #[must_use]
    pub const fn policy(&self) -> &'static str {
        self.policy
    }

    /// How long to wait before another call may be let through. `None` if that is not known, as in a circuit
    /// an operator holds open.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.wait {
            Self::UNKNOWN => None,
            wait => Some(Duration::from_nanos(wait)),
        }
    }

    /// Whether the service may have seen the call. `false`: it was surely not executed, and repeating it is
    /// safe even if it is not idempotent.
    #[must_use]
    pub const fn reached_service(&self) -> bool {
        match self.reason {
            Reason::CircuitOpen | Reason::Recovering => false,
        }
    }

    /// The rejection in `error` itself or in its chain of sources.
    ///
    /// ```
    /// use stanchion::Rejected;
    ///
    /// let error = std::io::Error::other("connection reset");
    /// assert!(Rejected::find(&error).is_none());
    /// ```
    #[must_use]
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(rejected) = error.downcast_ref() {
                return Some(rejected);
            }
            next = error.source();
        }
        None
    }

    /// Turns the refusal into the caller's error, and marks the moment: see [`Mark`].
    #[inline]
    pub(crate) fn deliver<E: From<Self>>(self) -> E {
        Mark::refused();
        E::from(self)
    }
}

thread_local! {
    static LAST: Cell<Mark> = const { Cell::new(Mark { errors: 0, was_refusal: false }) };
}

/// The last error that a layer of this crate has handed out on this thread.
///
/// A layer that sees an error must know whether it is a refusal by a layer further in, which is no failure of
/// the service. It knows nothing of the error's type but that it can hold one. So it looks at the mark before
/// and after it polls the service: where the last error in between was a refusal, the error is that one, also
/// if it is held back for some polls. What happened in another task is not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    errors: u32,
    was_refusal: bool,
}

#[inline]
pub(crate) fn mark() -> Mark {
    LAST.try_with(Cell::get).unwrap_or(Mark { errors: 0, was_refusal: false })
}

impl Mark {
    /// A refusal is handed out.
    pub(crate) fn refused() {
        Self::set(true);
    }

    /// An error that is no refusal is handed out.
    pub(crate) fn failed() {
        Self::set(false);
    }

    fn set(was_refusal: bool) {
        let _ = LAST.try_with(|last| {
            last.set(Self { errors: last.get().errors.wrapping_add(1), was_refusal });
        });
    }

    /// Whether the last error since this mark is a refusal; `before` if there was none.
    #[inline]
    pub(crate) fn is_refusal_since_or(self, before: bool) -> bool {
        let now = mark();
        if now.errors == self.errors { before } else { now.was_refusal }
    }

    pub(crate) fn is_refusal_since(self) -> bool {
        self.is_refusal_since_or(false)
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("reason", &self.reason)
            .field("policy", &self.policy)
            .field("retry_after", &self.retry_after())
            .finish()
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rejected by {}: {}", self.policy, self.reason)?;
        match self.retry_after() {
            Some(wait) => write!(f, ", retry after {}", Rounded(wait)),
            None => Ok(()),
        }
    }
}

impl StdError for Rejected {}

/// A ready-made error type: a refusal, or the error of the service below.
///
/// It is a [`std::error::Error`] for every printable `E`, also for a boxed error, which is not one itself.
/// A boxed inner error is its [`source`](StdError::source), with everything below it. The compiler cannot tell
/// here whether another `E` is an error, so that one is reached by [`inner`](Self::inner), and
/// [`boxed`](Self::boxed) turns it into an error whose chain of sources is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// A layer refused the call.
    Rejected(Rejected),
    /// The service failed.
    Inner(E),
}

impl<E> Error<E> {
    /// The refusal, if it is one.
    #[must_use]
    pub const fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Inner(_) => None,
        }
    }

    /// The service's own error, if it is one.
    #[must_use]
    pub const fn inner(&self) -> Option<&E> {
        match self {
            Self::Rejected(_) => None,
            Self::Inner(inner) => Some(inner),
        }
    }

    /// The same error with the inner one boxed, so that [`source`](StdError::source) leads to it.
    #[must_use]
    pub fn boxed(self) -> Error<BoxError>
    where
        E: Into<BoxError>,
    {
        match self {
            Self::Rejected(rejected) => Error::Rejected(rejected),
            Self::Inner(inner) => Error::Inner(inner.into()),
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

impl<E: fmt::Debug + fmt::Display + 'static> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            // The bound that would name `E`'s source excludes boxed errors, which are the common case; a
            // look at the type at run time serves both.
            Self::Inner(inner) => {
                let inner: &dyn Any = inner;
                inner
                    .downcast_ref::<BoxError>()
                    .map(|boxed| &**boxed as &(dyn StdError + 'static))
                    .or_else(|| inner.downcast_ref::<std::io::Error>().map(|io| io as _))
            }
        }
    }
}
