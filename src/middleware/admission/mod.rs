//! Who is let in while there is a limit, who waits for room, and who is turned away.
//!
//! This is what [bulkheads](crate::bulkhead) and [adaptive limits](crate::adaptive_limit) do, whichever way the limit is
//! found. The [attributes](CallAttributes) of a call decide:
//!
//! ```text
//!   call -- too little time is left until its deadline ----------------------------------> refused
//!     |
//!     +---- within the share of the limit that calls that matter as much may use --------> permit
//!     |     (headroom), and nobody waits who matters as much
//!     |
//!     +---- otherwise: refused, or it waits, if there is a place --------------------------> its turn
//!               a full queue loses the last of the longest lane                            permit
//! ```
//!
//! # The queue
//!
//! Those who wait stand in lanes, one for each [criticality](Criticality) and [tenant](Tenant).
//! Whenever there is room, the highest criticality is served that has anybody waiting; of this, one
//! lane after the other, so that tenants have equal parts; and of the lane whom the
//! [discipline](QueueDiscipline) says. Who could not be served within its deadline any more is turned
//! away then, and so is who has waited for too long. A discipline detects overload for each lane,
//! and for all lanes of a criticality and partition together, so it works for one tenant as for ten
//! thousand, and no tenant alone can have the calls of others dropped.
//!
//! If the queue is full, it is as if the new one had joined, and then the longest lane of the lowest criticality had lost
//! the one who would be served last: a tenant with many calls keeps nobody else out, and calls that matter take the places
//! of those that do not. A lane is forgotten when it is empty, so what is kept of tenants is bounded by the places.
//!
//! A call whose turn it is and that is not polled for 100 ms, because its future is kept in a
//! variable or its task is busy, loses its turn if another call waits. It keeps its place, and
//! waits again once it is polled. A call that is under way keeps its permit, polled or not; so does
//! a service made by `backpressure` that said it is ready, until it is called or dropped.
//!
//! # Partitions
//!
//! A limit can be divided into [partitions](AdmissionConfig::partitions), so that one kind of calls cannot take all of it
//! from another. Each has a share, and lends others a part of it while it is idle; the rest is kept for it:
//!
//! ```text
//! kept = limit * share * (1 - lends), rounded up
//! ```
//!
//! A call is let in if fewer calls of its partition are under way than are kept for it, or if the limit leaves one over
//! besides all that is kept and not used. So a partition has at once what is kept for it, whatever others do, and the rest
//! is for whoever comes first.
//!
//! The limit is never exceeded, not even for what is kept. If it is lowered, what is kept shrinks
//! with it, and a call of a partition may find more calls under way than the limit allows: then it
//! is refused or waits like all others, and as calls end those partitions come first that have less
//! than is kept for them. Calls that must not be refused even then, such as health checks, can be
//! [exempt](CallAttributes::exempt). If there is not one call for each partition, those that are named first
//! have theirs, but one call is left for the others: while none is under way, a call of any
//! partition is let in. So it is if rounding up would keep all of the limit, although some of it is
//! lent or in no partition. A call of no partition, or of one that is unknown, has what is kept for nobody. A
//! call for which there can be no room, since all of the limit is kept for others, does not wait:
//! it is refused at once.
//!
//! ```
//! use stanchion::{BulkheadConfig, BulkheadLayer, CallAttributes, Partition, PartitionConfig};
//!
//! const BATCH: Partition = Partition::named("batch");
//!
//! let config = BulkheadConfig::new().max_in_flight(10).partitions([
//!     PartitionConfig::new("live", 0.7).lends(0.4),
//!     PartitionConfig::new("batch", 0.3).lends(1.0),
//! ]);
//! let handle = BulkheadLayer::new(config).handle();
//! let batches: Vec<_> =
//!     std::iter::from_fn(|| handle.try_acquire_for(&CallAttributes::new().partition(BATCH)).ok()).collect();
//! assert_eq!(batches.len(), 5); // 4.2, rounded up, are kept for what is live
//! ```
//!
//! A call that waits keeps none of another partition from what is kept for that. With [`PriorityShares`]
//! a level has its share of what is kept for nobody, and once that is used up its share of what is
//! kept for its partition: in both there is room for calls that matter more. If half of a limit of
//! 100 is kept for one partition, sheddable calls of no partition may be 25 at a time with
//! [`PriorityShares::RECOMMENDED`], whether or not what is kept is used. A layer made by `backpressure`, which
//! takes permits ahead of calls, has no partitions.
//!
//! They differ from the partitions of Netflix's concurrency-limits, which let anybody in below the limit, and above it each
//! partition up to its share: what one has borrowed there comes on top of the limit, up to nearly as much again.
//!
//! # Exemption
//!
//! A call that must not be refused for lack of room, such as a health check, can claim to be
//! [exempt](CallAttributes::exempt), if [`admit_exempt`](AdmissionConfig::admit_exempt) is set: it is let in
//! at once, whatever the limit is and whoever waits. It counts as under way.
//!
//! ```
//! use stanchion::{BulkheadConfig, BulkheadLayer, CallAttributes};
//!
//! let handle = BulkheadLayer::new(BulkheadConfig::new().max_in_flight(1).admit_exempt(true)).handle();
//! let call = handle.try_acquire()?;
//! let check = handle.try_acquire_for(&CallAttributes::new().exempt(true))?;
//! assert_eq!(handle.snapshot().in_flight, 2);
//! # Ok::<_, stanchion::Rejected>(())
//! ```
//!
//! # Choosing
//!
//! - A queue without a discipline smooths bursts. When more comes than can be served for long, all that it holds is late.
//! - With [`QueueDiscipline::adaptive_lifo`] or [`QueueDiscipline::controlled_delay`], or deadlines and a measured
//!   [`min_remaining`](AdmissionConfig::min_remaining), it does no harm then.
//! - Partitions are for kinds of calls that are known beforehand, such as batches; tenants that come and go have equal parts
//!   of the queue without them. What is kept and not used is lost: keep what a burst needs at once, and lend the rest.
//! - [`PriorityShares`] makes room for critical calls without making them wait. It takes some of the limit from the others.

pub(crate) mod config;
mod handle;
mod layer;
pub(crate) mod limit;
mod lookout;
mod note;
mod parked;
mod partitions;
mod permit;
mod place;
mod refusals;
mod service;
mod shared;
mod usual;
mod waiting;

pub use config::{AdmissionConfig, PriorityShares};
pub use handle::{AdmissionHandle, Snapshot};
pub use layer::AdmissionLayer;
pub use limit::{Change, Ended, Full, Limit};
pub use parked::{Given, Parked, Refuse, Wait};
pub use partitions::{PartitionConfig, PartitionSnapshot};
pub use permit::Permit;
pub use service::Admission;

pub use crate::primitives::latency::MinRemaining;
pub use crate::primitives::semaphore::QueueDiscipline;
pub use crate::protocol::{CallAttributes, Criticality, Partition, RequestContext, Tenant};

#[cfg(all(test, not(stanchion_loom)))]
mod tests;

use crate::middleware::gate;
use crate::protocol::AnyRequest;

/// The future of a call through a service with a [limit](self); `W` is the wait of a call that finds no room.
pub type ResponseFuture<F, A, W> = gate::ResponseFuture<F, A, W>;

/// The future of a call that an [`AdmissionHandle`] runs.
pub type Running<F, L> =
    gate::ResponseFuture<F, gate::Admitted<AnyRequest, Permit<L>>, Parked<Given<F>, AnyRequest, L>>;
