use std::error::Error as StdError;
use std::io;

use crate::error::{CarryRejected, chain};

/// Recognises errors which say that a request was not processed.
///
/// Implemented for every closure from a reference to an error to `bool`.
pub trait Unprocessed<E> {
    /// Returns `true` if the request was certainly not processed.
    fn is_unprocessed(&self, error: &E) -> bool;
}

impl<F: Fn(&E) -> bool, E> Unprocessed<E> for F {
    fn is_unprocessed(&self, error: &E) -> bool {
        self(error)
    }
}

/// Searches the chain of an error for one that [`is_unprocessed`] accepts.
///
/// The search starts at the error's [`as_cause`](CarryRejected::as_cause). For `std::io::Error` and
/// `anyhow::Error` that is the error itself. For a boxed error and for [`Error`](crate::Error) it
/// is the source, which the errors of hyper, hyper-util and reqwest have. Your own enum must
/// implement `as_cause`; otherwise pass a closure to
/// [`Http::unprocessed`](super::Http::unprocessed), as shown [here](super#errors-of-clients).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceChain;

// Through a method of the error, because a downcast needs `'static`, which the compiler cannot
// prove for a boxed error within an `async` block that has to be `Send`.
impl<E: CarryRejected> Unprocessed<E> for SourceChain {
    fn is_unprocessed(&self, error: &E) -> bool {
        error.as_cause().is_some_and(is_unprocessed)
    }
}

/// Returns `true` if `error`, or an error in its chain of sources, says that the request was not
/// processed. That is the case if the connection was refused and, with the feature `http2`, if the
/// server refused the stream or was going away.
#[must_use]
pub fn is_unprocessed(error: &(dyn StdError + 'static)) -> bool {
    chain(Some(error))
        .any(|error| error.downcast_ref().is_some_and(no_connection) || is_refused_stream(error))
}

/// Returns `true` for errors that only `connect` returns. An unreachable host or network does not
/// count: a connection in use ends with the same error if a router reports it while the response is
/// pending.
fn no_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable)
}

/// Returns `true` if the server says that it did not process an HTTP/2 stream (RFC 9113, sections
/// 6.8 and 8.7).
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
