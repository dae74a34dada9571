//! Sends a second copy of a request that is slow, and takes whichever answer comes first.
//!
//! Use it where a few calls of many take much longer than the rest for no reason of their own: one instance that collects
//! garbage, a packet that got lost. Another instance then answers long before the first. Do not use it where executing a
//! request twice does harm, or where all calls are slow because the service has too much to do.
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
//! With the feature `http`, `layer.protocol(Http::new())` knows which requests of HTTP may be sent twice, and how. A closure for
//! [`classify`](HedgeLayer::classify) decides which responses are good. Over an error type that cannot
//! [carry rejections](crate::CarryRejected), use [`classify_opaque`](HedgeLayer::classify_opaque).
//!
//! # How it decides
//!
//! ```text
//!   call ----> original ----------------------------> good ----> handed out, and all others are dropped
//!                 |                                    ^
//!                 +---> is late, or failed             |
//!                         |                            |
//!                         v                            |
//!   all of these ------> copy ------------------------>+----> failed or refused ----> waits for the others, or
//!   1 idempotent          |                                                           hands the failure out
//!   2 can be sent again   +---> is late ----> the next copy, `max_hedges` in all
//!   3 time is left
//!   4 the budget pays for it
//!   5 the service is ready
//! ```
//!
//! * A call is late after the [`HedgeDelay`]: a quantile of the latencies of late, or a fixed time. Each further copy is due when
//!   the one before is late. Until the quantile is known, and while it is `max` or more, nothing is hedged.
//! * Nothing is hedged either while the median of the latest calls is more than `max_slowdown` times the usual one. Then all calls
//!   are slow, because they wait for one another, and each copy makes the others wait longer. The usual median follows the
//!   latest down within some calls, and up half of the way in 45,000, so that a service that stays slow is hedged again. A fixed delay is not checked, since nothing is measured.
//! * What is measured are the originals, one for each call, also those that a copy was faster than, or that the caller gave up
//!   when they were late: with the time they had taken by then. Without them the quantile would be one of the fast calls, and sink. How long
//!   copies take, or originals that failed, says nothing about how many originals will be late. One that ran into a
//!   timeout further in counts with the time it took.
//! * When an attempt fails and nothing else is under way, the next copy is sent at once. It is a retry then, and costs the same.
//! * A failed attempt never beats a good one that is still to come. If all fail, the first error is handed out. Of answers that
//!   are failures, such as a 503, the last one is: the others are dropped at once, with the connections they hold. A refusal
//!   by a layer further in is handed out only if there is nothing else, and there is no other copy after it.
//! * A server that asks to be left alone is sent no copy for that long, or no more at all. If nothing is under way
//!   by then, the failure is handed out: waiting is up to a layer that [retries](crate::retry).
//! * Each call pays a share into the [`Budget`](crate::Budget), and each copy takes a whole token out of it when it is sent. When it is
//!   spent no more are sent, and those under way stay under way. With a budget of the layer's own, the default, of any `n` calls
//!   in a row no more than `n * (1 - quantile) + 10` are hedged, however slow the service is.
//!
//! The algorithm is that of Finagle's `BackupRequestFilter`, with gRPC's rule for attempts that fail.
//!
//! # One budget with the retries
//!
//! Put this layer inside of the one that retries, and give both the same budget: then a copy is a copy of one attempt, and
//! all extra calls come out of one purse. Both layers pay in for their own calls, so that the share of extra calls is
//! twice the `ratio`: set half of what you allow. A retry that is known for one, through a protocol that carries
//! its number, pays nothing in.
//!
//! # Readiness
//!
//! That of the service inside. The instance that is ready makes the call. Copies are sent by a clone of it that is asked when one is
//! due, beside the original and for no longer than `ready_within` and the deadline.
//!
//! # Sharing
//!
//! The layer owns the latencies, the budget and the configuration. All services it makes, their clones and the clones of the
//! layer share them.
//!
//! # Cancellation
//!
//! Dropping the future drops all attempts that are under way. What was paid is spent. A panic of the service is passed on.
//!
//! # Rejections
//!
//! None.
//!
//! # Events
//!
//! [`Event::Attempt`](crate::telemetry::Event) for each attempt that ended, number 1 for the original and 2 for the first copy;
//! `cancelled` for those that were dropped because another was faster. `Action` for each copy, for the attempt that won while
//! others were under way, and for what kept a copy that was due from being sent. `Budget` when it was asked. With the feature `tracing` each attempt has a
//! span. The number of the copy is in the request, for protocols that can carry it, beside that of a retry.

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
