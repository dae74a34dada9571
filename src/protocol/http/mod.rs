//! HTTP, and gRPC over it: which requests may be repeated and how, and the outcomes of calls.
//!
//! [`Http`] is given to a layer with `protocol`:
//!
//! ```
//! use stanchion::protocol::http::Http;
//! use stanchion::{RetryConfig, RetryLayer};
//!
//! let layer = RetryLayer::new(RetryConfig::new()).protocol(Http::new());
//! # let _ = layer;
//! ```
//!
//! # Requests
//!
//! | in the request's extensions | says |
//! |---|---|
//! | [`Deadline`] | by when an answer is wanted; without it, so does the header `grpc-timeout` |
//! | [`Timeouts`] | timeouts for this request, in place of those that are configured |
//! | [`Idempotent`] | whether executing it twice does no harm |
//! | [`Attempt`] | which attempt it is; written by the layers that make several |
//! | [`Criticality`](crate::protocol::Criticality) | how much it matters that it is served |
//! | [`Tenant`](crate::protocol::Tenant) | on whose behalf it is made |
//! | [`Partition`](crate::protocol::Partition) | which part of a limit it is for |
//!
//! Without [`Idempotent`] the methods GET, HEAD, OPTIONS, TRACE, PUT and DELETE are idempotent (RFC 9110, section
//! 9.2.2), and every request with an `Idempotency-Key`. That key stays the same over all attempts.
//!
//! A body is sent again by means of a [`ReplayBody`], within a cap: see there. The service inside is called with
//! `http::Request<ReplayBody<B>>`. What an attempt is still sending when it fails is not sent again.
//!
//! For requests of gRPC (by their `content-type`) the time that is left is written to `grpc-timeout`, and the number
//! of attempts before to `grpc-previous-rpc-attempts`.
//!
//! # Outcomes
//!
//! | end of the call | class | tried again | overload |
//! |---|---|---|---|
//! | 408, 429 | success, of 429 [configurable](Http::too_many_requests) | if idempotent; not before `Retry-After` | yes |
//! | 425 | success | the same | no |
//! | 502, 503, 504 | failure, of 503 [configurable](Http::service_unavailable) | the same | yes |
//! | 500 | failure | the same | no |
//! | another 5xx | failure | no | no |
//! | any other status | success | | |
//! | `grpc-status` in the headers: 8, 14 | failure | if idempotent; as `grpc-retry-pushback-ms` has it | yes |
//! | 4 | failure | no, unless pushback asks for it | yes |
//! | 2, 10, 12, 13, 15, or none that is known | failure | the same | no |
//! | any other `grpc-status` | success: the call was wrong | | |
//! | an error | failure | if idempotent | yes |
//! | an error that says it was [not processed](is_unprocessed) | failure | once, whatever the request | yes |
//!
//! A 429 is an answer of a service that works: no failure for a breaker. The caller has not got what it asked for: a retry tries
//! again, a fallback takes its place, a throttle sends less, and an adaptive limit falls.
//!
//! A gRPC status in the trailers is not read. A body that breaks is a failure, also if a deadline ended it.
//!
//! In a circuit breaker and an adaptive limit a call goes on until the body of a good response has ended, as a
//! [`GuardedBody`]: one that breaks or is cut off is a failure when that happens, and one that is dropped half-read was
//! cancelled. All other outcomes are there with the headers.
//!
//! # Errors of clients
//!
//! That an error says so is found in [its chain](ByChain), under an [`Error`](crate::Error) or in a box. What a client's type
//! alone tells, or an enum of your own, takes a closure:
//!
//! ```
//! use hyper_util::client::legacy;
//! use stanchion::Error;
//! use stanchion::protocol::http::{Http, is_unprocessed};
//! use tower::BoxError;
//!
//! // hyper-util, typed. `is_connect` also knows hosts that cannot be reached, and names that are not found.
//! let typed = Http::new().unprocessed(|error: &Error<legacy::Error>| {
//!     error.inner().is_some_and(|error| error.is_connect() || is_unprocessed(error))
//! });
//! // reqwest, typed.
//! let of_reqwest = Http::new().unprocessed(|error: &Error<reqwest::Error>| {
//!     error.inner().is_some_and(|error| error.is_connect() || is_unprocessed(error))
//! });
//! // Any client under `.map_err(BoxError::from)`.
//! let boxed = Http::new();
//! // Such a client, with what only its own type tells.
//! let both = Http::new().unprocessed(|error: &BoxError| {
//!     is_unprocessed(&**error) || error.downcast_ref().is_some_and(legacy::Error::is_connect)
//! });
//! # let _ = (typed, of_reqwest, boxed, both);
//! ```
//!
//! What is looked at is one client's error, also in a box around [`Error`](crate::Error). If the service makes several calls
//! internally, one failed connection does not mean that nothing was executed: `.unprocessed(|_: &BoxError| false)`.
//!
//! Services with boxed errors that go by this protocol cannot be called within an `async` block that has to be `Send`, as
//! in `tokio::spawn(async move { service.oneshot(request).await })`: the compiler takes an implementation for "not general
//! enough". Put the service into a box (`tower::util::BoxCloneSyncService`), or let the error keep its type.
//!
//! reqwest by itself repeats what an HTTP/2 server has refused. Switch that off (`reqwest::retry::never()`) where a layer
//! repeats, or attempts multiply.

mod answer;
mod guarded_body;
mod timed_body;
mod unprocessed;

pub use guarded_body::GuardedBody;
pub use timed_body::TimedBody;
pub use unprocessed::{ByChain, Unprocessed, is_unprocessed};

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body::Body;

