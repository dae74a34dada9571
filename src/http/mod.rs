//! HTTP, and gRPC over it: which requests may be repeated and how, and the outcomes of calls.
//!
//! [`Http`] is given to a layer with `protocol`:
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
//! | in the request's extensions | says |
//! |---|---|
//! | [`Deadline`](crate::Deadline) | by when an answer is wanted; without it, so does the header `grpc-timeout` |
//! | [`Timeouts`](crate::protocol::Timeouts) | timeouts for this request, in place of those that are configured |
//! | [`Idempotent`] | whether executing it twice does no harm |
//! | [`Attempt`](crate::protocol::Attempt) | which attempt it is; written by the layers that make several |
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
//! That an error says so is found in [its chain](SourceChain), under an [`Error`](crate::Error) or in a box. What a client's type
//! alone tells, or an enum of your own, takes a closure:
//!
//! ```
//! use hyper_util::client::legacy;
//! use stanchion::Error;
//! use stanchion::http::{Http, is_unprocessed};
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
//! reqwest by itself repeats what an HTTP/2 server has refused. Switch that off (`reqwest::retry::never()`) where a layer
//! repeats, or attempts multiply.

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
