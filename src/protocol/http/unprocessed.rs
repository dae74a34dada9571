use std::any::Any;
use std::error::Error as StdError;
use std::io;

use crate::error::{Error, chain};

type BoxError = Box<dyn StdError + Send + Sync>;

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

/// Looks for what [`is_unprocessed`] knows, in boxed errors, `anyhow::Error` and those of `std::io`, also in an [`Error`]. Of another type it
/// can tell nothing: give [`Http::unprocessed`](super::Http::unprocessed) a closure, as [there](super#errors-of-clients).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByChain;

impl<E: 'static> Unprocessed<E> for ByChain {
    fn is_unprocessed(&self, error: &E) -> bool {
        let error: &dyn Any = error;
        if let Some(boxed) = error.downcast_ref::<BoxError>() {
            return is_unprocessed(&**boxed);
        }
        if let Some(boxed) = error.downcast_ref::<Box<dyn StdError + Send>>() {
            return is_unprocessed(&**boxed);
        }
        if let Some(boxed) = error.downcast_ref::<Box<dyn StdError>>() {
            return is_unprocessed(&**boxed);
        }
        #[cfg(feature = "anyhow")]
        if let Some(error) = error.downcast_ref::<anyhow::Error>() {
            return is_unprocessed(error.as_ref());
        }
        let io = error.downcast_ref::<io::Error>().or_else(|| match error.downcast_ref() {
            Some(Error::<io::Error>::Inner(io)) => Some(io),
            _ => None,
        });
        io.is_some_and(|io| is_unprocessed(io))
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