use super::{Attempt, Carry, Claim, Claims, Replay, Timeouts};
use crate::classify::Class;
use crate::deadline::Deadline;
use crate::headers::{grpc_timeout, write_grpc_timeout};
use crate::replay_body::{self, ReplayBody, Replayable};

/// The protocol of requests of the `http` crate: see the [module](self).
///
/// `F` tells the errors that say a request was not processed: [`Unprocessed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http<F = ByChain> {
    max_replayed: usize,
    too_many_requests: Class,
    service_unavailable: Class,
    unprocessed: F,
}

/// Whether executing a request twice does no harm, whatever its method. Put it into the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Idempotent(pub bool);

impl Http {
    /// Bodies of up to 64 KiB are sent again, and errors are classified by [their chain](ByChain).
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_replayed: 64 * 1024,
            too_many_requests: Class::Success,
            service_unavailable: Class::Failure,
            unprocessed: ByChain,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> Http<F> {
    /// Sets how many bytes of a body are kept to be sent again; of a request with more, none are kept, and it is not
    /// repeated. Each request under way may take as much memory. Default: 65,536.
    #[must_use]
    pub fn max_replayed(self, bytes: usize) -> Self {
        Self { max_replayed: bytes, ..self }
    }

    /// Sets what a 429 says about the service. Default: success, it works and only this caller is too eager. It is an
    /// overload, and may be tried again, in any case.
    #[must_use]
    pub fn too_many_requests(self, class: Class) -> Self {
        Self { too_many_requests: class, ..self }
    }

    /// Sets what a 503 says about the service. Default: failure. It is an overload, and may be tried again, in any case.
    #[must_use]
    pub fn service_unavailable(self, class: Class) -> Self {
        Self { service_unavailable: class, ..self }
    }

    /// Sets which errors say that a request was not processed, so that any may be repeated. For errors of a known type,
    /// such as those of a client: `.unprocessed(|error: &Error<reqwest::Error>| ..)`.
    #[must_use]
    pub fn unprocessed<G>(self, unprocessed: G) -> Http<G> {
        let Self { max_replayed, too_many_requests, service_unavailable, .. } = self;
        Http { max_replayed, too_many_requests, service_unavailable, unprocessed }
    }
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

impl<F, B> Carry<Request<B>> for Http<F> {
    fn deadline(&self, request: &Request<B>) -> Option<Deadline> {
        let given = request.extensions().get().copied();
        given.or_else(|| grpc_timeout(request.headers()).map(Deadline::after))
    }

    fn set_deadline(&self, request: &mut Request<B>, deadline: Deadline) {
        put(request, deadline);
        if is_grpc(request.headers()) {
            let timeout = write_grpc_timeout(deadline.remaining());
            request.headers_mut().insert(GRPC_TIMEOUT, timeout);
        }
    }

    fn timeouts(&self, request: &Request<B>) -> Timeouts {
        request.extensions().get().copied().unwrap_or_default()
    }

    fn attempt(&self, request: &Request<B>) -> Option<Attempt> {
        request.extensions().get().copied()
    }

    fn set_attempt(&self, request: &mut Request<B>, attempt: Attempt) {
        put(request, attempt);
        let before = attempt.number.saturating_sub(1).saturating_add(attempt.hedge);
        if before > 0 && is_grpc(request.headers()) {
            request.headers_mut().insert(GRPC_ATTEMPTS, HeaderValue::from(before));
        }
    }

    fn is_idempotent(&self, request: &Request<B>) -> bool {
        match request.extensions().get() {
            Some(Idempotent(is_idempotent)) => *is_idempotent,
            None => is_safe_twice(request.method()) || request.headers().contains_key(IDEMPOTENCY_KEY),
        }
    }
}

impl<F, B> Claims<Request<B>> for Http<F> {
    fn claim(&self, request: &Request<B>) -> Claim {
        let extensions = request.extensions();
        Claim {
            criticality: extensions.get().copied().unwrap_or_default(),
            tenant: extensions.get().copied(),
            partition: extensions.get().copied(),
            deadline: self.deadline(request),
            exempt: false,
        }
    }
}

/// Puts a value into the extensions, into the place of the one that is there: a new one is allocated.
fn put<B, T: Clone + Send + Sync + 'static>(request: &mut Request<B>, value: T) {
    match request.extensions_mut().get_mut() {
        Some(place) => *place = value,
        None => {
            request.extensions_mut().insert(value);
        }
    }
}

const fn is_safe_twice(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// What is kept of a request to send it again.
#[derive(Debug)]
pub struct Kept<B> {
    parts: Parts,
    body: replay_body::Replay<B>,
}

impl<F, B: Body> Replay<Request<B>> for Http<F> {
    type Request = Request<ReplayBody<B>>;
    type Kept = Kept<B>;

    fn keep(&self, mut request: Request<B>, is_wanted: bool) -> (Self::Request, Option<Kept<B>>) {
        if !is_wanted {
            return (request.map(ReplayBody::from), None);
        }
        if let Some(deadline) = self.deadline(&request) {
            // A `grpc-timeout` counts from now, and not anew with each attempt.
            put(&mut request, deadline);
        }
        let (parts, body) = request.into_parts();
        let (first, body) = ReplayBody::new(body, self.max_replayed);
        let kept = (body.replayable() != Replayable::TooLong).then(|| Kept { parts: parts.clone(), body });
        (Request::from_parts(parts, first), kept)
    }

    fn again(&self, kept: &mut Kept<B>) -> Option<Self::Request> {
        let body = kept.body.again()?;
        let mut request = Request::from_parts(kept.parts.clone(), body);
        // Less is left than when the first was sent.
        if let Some(deadline) = request.extensions().get::<Deadline>().copied() {
            self.set_deadline(&mut request, deadline);
        }
        Some(request)
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests;
