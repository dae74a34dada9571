//! Timeouts for calls, attempts and bodies, and deadlines for inner layers.
//!
//! Add two timeouts to every client. The outermost one limits the call as a whole to the time that
//! its caller is willing to wait. The innermost one limits each attempt to a few times the usual
//! latency. Without the first, a caller may wait for ever; without the second, the first attempt
//! may use up all the time. Do not use a timeout if the service continues to work after its caller
//! has given up and this does harm.
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
//! To limit work that is not a `Service` (a query, a publish), use the
//! [handle](TimeoutHandle::run).
//!
//! # How it decides
//!
//! ```text
//!                       the request's own timeout, else the layer's limit
//!                                             |
//!   first poll_ready ....... call ============+=================> head ======> end of the body
//!   (includes_readiness)      |                                  (covers)        (covers)
//!                             |                                   | idle | idle |
//!                 rejected if less is left
//!                  than min_remaining
//! ```
//!
//! A call ends at the earlier of two moments: the layer's limit, counted from the call, and the
//! deadline of the request. The layer writes that moment to the request as a
//! [`Deadline`](crate::Deadline), so that inner layers, such as a retry, know it. This requires a
//! [protocol](crate::protocol) that can carry a deadline: `layer.protocol(Http::new())` for
//! requests of the `http` crate. With that protocol, a request may also bring its own
//! [`Timeouts`](crate::protocol::Timeouts), and timeouts on bodies work.
//!
//! With [`Limit::Adaptive`], the limit follows the measured latency. A call reads the clock once,
//! or twice with an adaptive limit. It creates no timer if the service responds on the first poll.
//!
//! # Readiness
//!
//! The readiness of the inner service. With
//! [`includes_readiness`](TimeoutConfig::includes_readiness), the limit starts when the service is
//! first found not ready. If it is still not ready when the limit is over, the layer reports
//! readiness and rejects the call. That call never reaches the service, even if the configuration
//! has changed in between. The time between readiness and the call belongs to the caller and does
//! not count.
//!
//! Time counts only while a caller waits. tower does not report when a caller goes away, so the
//! layer infers it from the polls: a caller that waits polls when it is woken.
//!
//! * A caller that polls more than 100 ms after it was woken, or without having been woken, is not
//!   charged for the time before.
//! * A caller that polls later than a quarter of the limit, or from another task, gets the whole
//!   limit again. A task that is late gets it only once: if it is late every time, it waits for at
//!   most twice the limit, plus the time by which it is late.
//!
//! A caller whose task also polls for other reasons, or late, may therefore get more time than the
//! limit. So does one that passes the waker of another task at each poll, which `Future` allows: it
//! is taken for another caller each time. A caller that polls only when it is woken, with the waker
//! of one task, never waits longer than the limit.
//!
//! # Sharing
//!
//! The layer owns the configuration and the measured latencies. All services that it creates, their
//! clones and the clones of the layer share them.
//!
//! # Cancellation
//!
//! A call that times out is dropped before its error is returned. If the caller drops the future,
//! the call is cancelled: this is no timeout and is not counted. A panic of the service is passed
//! on.
//!
//! # Rejections
//!
//! [`Reason::TotalTimeout`](crate::Reason), [`AttemptTimeout`](crate::Reason) and
//! [`IdleTimeout`](crate::Reason), depending on what was limited, or
//! [`DeadlineExceeded`](crate::Reason) if the deadline of the request was the earlier one. An inner
//! layer that gives up because of the deadline that this layer has set reports `DeadlineExceeded`;
//! this layer replaces it with its own timeout.
//!
//! Each rejection has the [`limit`](crate::Rejected::limit), and says whether the call [reached the
//! service](crate::Rejected::reached_service). It did not if there was too little time to start, or
//! if the service did not become ready. For an outer circuit breaker, a call that reached the
//! service and exceeded this layer's limit is a failure. If the caller's deadline ended the call,
//! [`past_deadline`](crate::CircuitBreakerConfig::past_deadline) decides. A call that did not reach
//! the service is ignored.
//!
//! # Events
//!
//! [`Event::Rejected`](crate::telemetry::Event) for each call that was rejected or given up.

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
