//! Sends less to a service that accepts less: a share of the calls is refused before it is sent.
//!
//! Use it in a client of a service that many clients share and that refuses what is too much for it. To refuse costs the
//! service something too, and with enough refusals it does nothing else; a throttle in each client keeps that small,
//! without a word between them. Put it inside of the layers that retry, and outside of the timeout for each attempt.
//! Do not use it where a call must be tried whatever the odds, nor instead of a
//! [circuit breaker](crate::circuit_breaker) where a service that is down costs more than an error.
//!
//! # Example
//!
//! ```
//! use stanchion::{Error, Reason, ThrottleConfig, ThrottleLayer};
//! use tower::{Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let layer = ThrottleLayer::new(ThrottleConfig::new()).name("inventory");
//! let mut service = layer.layer(service_fn(|_: u32| async {
//!     Err::<(), _>(Error::Inner(std::fmt::Error))
//! }));
//!
//! let mut throttled = 0;
//! for item in 0..1_000 {
//!     let error = service.ready().await.unwrap().call(item).await.unwrap_err();
//!     if let Some(rejected) = error.rejected() {
//!         assert_eq!(rejected.reason(), Reason::Throttled);
//!         throttled += 1;
//!     }
//! }
//! assert!(throttled > 800);
//! assert_eq!(layer.handle().snapshot().sent, 1_000 - throttled);
//! # }
//! ```
//!
//! # How it decides
//!
//! ```text
//!             requests - headroom * accepted
//!   ratio  =  ------------------------------ ,  0 to max_ratio, and 0 with fewer than min_requests
//!                     requests + 1
//! ```
//!
//! This is adaptive throttling after the book "Site Reliability Engineering", over the calls of the last `window`. Unlike
//! there only calls that were sent are requests, unless [`counts_refusals`](ThrottleConfig::counts_refusals) says so: what
//! the throttle refuses itself says nothing about the service, and hides for long that it is well again.
//!
//! | end of the call | counts as |
//! |---|---|
//! | its outcome is no [`overload`](crate::classify::Outcome::overload) | sent, accepted |
//! | its outcome is an overload, as that of a timeout further in | sent |
//! | none, for half of the window | sent, until it ends |
//! | dropped before that | nothing |
//! | dropped after that | sent |
//! | rejected by a layer further in | nothing |
//! | given up by a layer further in as its caller's deadline had passed | as if it were dropped; but sent, while the window holds no call that was accepted |
//!
//! By default every error is an overload, since nothing is known of it. `layer.protocol(Http::new())` knows
//! which responses of HTTP and gRPC speak of load: 408, 429, 502, 503 and 504, `RESOURCE_EXHAUSTED`, `UNAVAILABLE` and
//! `DEADLINE_EXCEEDED` in the headers of a response; a 500 is accepted. A closure for
//! [`classify`](ThrottleLayer::classify) decides by itself, and is not asked about rejections.
//!
//! The clock is read when a call begins, and when one ends that was not accepted, had to wait, or was not the only one. A call
//! that was accepted at its first poll counts as of the latest of these moments, and all others from their end.
//!
//! The share is found once for every `requests / (64 * headroom)` calls that have ended, and anew with each fortieth of the
//! window: a call may be refused by a share that is off by a 64th. With fewer than 64 requests each one is felt at once. A
//! call that is late is seen a fortieth of the window later.
//!
//! Each call is refused by chance, with random numbers of the `fastrand` crate, which `fastrand::seed` makes repeatable
//! on a thread.
//!
//! # Readiness
//!
//! That of the service inside. The decision is made in `call`, after that, so that each is a decision about one call. A
//! service that fails in `poll_ready` was sent nothing.
//!
//! # Sharing
//!
//! The layer owns the configuration and the counts. All services it makes, their clones and the clones of the layer share
//! them. One layer for each service that is called: what one refuses is no reason to send less to another.
//!
//! # Cancellation
//!
//! A caller that drops the future cancels the call. That says nothing about the service, unless half of the window had
//! passed: callers with little patience must not cut off others. The same holds for a call that was given up further in since
//! its caller's deadline had passed, for as long as others are accepted; if none is, the service may hang. So a service that
//! hangs is seen soon only with a [timeout](crate::timeout) inside that is no deadline. A panic of the service is passed on,
//! and is a cancelled call here.
//!
//! # Rejections
//!
//! [`Reason::Throttled`](crate::Reason), which did not [reach the service](crate::Rejected::reached_service). There is no
//! [`retry_after`](crate::Rejected::retry_after): the next call may be sent.
//!
//! # Events
//!
//! [`Event::Rejected`](crate::telemetry::Event) for each call that was refused.

mod config;
mod handle;
mod layer;
mod permit;
mod service;
mod share;
mod shared;
mod state;

pub use config::ThrottleConfig;
pub use handle::{Snapshot, ThrottleHandle};
pub use layer::ThrottleLayer;
pub use service::Throttle;

use crate::middleware::gate::{self, Admitted, AtHeaders};

/// The future of a call through a [throttle](self).
pub type ResponseFuture<F, P> = gate::ResponseFuture<F, Admitted<AtHeaders<P>, permit::Permit>>;

#[cfg(all(test, not(stanchion_loom)))]
mod tests;

#[cfg(all(test, stanchion_loom))]
mod model;
