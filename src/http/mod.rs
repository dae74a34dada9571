//! HTTP, and gRPC over HTTP: retries of requests and the outcomes of calls.
//!
//! Pass [`Http`] to the `protocol` setter of a layer:
//!
//! ```
//! use stanchion::http::Http;
//! use stanchion::{RetryConfig, RetryLayer};
//!
//! let layer = RetryLayer::new(RetryConfig::new()).protocol(Http::new());
//! # let _ = layer;
//! ```
//!
//! # Requests
//!
//! | in the request's extensions | meaning |
//! |---|---|
//! | [`Deadline`](crate::Deadline) | the time by which a response is wanted; without it, the header `grpc-timeout` is read |
//! | [`Timeouts`](crate::protocol::Timeouts) | timeouts of this request, in place of the configured ones |
//! | [`Idempotent`] | whether executing the request twice does no harm |
//! | [`Attempt`](crate::protocol::Attempt) | the number of the attempt; written by layers that send several |
//! | [`Criticality`](crate::protocol::Criticality) | the importance of the request |
//! | [`Tenant`](crate::protocol::Tenant) | the party on whose behalf the request is made |
//! | [`Partition`](crate::protocol::Partition) | the part of a limit that the request uses |
//!
//! Without [`Idempotent`], a request is idempotent if its method is GET, HEAD, OPTIONS, TRACE, PUT
//! or DELETE (RFC 9110, section 9.2.2), or if it has an `Idempotency-Key`. The key stays the same
//! for all attempts.
//!
//! A [`ReplayBody`] sends a body again, up to a maximum size. The inner service is therefore called
//! with `http::Request<ReplayBody<B>>`. A request is not repeated while its failed attempt is still
//! sending the body.
//!
//! For gRPC requests (recognised by their `content-type`), the remaining time is written to
//! `grpc-timeout`, and the number of earlier attempts to `grpc-previous-rpc-attempts`.
//!
//! # Outcomes
//!
//! | result | class | retried | overload |
//! |---|---|---|---|
//! | 408, 429 | success; for 429 [configurable](Http::too_many_requests) | if idempotent, not before `Retry-After` | yes |
//! | 425 | success | if idempotent, not before `Retry-After` | no |
//! | 502, 503, 504 | failure; for 503 [configurable](Http::service_unavailable) | if idempotent, not before `Retry-After` | yes |
//! | 500 | failure | if idempotent, not before `Retry-After` | no |
//! | another 5xx | failure | no | no |
//! | any other status | success | | |
//! | `grpc-status` in the headers: 8, 14 | failure | if idempotent, as `grpc-retry-pushback-ms` says | yes |
//! | 4 | failure | no, unless pushback asks for it | yes |
//! | 2, 10, 12, 13, 15, or an unknown status | failure | no, unless pushback asks for it | no |
//! | any other `grpc-status` | success: the request was wrong | | |
//! | an error | failure | if idempotent | yes |
//! | an error that says the request was [not processed](is_unprocessed) | failure | once, for every request | yes |
//!
//! A 429 comes from a service that works, so it is no failure for a breaker. The caller still has
//! no result: a retry repeats the request, a fallback replaces the response, a throttle sends fewer
//! requests, and an adaptive limit falls.
//!
//! A gRPC status in the trailers is not read. A body that fails is a failure, even if a deadline
//! ended it.
//!
//! In a circuit breaker and an adaptive limit, a call with a good response lasts until the body has
//! ended, as a [`GuardedBody`]. If the body breaks or is cut off, the call fails at that moment. If
//! the body is dropped half-read, the call is cancelled. All other outcomes are known with the
//! headers.
//!
//! # Errors of clients
//!
//! [`SourceChain`] finds errors which say that a request was not processed in an
//! [`Error`](crate::Error) or in a boxed error. To use what only a client's own error type can
//! tell, or for your own error enum, add a closure:
//!
//! ```
//! use hyper_util::client::legacy;
//! use stanchion::Error;
//! use stanchion::http::{Http, is_unprocessed};
//! use tower::BoxError;
//!
//! // hyper-util, typed. `is_connect` also covers unreachable hosts and unknown host names.
//! let typed = Http::new().unprocessed(|error: &Error<legacy::Error>| {
//!     error.inner().is_some_and(|error| error.is_connect() || is_unprocessed(error))
//! });
//! // reqwest, typed.
//! let of_reqwest = Http::new().unprocessed(|error: &Error<reqwest::Error>| {
//!     error.inner().is_some_and(|error| error.is_connect() || is_unprocessed(error))
//! });
//! // Any client under `.map_err(BoxError::from)`.
//! let boxed = Http::new();
//! // Such a client, with the knowledge of its own error type.
//! let both = Http::new().unprocessed(|error: &BoxError| {
//!     is_unprocessed(&**error) || error.downcast_ref().is_some_and(legacy::Error::is_connect)
//! });
//! # let _ = (typed, of_reqwest, boxed, both);
//! ```
//!
//! A boxed error is searched as well if it wraps an [`Error`](crate::Error), and it is taken for
//! the error of one client. If the service makes several calls internally, one failed connection
//! does not mean that nothing was executed. Use `.unprocessed(|_: &BoxError| false)` there.
//!
//! By default, reqwest repeats requests that an HTTP/2 server has refused. Disable this
//! (`reqwest::retry::never()`) below a retry layer, or the attempts multiply.

mod classify;
mod guarded_body;
pub mod headers;
mod protocol;
pub mod replay_body;
mod respond;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;
mod timed_body;
mod unprocessed;

pub use guarded_body::GuardedBody;
pub use protocol::{Http, Idempotent};
pub use replay_body::ReplayBody;
pub use respond::{http_response, http_status};
pub use timed_body::TimedBody;
pub use unprocessed::{SourceChain, Unprocessed, is_unprocessed};
