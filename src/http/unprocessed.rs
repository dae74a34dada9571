use std::error::Error as StdError;
use std::io;

use crate::error::{CarryRejected, chain};

/// Tells the errors that say a request was not processed.
///
/// Implemented by every closure that looks at an error.
pub trait Unprocessed<E> {
    /// Whether the request was surely not processed.
    fn is_unprocessed(&self, error: &E) -> bool;
}

impl<F: Fn(&E) -> bool, E> Unprocessed<E> for F {
    fn is_unprocessed(&self, error: &E) -> bool {
        self(error)
    }
}

/// Looks for what [`is_unprocessed`] knows in the chain of an error, from [its cause](CarryRejected::as_cause) on: from an error of
/// `std::io` and an `anyhow::Error` itself, and from the source of what is in a box or in an [`Error`](crate::Error), as
/// those of hyper, hyper-util and reqwest have. Of an enum of your own it can tell nothing unless `as_cause` does: or give
/// [`Http::unprocessed`](super::Http::unprocessed) a closure, as [there](super#errors-of-clients).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceChain;

// By a method of the error and not by its type: a look at the type needs `'static`, which the compiler cannot
// prove of a box within an `async` block that has to be `Send`.
impl<E: CarryRejected> Unprocessed<E> for SourceChain {
    fn is_unprocessed(&self, error: &E) -> bool {
        error.as_cause().is_some_and(is_unprocessed)
    }
}

/// Whether `error`, or one in its chain of sources, says that the request never got to be processed: the connection was
/// refused, and with the feature `http2` that the server refused the stream or was going away.
#[must_use]
pub fn is_unprocessed(error: &(dyn StdError + 'static)) -> bool {
    chain(Some(error))
        .any(|error| error.downcast_ref().is_some_and(no_connection) || is_refused_stream(error))
}

/// Whether it is an error that only connecting ends in. That a host or a network cannot be reached is none: so ends a
/// connection in use as well, when a router said so while an answer was waited for.
fn no_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable)
}

/// Whether the server says of an HTTP/2 stream that it was not processed (RFC 9113, sections 6.8 and 8.7).
#[cfg(feature = "http2")]
fn is_refused_stream(error: &(dyn StdError + 'static)) -> bool {
    error.downcast_ref::<h2::Error>().filter(|error| error.is_remote()).is_some_and(|error| {
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        let is_going_away = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        is_refused || is_going_away
    })
}

#[cfg(not(feature = "http2"))]
const fn is_refused_stream(_: &(dyn StdError + 'static)) -> bool {
    false
}
