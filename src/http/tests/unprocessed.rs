use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind};

use http::Response;

use super::HTTP;
use crate::classify::{Classify, Retryable};
use crate::error::{Error, Reason, Rejected};
use crate::http::{Http, SourceChain, Unprocessed, is_unprocessed};

type BoxError = Box<dyn StdError + Send + Sync>;

/// An error of a client, with another one below it.
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

/// An error of `kind` some way down a chain.
fn deep(kind: ErrorKind) -> BoxError {
    Box::new(Wrapped(Box::new(Wrapped(Box::new(io(kind))))))
}

fn retryable<F: Unprocessed<E>, E>(http: &Http<F>, error: &E) -> Retryable {
    Classify::<Response<()>, E>::classify(http, Err(error)).retryable
}

#[test]
fn what_only_connecting_ends_in_was_not_processed() {
    for kind in [ErrorKind::ConnectionRefused, ErrorKind::AddrNotAvailable] {
        assert!(is_unprocessed(&io(kind)), "{kind:?}");
        assert!(is_unprocessed(&*deep(kind)), "{kind:?}");
    }
}

/// Routers say of a host that it cannot be reached also when a request has long been there, and a client that waits
/// for an answer is told so when its system gives up: seen with two networks and a route that was taken away.
#[test]
fn what_a_connection_in_use_may_end_in_says_nothing() {
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
fn a_chain_is_looked_through_in_each_type_that_is_known() {
    let refused = || io(ErrorKind::ConnectionRefused);
    let boxed = || deep(ErrorKind::ConnectionRefused);
    assert_eq!(retryable(&HTTP, &refused()), Retryable::Always);
    assert_eq!(retryable(&HTTP, &boxed()), Retryable::Always);
    assert_eq!(retryable(&HTTP, &BoxError::from(Error::Inner(Wrapped(boxed())))), Retryable::Always);
    assert_eq!(retryable(&HTTP, &Error::Inner(Wrapped(boxed()))), Retryable::Always);
    // Of one that says no cause nothing is known.
    assert_eq!(retryable(&HTTP, &Own::Refused(refused())), Retryable::IfIdempotent);
}

enum Own {
    Rejected(Rejected),
    Refused(#[allow(dead_code, reason = "nobody asks for it")] io::Error),
}

crate::carry_rejected!(Own, Rejected);

#[test]
fn a_refusal_is_no_word_of_the_server() {
    let refused = || Rejected::new(Reason::CircuitOpen, "orders");
    assert!(!SourceChain.is_unprocessed(&Error::<io::Error>::Rejected(refused())));
    assert!(!SourceChain.is_unprocessed(&BoxError::from(refused())));
}

#[test]
fn a_closure_tells_of_errors_of_any_type() {
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

    /// Such an error is what a request's own body may end in.
    #[test]
    fn a_reason_that_no_server_gave_is_not_its_word() {
        for reason in [Reason::REFUSED_STREAM, Reason::NO_ERROR, Reason::CANCEL] {
            assert!(!is_unprocessed(&h2::Error::from(reason)), "{reason:?}");
        }
    }
}

#[test]
fn what_an_error_of_io_and_every_box_hold_is_looked_at() {
    let refused = || io(ErrorKind::ConnectionRefused);
    assert!(is_unprocessed(&io::Error::other(refused())));
    let sent: Box<dyn StdError + Send> = Box::new(Wrapped(Box::new(refused())));
    assert_eq!(retryable(&HTTP, &sent), Retryable::Always);
    let plain: Box<dyn StdError> = Box::new(Wrapped(Box::new(refused())));
    assert_eq!(retryable(&HTTP, &plain), Retryable::Always);
    #[cfg(feature = "anyhow")]
    assert_eq!(retryable(&HTTP, &anyhow::Error::from(refused())), Retryable::Always);
}
