//! Tries a failed call again, within a budget that many callers cannot turn into a storm.
//!
//! Use it around a client whose failures are mostly of the moment: a connection that was cut, an instance that goes
//! away, one answer of many that got lost. Do not use it where failing is the answer, where executing a request twice
//! does harm, or in more than one place along a call: attempts multiply.
//!
//! # Example
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//!
//! use stanchion::{Error, RetryConfig, RetryLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Error<std::fmt::Error>> {
//! static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
//! let layer = RetryLayer::new(RetryConfig::new().max_attempts(3)).name("inventory");
//! let service = layer.layer(service_fn(|item: u32| async move {
//!     match ATTEMPTS.fetch_add(1, Ordering::Relaxed) {
//!         0 | 1 => Err(Error::Inner(std::fmt::Error)),
//!         _ => Ok(format!("item {item} is in stock")),
//!     }
//! }));
//!
//! assert_eq!(service.oneshot(7).await?, "item 7 is in stock");
//! assert_eq!(ATTEMPTS.load(Ordering::Relaxed), 3);
//! # Ok(())
//! # }
//! ```
//!
//! To retry work that is not a `Service`, use the [handle](RetryHandle::run). With the feature `http`,
//! `layer.protocol(Http::new())` knows which requests of HTTP to repeat, how, and after which responses. A closure for
//! [`classify`](RetryLayer::classify) decides for other responses, a [`RetryPolicy`] for everything.
//!
//! # How it decides
//!
//! ```text
//!                      +------------------- wait, then the service is ready -------------------+
//!                      v                                                                       |
//!   call ---------> attempt ---> good, or not to be repeated ---> handed out                   |
//!                      |                                             ^                         |
//!                      +---> failed ---> any of these is missing ----+                         |
//!                                |                                                             |
//!                                +-----> all of these ------------------------------------------+
//!                                        1 no rejection by a layer of this crate
//!                                        2 idempotent, or surely not executed (this once)
//!                                        3 fewer than `max_attempts` attempts
//!                                        4 the server wants it, within `max_server_wait`
//!                                        5 the wait ends before the deadline
//!                                        6 the request can be sent again
//!                                        7 the budget pays for it
//! ```
//!
//! * The wait is that of the [`Backoff`](crate::Backoff), or longer if the server said so (`Retry-After`), or exactly what it
//!   said (gRPC's pushback). It is never shorter than what the server asked for, and never runs into the deadline: then
//!   the failure is handed out at once.
//! * Each call pays a share into the [`Budget`](crate::Budget), each further attempt takes a whole token out of it, one
//!   after a timeout two. So retries are a share of the traffic, whatever fails. Layers that share a budget share that.
//! * An answer that is not handed out is dropped before the wait, and its connection with it.
//! * Rejections from inner layers are returned at once: retrying does not close an open circuit. Above a
//!   balancer set [`retry_refusals`](RetryConfig::retry_refusals).
//!
//! # Readiness
//!
//! That of the service inside. The instance that is ready makes the call and stays with it; a clone takes its place.
//! For a further attempt the instance is asked again, for no longer than `ready_within` and the deadline; if it is not ready
//! by then, the last error is handed out, or [`Reason::NotReady`](crate::Reason) if that was no error but an answer.
//!
//! # Sharing
//!
//! The layer owns the budget and the configuration. All services it makes, their clones and the clones of the layer share
//! them.
//!
//! # Cancellation
//!
//! Dropping the future drops the attempt under way, and makes no other. What it has paid is spent. A panic of the service is
//! passed on.
//!
//! # Rejections
//!
//! [`Reason::NotReady`](crate::Reason), which has reached the service: an attempt before was made.
//!
//! # Events
//!
//! [`Event::Attempt`](crate::telemetry::Event) for each attempt that ended, `Action` for each further attempt and for each
//! reason why there is none, `Budget` when it was asked. With the feature `tracing` each attempt has a span. The
//! number of the attempt is in the request, for protocols that can carry it.

mod config;
mod future;
mod handle;
mod layer;
mod pause;
mod policy;
mod service;
mod shared;
mod state;

pub use config::RetryConfig;
pub use future::ResponseFuture;
pub use handle::RetryHandle;
pub use layer::RetryLayer;
pub use policy::{Attempts, Facts, RetryPolicy, Saved, Standard};
pub use service::Retry;

#[cfg(all(test, not(stanchion_loom)))]
mod tests;
