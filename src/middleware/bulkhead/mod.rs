//! Bounds how many calls are under way at a time.
//!
//! Use it before a service that gets slower, or falls over, when too much is asked of it at once; and one for each
//! dependency, so that one that hangs cannot take all that the others need. Do not use it to bound calls per second, nor
//! where nobody can say what the limit should be: that finds an [adaptive limit](crate::adaptive_limit).
//!
//! # Example
//!
//! ```
//! use stanchion::{BulkheadConfig, BulkheadLayer, Error, Reason};
//! use tower::{Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Error<std::io::Error>> {
//! let layer = BulkheadLayer::new(BulkheadConfig::new().max_in_flight(1)).name("inventory");
//! let handle = layer.handle();
//! let mut service = layer.layer(service_fn(|item: u32| async move { Ok::<_, Error<std::io::Error>>(item) }));
//!
//! let first = service.ready().await?.call(42);
//! assert_eq!(handle.snapshot().in_flight, 1);
//!
//! let refused = service.ready().await?.call(43).await.unwrap_err();
//! assert_eq!(refused.rejected().unwrap().reason(), Reason::BulkheadFull);
//!
//! assert_eq!(first.await?, 42);
//! assert_eq!(service.ready().await?.call(43).await?, 43);
//! # Ok(())
//! # }
//! ```
//!
//! What is no service goes through the [handle](BulkheadHandle): `handle.run(query())`, or
//! [`try_acquire`](BulkheadHandle::try_acquire).
//!
//! # How it decides
//!
//! ```text
//!             there is room, and nobody waits
//!   call ---------------------------------------> permit ---> service ---> it is over, and the next has it
//!     |                                              ^
//!     | it is full                                   | it is its turn
//!     +-- new:           refused                     |
//!     +-- waiting:       waits, if there is a place -+---- for too long: refused
//!     +-- backpressure:  was not ready to be called
//! ```
//!
//! The limit can be divided into [partitions](crate::admission#partitions).
//!
//! A call is over when the headers of its response are there, or with
//! [`hold_until_body_end`](crate::BulkheadLayer::hold_until_body_end) when its body has ended or is dropped. A limit that is
//! lowered ends no call: it waits until enough of them are over.
//!
//! Those who wait are served in the order in which they came, unless they are told apart:
//! [`protocol`](crate::BulkheadLayer::protocol), or a closure for [`attributes`](crate::BulkheadLayer::attributes), reads from requests
//! how much they matter, on whose behalf they are made and by when an answer is wanted. What is made of that, and how a queue is kept from filling with what is late, is told under
//! [admission](crate::admission).
//!
//! # Readiness
//!
//! While it is full, `poll_ready` says ready without asking the service, and the next `call` is
//! refused, also if there is room by then, or waits. A call that waits holds none of the service's
//! readiness: it has a clone of the service, which is made ready when there is a permit. With
//! [`backpressure`](crate::BulkheadLayer::backpressure) the service is ready when it has taken a
//! permit and the service inside is ready; the permit is given back if the service is dropped. A
//! service that is ready and kept holds its permit, as with tower's `ConcurrencyLimit`: keep a
//! clone, which holds none.
//!
//! # Sharing
//!
//! The layer owns the limit. All services it makes, their clones and the clones of the layer share it.
//!
//! # Cancellation
//!
//! A call whose future is dropped gives back its permit or its place, at whatever moment. So does
//! one that panics, when its future is dropped. A permit that was given to one who had left goes to
//! the next, and so does one that a waiting call was granted and does not claim within 100 ms,
//! because it is kept and not polled.
//!
//! # Rejections
//!
//! [`Reason::BulkheadFull`](crate::Reason), also for a call that lost its place in the queue to another,
//! [`Reason::BulkheadTimeout`](crate::Reason) for one that waited for too long, and
//! [`Reason::DeadlineExceeded`](crate::Reason) for one that has too little time left. None of them has reached the service.
//! When there will be room is known only if calls are measured, which a
//! [`min_remaining`](crate::AdmissionConfig::min_remaining) can ask for: it is an estimate.
//!
//! # Events
//!
//! `Rejected` for each refusal, [`Action::Queued`](crate::telemetry::Action) for each call that begins to wait, and
//! [`ConcurrencyGauge`](crate::telemetry::ConcurrencyGauge) for each change of what [`BulkheadHandle::snapshot`] shows.

mod config;
mod fixed;

pub use config::BulkheadConfig;
pub use fixed::Fixed;

use crate::middleware::admission::{Admission, AdmissionHandle, AdmissionLayer};
pub use crate::middleware::admission::{Given, Parked, Refuse, ResponseFuture, Snapshot, Wait};
use crate::protocol::AnyRequest;

/// A service behind a [bulkhead](self).
pub type Bulkhead<S, W = Refuse, P = AnyRequest> = Admission<S, Fixed, W, P>;

/// Puts services behind a [bulkhead](self).
///
/// The layer owns the limit: all services it makes share it, and so do those of its clones.
pub type BulkheadLayer<W = Refuse, P = AnyRequest> = AdmissionLayer<Fixed, W, P>;

/// Inspects and changes the limit of a [bulkhead](self), and limits what is no service.
pub type BulkheadHandle = AdmissionHandle<Fixed>;

/// Leave to have one call under way, from a [bulkhead](self). Dropping it makes room for the next.
pub type Permit = crate::middleware::admission::Permit<Fixed>;
