//! Hedging: a second copy of a slow request, and the first good response wins.
//!
//! Use it where a few calls take much longer than the rest for reasons outside of the request: an
//! instance in a garbage collection, a lost packet. Another instance then responds long before the
//! first. Do not use it where executing a request twice does harm, or where all calls are slow
//! because the service is overloaded.
//!
//! # Example
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use std::time::Duration;
//!
//! use stanchion::hedge::HedgeDelay;
//! use stanchion::{Error, HedgeConfig, HedgeLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Error<std::fmt::Error>> {
//! static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
//! let delay = HedgeDelay::Fixed(Duration::from_millis(50));
//! let layer = HedgeLayer::new(HedgeConfig::new().delay(delay)).name("inventory");
//! let service = layer.layer(service_fn(|item: u32| async move {
//!     if ATTEMPTS.fetch_add(1, Ordering::Relaxed) == 0 {
//!         tokio::time::sleep(Duration::from_secs(10)).await; // An unlucky one.
//!     }
//!     Ok::<_, Error<std::fmt::Error>>(format!("item {item} is in stock"))
//! }));
//!
//! let start = tokio::time::Instant::now();
//! assert_eq!(service.oneshot(7).await?, "item 7 is in stock");
//! assert!(start.elapsed() < Duration::from_millis(60));
//! assert_eq!(ATTEMPTS.load(Ordering::Relaxed), 2);
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `http`, `layer.protocol(Http::new())` knows which HTTP requests may be sent
//! twice, and how. A closure for [`classify`](HedgeLayer::classify) decides which responses are
//! good. For an error type that cannot [carry rejections](crate::CarryRejected), use
//! [`classify_opaque`](HedgeLayer::classify_opaque).
//!
//! # How it decides
//!
//! ```text
//!   call ---> original -------------------------> good ---> returned, all others are dropped
//!                |                                 ^
//!                +---> is late, or failed          |
//!                        |                         |
//!                        v                         |
//!   all of these ----> copy ---------------------->+---> failed or rejected ---> waits for the
//!   1 idempotent         |                                    others, or returns the failure
//!   2 can be sent again  +---> is late ---> the next copy, `max_hedges` in all
//!   3 time is left
//!   4 the budget pays for it
//!   5 the service is ready
//! ```
//!
//! * A call is late after the [`HedgeDelay`]: a quantile of the recent latencies, or a fixed time.
//!   Each further copy is due when the previous one is late. While the quantile is unknown, or is
//!   `max` or more, nothing is hedged.
//! * Nothing is hedged while the median of the latest calls is more than `max_slowdown` times the
//!   usual one. All calls are then slow because they wait for one another, and each copy makes the
//!   others wait longer. The usual median follows the latest one down within some calls, and up
//!   half of the way within 45,000 calls, so that a service that stays slow is hedged again. With a
//!   fixed delay there is no such check, since nothing is measured.
//! * One latency is measured per call, that of the original. An original that lost to a copy, or
//!   that the caller gave up when it was late, counts with the time it had taken by then. Without
//!   those, the quantile would become one of the fast calls only, and fall. Copies and failed
//!   originals are not measured: their latency does not predict how many originals will be late. An
//!   original that ended in a timeout of an inner layer counts with the time it took.
//! * When an attempt fails and no other is in flight, the next copy is sent at once. That copy is a
//!   retry, and costs the same.
//! * A failed attempt never wins over a good one that is still in flight. If all fail, the first
//!   error is returned. Of responses that count as failures, such as a 503, the last one is
//!   returned, and the others are dropped at once with the connections they hold. A rejection by an
//!   inner layer is returned only if there is nothing else, and no copy follows it.
//! * If the server asks for a wait, no copy is sent before it is over, or none at all if it asks
//!   for no retry. If no attempt is in flight, the failure is returned at once: waiting is the task
//!   of a layer that [retries](crate::retry).
//! * Each call deposits a fraction of a token into the [`Budget`](crate::Budget), and each copy
//!   withdraws one token when it is sent. When the budget is spent, no more copies are sent, and
//!   those in flight continue. With the default, a budget of the layer's own, at most `n * (1 -
//!   quantile) + 10` of any `n` consecutive calls are hedged, however slow the service is.
//!
//! The algorithm is that of Finagle's `BackupRequestFilter`, with gRPC's rule for failed attempts.
//!
//! # One budget with the retries
//!
//! Add this layer inside of the retry layer, and give both the same budget. A copy is then a copy
//! of one attempt, and all extra calls come from one budget. Both layers deposit for their own
//! calls, so the share of extra calls is twice the `ratio`: configure half of what you allow. A
//! retry deposits nothing if the hedge layer recognises it, which requires a protocol that carries
//! the number of the attempt.
//!
//! # Readiness
//!
//! The readiness of the inner service. The instance that is ready makes the call. A clone of it
//! sends the copies. The clone is polled when a copy is due, concurrently with the original, for at
//! most `ready_within` and until the deadline.
//!
//! # Sharing
//!
//! The layer owns the latencies, the budget and the configuration. All services that it creates,
//! their clones and the clones of the layer share them.
//!
//! # Cancellation
//!
//! Dropping the future drops all attempts in flight. Tokens that were withdrawn stay spent. A panic
//! of the service is passed on.
//!
//! # Rejections
//!
//! The layer rejects no calls.
//!
//! # Events
//!
//! [`Event::Attempt`](crate::telemetry::Event) for each attempt that ended: number 1 is the
//! original, 2 the first copy, and `cancelled` means that another attempt was faster. `Action` for
//! each copy, for an attempt that won while others were in flight, and for the reason why a due
//! copy was not sent. `Budget` for each withdrawal. With the feature `tracing`, each attempt has a
//! span. The number of the copy is written to the request beside that of the retry, if the protocol
//! supports it.

mod config;
mod copies;
mod future;
mod handle;
mod hedging;
mod layer;
mod pace;
mod service;
mod shared;
mod state;

#[cfg(all(test, not(stanchion_loom)))]
mod tests;

pub use config::{HedgeConfig, HedgeDelay};
pub use future::ResponseFuture;
pub use handle::HedgeHandle;
pub use layer::HedgeLayer;
pub use service::Hedge;
