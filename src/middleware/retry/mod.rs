//! Retries of failed calls, within a budget that prevents retry storms.
//!
//! Use it around a client whose failures are mostly momentary: a broken connection, an instance
//! that shuts down, a single lost response. Do not use it where an error is a valid result, where
//! executing a request twice does harm, or at more than one place along a call, because attempts
//! multiply.
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
//! To retry work that is not a `Service`, use the [handle](RetryHandle::run). With the feature
//! `http`, `layer.protocol(Http::new())` knows which HTTP requests to repeat, how, and after which
//! responses. For other responses, pass a closure to [`classify`](RetryLayer::classify). A
//! [`RetryPolicy`] can decide everything.
//!
//! # How it decides
//!
//! ```text
//!                      +------------------- wait, then the service is ready -------------------+
//!                      v                                                                       |
//!   call ---------> attempt ---> good, or not to be repeated ---> returned                     |
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
//! * The wait is that of the [`Backoff`](crate::Backoff), or longer if the server asked for it
//!   (`Retry-After`), or exactly what the server asked for (gRPC's pushback). It is never shorter
//!   than the server asked for. If it would run into the deadline, the failure is returned at once.
//! * Each call deposits a fraction of a token into the [`Budget`](crate::Budget), and each retry
//!   withdraws one token, or two after a timeout. Retries are therefore a bounded share of the
//!   traffic, whatever fails. Layers that share a budget share that bound.
//! * A response that is not returned is dropped before the wait, together with its connection.
//! * Rejections from inner layers are returned at once: retrying does not close an open circuit.
//!   Above a balancer, set [`retry_refusals`](RetryConfig::retry_refusals).
//!
//! # Readiness
//!
//! The readiness of the inner service. The instance that is ready makes the call and stays with it,
//! and a clone replaces it. A retry polls the same instance again, for at most `ready_within` and
//! until the deadline. If the instance is not ready by then, the last error is returned, or
//! [`Reason::NotReady`](crate::Reason) if the last attempt ended in a response.
//!
//! # Sharing
//!
//! The layer owns the budget and the configuration. All services that it creates, their clones and
//! the clones of the layer share them.
//!
//! # Cancellation
//!
//! Dropping the future drops the attempt in flight, and no other follows. Tokens that were
//! withdrawn stay spent. A panic of the service is passed on.
//!
//! # Rejections
//!
//! [`Reason::NotReady`](crate::Reason). It counts as having reached the service, because an earlier
//! attempt did.
//!
//! # Events
//!
//! [`Event::Attempt`](crate::telemetry::Event) for each attempt that ended, `Action` for each retry
//! and for each reason why there is none, and `Budget` for each withdrawal. With the feature
//! `tracing`, each attempt has a span. The number of the attempt is written to the request, if the
//! protocol supports it.

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
