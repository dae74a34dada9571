//! Who is let in while there is a limit, who waits for room, and who is turned away.
//!
//! This is what [bulkheads](crate::bulkhead) and [adaptive limits](crate::adaptive_limit) do, whichever way the limit is found. What a call [claims](Claim) decides:
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
//! Those who wait stand in lanes, one for each [criticality](Criticality) and [tenant](Tenant). Whenever there is room, the
//! highest criticality is served that has anybody waiting; of this, one lane after the other, so that tenants have equal
//! parts; and of the lane whom the [discipline](Discipline) says. Who could not be served within its deadline any more is turned
//! away then, and so is who has waited for too long.
//!
//! If the queue is full, it is as if the new one had joined, and then the longest lane of the lowest criticality had lost
//! the one who would be served last: a tenant with many calls keeps nobody else out, and calls that matter take the places
//! of those that do not. A lane is forgotten when it is empty, so what is kept of tenants is bounded by the places.
//!
//! # Choosing
//!
//! - A queue without a discipline smooths bursts. When more comes than can be served for long, all that it holds is late.
//! - With [`Discipline::adaptive_lifo`] or [`Discipline::controlled_delay`], or deadlines and a measured
//!   [`min_remaining`](AdmissionConfig::min_remaining), it does no harm then.
//! - [`Headroom`] makes room for critical calls without making them wait. It takes some of the limit from the others.

pub(crate) mod config;
mod future;
mod handle;
mod layer;
mod limit;
mod parked;
mod permit;
mod place;
mod service;
mod shared;
mod usual;

pub use config::{AdmissionConfig, Headroom};
pub use future::ResponseFuture;
pub use handle::{AdmissionHandle, Snapshot};
pub use layer::AdmissionLayer;
pub use limit::{Change, Ended, Limit};
pub use parked::{Given, Parked, Refuse, Wait};
pub use permit::Permit;
pub use service::Admission;

pub use crate::latency::MinRemaining;
pub use crate::permits::Discipline;
pub use crate::protocol::{Claim, Claims, Criticality, Tenant};

#[cfg(all(test, not(stanchion_loom)))]
mod tests;
