//! Ends calls that take too long, and tells every layer further in by when an answer is wanted.
//!
//! Use it twice around every client: outermost for the call as a whole, as long as the caller is going to wait, and
//! innermost for each attempt, a few times as long as the service usually takes. Without the first a caller may wait for
//! ever, without the second the first attempt may use up all of the time. Do not use it where the service goes on
//! with what it was asked after nobody waits for the answer, and that does harm.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use stanchion::{Error, Reason, TimeoutLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let layer = TimeoutLayer::after(Duration::from_secs(2)).name("inventory");
//! let service = layer.layer(service_fn(|item: u32| async move {
//!     tokio::time::sleep(Duration::from_secs(60)).await;
//!     Ok::<_, Error<std::fmt::Error>>(format!("item {item} is in stock"))
//! }));
//!
//! let error = service.oneshot(7).await.unwrap_err();
//! println!("{error}"); // given up by inventory: total timeout after 2s
//! let rejected = error.rejected().expect("it was given up");
//! assert_eq!(rejected.reason(), Reason::TotalTimeout);
//! assert!(rejected.reached_service());
//! # }
//! ```
//!
//! What is no service goes through the [handle](TimeoutHandle::run).
//!
//! # How it decides
//!
//! ```text
//!                       the request's own timeout, else the layer's limit
//!                                             |
//!   first poll_ready ....... call ============+=================> head ======> end of the body
//!   (includes_readiness)      |                                  (covers)        (covers)
//!                             |                                   | idle | idle |
//!                  refused if less is left
//!                  than min_remaining
//! ```
//!
//! A call ends by the earlier of two moments: the layer's limit, counted from the call, and the deadline of the request. The
//! layer puts that moment into the request as a [`Deadline`](crate::Deadline), so layers further in, also those that retry,
//! know by when an answer is of use. This takes a [protocol](crate::protocol) that can carry it:
//! `layer.protocol(Http::new())` for requests of the `http` crate. There a request may also bring
//! [`Timeouts`](crate::protocol::Timeouts) of its own, and limits on the body work.
//!
//! With [`Limit::Adaptive`] the limit follows what calls take. One reading of the clock is made per call, and no timer
//! if the service answers when it is first asked. With a limit that is measured there is a second reading.
//!
//! # Readiness
//!
//! That of the service inside. With [`includes_readiness`](TimeoutConfig::includes_readiness) the limit begins when it is
//! first found not ready; if it still is not when the limit is over, the layer is ready, to refuse the call. The service is
//! never called then, whatever is reconfigured in between. The time from readiness to the call is the caller's own, and not
//! counted.
//!
//! Time counts only while a caller waits. tower does not say when one goes away, so the layer goes by how it is polled: a caller
//! that waits polls when it is woken. Who polls later than a tenth of a second after that, or without having been woken, is
//! not charged for what went before. Who comes later than a quarter of the limit, or from another task, has the whole limit
//! again, a task that is late but once: one that is late each time waits for twice the limit at most, and for what it is late
//! by. So a caller whose task polls for other reasons too, or late, may get more time than the limit; one that polls when it
//! is woken never waits for longer than it.
//!
//! # Sharing
//!
//! The layer owns the configuration and what is measured. All services it makes, their clones and the clones of the layer
//! share them.
//!
//! # Cancellation
//!
//! A call that takes too long is dropped before its error is handed out. A caller that drops the future cancels the call:
//! that is no timeout, and nothing is counted. A panic of the service is passed on.
//!
//! # Rejections
//!
//! [`Reason::TotalTimeout`](crate::Reason), [`AttemptTimeout`](crate::Reason) and [`IdleTimeout`](crate::Reason) by what
//! was limited, and [`DeadlineExceeded`](crate::Reason) if the request's deadline was the earlier one. A layer further in that
//! gives up because of the deadline that this layer has set names it so; to the caller, it is this layer's limit. Each has the
//! [`limit`](crate::Rejected::limit), and tells whether it
//! [reached the service](crate::Rejected::reached_service): not if there was too little time to begin with, or the service did
//! not become ready. For a circuit breaker further out, a call that reached the service and exceeded this layer's limit is a
//! failure. If the caller's deadline ended it, [`past_deadline`](crate::CircuitBreakerConfig::past_deadline) decides. A call
//! that did not reach the service is ignored.
//!
//! # Events
//!
//! [`Event::Rejected`](crate::telemetry::Event) for each call that was refused or given up.

mod config;
mod future;
mod handle;
mod layer;
mod service;
mod shared;
mod state;
mod wait;

pub use config::{Covers, Limit, Scope, TimeoutConfig};
pub use future::ResponseFuture;
pub use handle::TimeoutHandle;
pub use layer::TimeoutLayer;
pub use service::Timeout;

pub use crate::primitives::latency::MinRemaining;

#[cfg(all(test, not(stanchion_loom)))]
mod tests;
