//! Bounds how many calls are under way at a time, by a limit that finds itself.
//!
//! Use it where nobody can say what a [bulkhead](crate::bulkhead) should allow, or where that changes: before a handler whose
//! machine has neighbours, or a client of a service that is scaled up and down. What it needs is that calls take longer
//! when too many are under way. Do not use it where they do not, such as before a queue that answers at once, nor where a few
//! calls a minute are all there is: it learns from dozens.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use stanchion::{AdaptiveLimitConfig, AdaptiveLimitLayer, Error, Reason};
//! use tokio::sync::Semaphore;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let layer = AdaptiveLimitLayer::new(AdaptiveLimitConfig::new()).name("search");
//! let handle = layer.handle();
//! // It works on one call after the other, so those that come at the same time wait for one another.
//! let worker = Arc::new(Semaphore::new(1));
//! let search = layer.layer(service_fn(move |query: u32| {
//!     let worker = Arc::clone(&worker);
//!     async move {
//!         let _turn = worker.acquire().await;
//!         tokio::time::sleep(Duration::from_millis(10)).await;
//!         Ok::<_, Error<Infallible>>(query)
//!     }
//! }));
//! assert_eq!(handle.snapshot().max_in_flight, 20);
//!
//! // It can answer a hundred per second, and is asked two hundred times.
//! let mut calls = Vec::new();
//! for query in 0..2_000 {
//!     calls.push(tokio::spawn(search.clone().oneshot(query)));
//!     tokio::time::sleep(Duration::from_millis(5)).await;
//! }
//! let mut refused = 0;
//! for call in calls {
//!     if let Err(Error::Rejected(rejected)) = call.await.unwrap() {
//!         assert_eq!(rejected.reason(), Reason::LimitReached);
//!         refused += 1;
//!     }
//! }
//! assert!(handle.snapshot().max_in_flight < 15);
//! assert!(refused > 0);
//! # }
//! ```
//!
//! What is no service goes through the [handle](AdaptiveLimitHandle), as with a bulkhead; end its permit with
//! [`finish`](crate::admission::Permit::finish), or it counts as a call that was cancelled.
//!
//! # How it decides
//!
//! ```text
//!   call ---> permit ---> service ---> how long it took, and how it ended
//!     |                                     |
//!     | the limit is reached                v
//!     +-- refused, waits, or         a window of calls ---> algorithm ---> the limit for the next window
//!         was not ready to be called
//! ```
//!
//! A window lasts for a quarter of a second, for two times as long as calls take, and until it holds fifty calls, whichever
//! takes longest; after a second, sixteen calls are enough. An [`Algorithm`] makes a limit of each, within `min_limit` and
//! `max_limit`:
//!
//! | algorithm | goes by |
//! |---|---|
//! | [`Gradient`] | the calls per second and how long calls take when none waits for another, so how many the service works on at a time. The default |
//! | [`Aimd`] | failures alone: one more while there are few, and a tenth less when there are many |
//! | [`Vegas`], [`Gradient2`] | the fastest call, or an average over a long time. They are known from Netflix's library |
//!
//! None raises the limit of a service that does not use half of it: a limit that has drifted up does not protect. The default does
//! not lower a limit that is not the constraint, so that a service with capacity to spare is not slowed down by its limit, whatever the
//! distribution of its latencies is. None goes by a single call. Failures count by their share of a window, so that a burst of them lowers the limit once.
//!
//! A refusal by a layer further in is neither a success nor a failure. A call that is cancelled is a failure if it had taken
//! much longer than is usual, so that a service that hangs is not saved by callers that leave.
//!
//! Who is let in while the limit is reached, and who waits, is told under [admission](crate::admission). The limit can be
//! divided into [partitions](crate::admission#partitions), each of which follows it.
//!
//! # Readiness, Sharing, Cancellation
//!
//! As with a [bulkhead](crate::bulkhead#readiness). A limit that falls ends no call.
//!
//! # Rejections
//!
//! [`Reason::LimitReached`](crate::Reason), [`Reason::LimitTimeout`](crate::Reason) for a call that waited for too long, and
//! [`Reason::DeadlineExceeded`](crate::Reason) for one that has too little time left. None of them has reached the service.
//!
//! # Events
//!
//! `Rejected` for each refusal, [`Action::Queued`](crate::telemetry::Action) for each call that begins to wait, and
//! [`ConcurrencyGauge`](crate::telemetry::ConcurrencyGauge) for each change of what [`AdaptiveLimitHandle::snapshot`](crate::admission::AdmissionHandle::snapshot)
//! shows, the limit among it.

mod adaptive;
mod algorithm;
mod config;
mod histogram;
mod meter;

pub use adaptive::Adaptive;
pub use algorithm::{Aimd, Algorithm, Gradient, Gradient2, Next, Sample, Vegas};
pub use config::AdaptiveLimitConfig;

use crate::middleware::admission::{Admission, AdmissionHandle, AdmissionLayer};
pub use crate::middleware::admission::{Given, Parked, Refuse, ResponseFuture, Snapshot, Wait};
use crate::protocol::AnyRequest;

/// A service behind an [adaptive limit](self).
pub type AdaptiveLimit<S, A = Gradient, W = Refuse, P = AnyRequest> = Admission<S, Adaptive<A>, W, P>;

/// Puts services behind an [adaptive limit](self).
///
/// The layer owns the limit: all services it makes share it, and so do those of its clones.
pub type AdaptiveLimitLayer<A = Gradient, W = Refuse, P = AnyRequest> = AdmissionLayer<Adaptive<A>, W, P>;

/// Inspects and changes an [adaptive limit](self), and limits what is no service.
pub type AdaptiveLimitHandle<A = Gradient> = AdmissionHandle<Adaptive<A>>;

/// Leave to have one call under way, from an [adaptive limit](self). Dropping it counts as a call that was cancelled.
pub type Permit<A = Gradient> = crate::middleware::admission::Permit<Adaptive<A>>;

#[cfg(all(test, stanchion_loom))]
mod model;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;
