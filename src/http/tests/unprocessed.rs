use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind};

use http::Response;

use super::HTTP;
use crate::classify::{Classify, Retryable};
use crate::error::{Error, Reason, Rejected};
use crate::http::{Http, SourceChain, Unprocessed, is_unprocessed};

type BoxError = Box<dyn StdError + Send + Sync>;

/// An error of a client with another error as its source.
#[derive(Debug)]
struct Wrapped(BoxError);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error of a client")
    }
}

impl StdError for Wrapped {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

fn io(kind: ErrorKind) -> io::Error {
    kind.into()
}

/// Returns an error with a source of `kind` further down its chain.
fn deep(kind: ErrorKind) -> BoxError {
    Box::new(Wrapped(Box::new(Wrapped(Box::new(io(kind))))))
}

fn retryable<F: Unprocessed<E>, E>(http: &Http<F>, error: &E) -> Retryable {
    Classify::<Response<()>, E>::classify(http, Err(error)).retryable
}

#[test]
fn errors_of_connect_mean_not_processed() {
    for kind in [ErrorKind::ConnectionRefused, ErrorKind::AddrNotAvailable] {
        assert!(is_unprocessed(&io(kind)), "{kind:?}");
        assert!(is_unprocessed(&*deep(kind)), "{kind:?}");
    }
}

/// Routers may report an unreachable host long after the request has arrived, and the client that
/// waits for the response then sees that error. Observed with two networks and a route that was
/// removed.
#[test]
fn errors_of_open_connections_mean_nothing() {
    for kind in [
        ErrorKind::HostUnreachable,
        ErrorKind::NetworkUnreachable,
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionAborted,
        ErrorKind::BrokenPipe,
        ErrorKind::TimedOut,
        ErrorKind::UnexpectedEof,
        ErrorKind::NotConnected,
        ErrorKind::Other,
    ] {
        assert!(!is_unprocessed(&io(kind)), "{kind:?}");
        assert!(!is_unprocessed(&*deep(kind)), "{kind:?}");
    }
}

#[test]
fn the_chain_is_searched_in_every_known_error_type() {
    let refused = || io(ErrorKind::ConnectionRefused);
    let boxed = || deep(ErrorKind::ConnectionRefused);
    assert_eq!(retryable(&HTTP, &refused()), Retryable::Always);
    assert_eq!(retryable(&HTTP, &boxed()), Retryable::Always);
    assert_eq!(retryable(&HTTP, &BoxError::from(Error::Inner(Wrapped(boxed())))), Retryable::Always);
    assert_eq!(retryable(&HTTP, &Error::Inner(Wrapped(boxed()))), Retryable::Always);
    // The cause of this error is unknown, since it does not return one.
    assert_eq!(retryable(&HTTP, &Own::Refused(refused())), Retryable::IfIdempotent);
}

enum Own {
    Rejected(Rejected),
    Refused(#[allow(dead_code, reason = "nobody asks for it")] io::Error),
}

crate::carry_rejected!(Own, Rejected);

#[test]
fn a_rejection_is_not_from_the_server() {
    let refused = || Rejected::new(Reason::CircuitOpen, "orders");
    assert!(!SourceChain.is_unprocessed(&Error::<io::Error>::Rejected(refused())));
    assert!(!SourceChain.is_unprocessed(&BoxError::from(refused())));
}

#[test]
fn a_closure_recognises_errors_of_any_type() {
    let http =
        HTTP.unprocessed(|error: &Error<Wrapped>| error.inner().is_some_and(|error| is_unprocessed(error)));
    assert_eq!(
        retryable(&http, &Error::Inner(Wrapped(deep(ErrorKind::ConnectionRefused)))),
        Retryable::Always
    );
    assert_eq!(
        retryable(&http, &Error::Inner(Wrapped(deep(ErrorKind::BrokenPipe)))),
        Retryable::IfIdempotent
    );
    assert_eq!(http.max_replayed(7).max_replayed, 7);
    assert_eq!(HTTP.max_replayed(7).unprocessed(http.unprocessed).max_replayed, 7);
}

#[cfg(feature = "http2")]
mod http2 {
    use h2::Reason;

    use super::*;

    /// The body of a request may end in such an error.
    #[test]
    fn a_local_h2_error_is_not_from_the_server() {
        for reason in [Reason::REFUSED_STREAM, Reason::NO_ERROR, Reason::CANCEL] {
            assert!(!is_unprocessed(&h2::Error::from(reason)), "{reason:?}");
        }
    }
}

#[test]
fn io_errors_and_boxes_are_searched() {
    let refused = || io(ErrorKind::ConnectionRefused);
    assert!(is_unprocessed(&io::Error::other(refused())));
    let sent: Box<dyn StdError + Send> = Box::new(Wrapped(Box::new(refused())));
    assert_eq!(retryable(&HTTP, &sent), Retryable::Always);
    let plain: Box<dyn StdError> = Box::new(Wrapped(Box::new(refused())));
    assert_eq!(retryable(&HTTP, &plain), Retryable::Always);
    #[cfg(feature = "anyhow")]
    assert_eq!(retryable(&HTTP, &anyhow::Error::from(refused())), Retryable::Always);
}
