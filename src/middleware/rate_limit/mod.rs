//! Lets no more calls begin than a quota allows: of one service, or of each of its callers.
//!
//! Use it on a client to keep within what a provider sells, and on a server to keep one caller from taking what is there for
//! all. Do not use it against overload: what a service can do changes, and how long calls take says more of it than their
//! number.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//!
//! use stanchion::rate_limit::Quota;
//! use stanchion::{Error, RateLimitLayer, Reason};
//! use tower::{Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let layer = RateLimitLayer::new(Quota::per_second(10).burst(2)).name("geocoder");
//! let mut service = layer.layer(service_fn(|place: &'static str| async move { Ok::<_, Error<Infallible>>(place) }));
//!
//! for place in ["Berlin", "Tokyo"] {
//!     assert!(service.ready().await.unwrap().call(place).await.is_ok());
//! }
//! let error = service.ready().await.unwrap().call("Lima").await.unwrap_err();
//! let rejected = error.rejected().expect("it was refused");
//! assert_eq!(rejected.reason(), Reason::RateLimited);
//! assert_eq!(rejected.retry_after(), Some(Duration::from_millis(100)));
//! # }
//! ```
//!
//! With a quota for each caller, and a cost of each request:
//!
//! ```
//! # use stanchion::rate_limit::Quota;
//! # use stanchion::RateLimitLayer;
//! struct Request {
//!     tenant: u64,
//!     rows: u32,
//! }
//!
//! let layer = RateLimitLayer::keyed(Quota::per_minute(6_000), |request: &Request| Some(request.tenant))
//!     .cost(|request: &Request| request.rows);
//! ```
//!
//! # How it decides
//!
//! ```text
//!  call -- key, cost --> [ GCRA: one word ] --- room now ---------------> service
//!                               |--- within max_wait and deadline -----> waits --> service     (waits)
//!                               '------------- else -------------------> refused, retry_after
//! ```
//!
//! The generic cell rate algorithm, on tokio's clock. It allows just what a bucket of `burst` tokens does that is filled evenly:
//! in any stretch of time `T` come the turns of calls that cost at most `burst + rate * T`, and there is no edge of a window at
//! which it would be twice as much. It takes a reading of the clock and one atomic operation for each call; with keys, a lock
//! that few others want.
//!
//! Layers that [wait](RateLimitLayer::waits) give each call its turn when it comes, so calls are served in that order, and each
//! sleeps once. tokio's timers fire by the millisecond, so the turns of one begin together at its end; and a service that is not
//! ready when the turn has come is called as soon as it is, so all calls whose turns came in the meantime may begin at once. If
//! that is too much for it, put a limit on the calls under way [inside](crate::bulkhead). With a
//! [protocol](RateLimitLayer::protocol) that tells deadlines no call waits in vain: one whose turn does not come before its deadline is refused at once, and
//! takes nothing of the quota. Nobody else's deadline is looked up.
//!
//! A [change](RateLimitHandle::reconfigure) of the quota forgets nothing, however often it is made: turns that were given keep
//! their time, and what was used stays used.
//!
//! # Keys
//!
//! A key takes up room only for as long as its quota is not untouched again. Idle ones are forgotten, which changes nothing
//! for them: at once if there is no other room, else little by little as calls come in, after as long again as a burst takes
//! to come back. No call does more than a few steps of that work, so with many thousand keys in use a new one may have to come
//! again before an idle one is found. With [`max_keys`](RateLimitConfig::max_keys) that are not idle another key is
//! refused: forgetting one of those would give it a quota anew, and an attacker with many keys any number of
//! them. Choose keys that cannot be made up, such as an account and not a header.
//!
//! # Readiness
//!
//! That of the service inside. The quota is asked in `call`, so a service that is ready and dropped has used none of it. A
//! refusal leaves the service inside ready. A call that waits gives its readiness up, and the clone of the service that it
//! calls becomes ready when the turn has come.
//!
//! # Sharing
//!
//! The layer owns the quota: all services it makes, their clones and the clones of the layer share it, so one
//! layer around all routes is one quota. What is used is not shared between processes: divide the quota among them.
//!
//! # Cancellation
//!
//! A call that was let through has used its cost, whatever comes of it. One that is dropped while it waits gives its cost
//! back if no call has come after it. Otherwise the cost is lost, since the others have been told their time.
//!
//! # Rejections
//!
//! [`Reason::RateLimited`](crate::Reason), with the exact time after which the call would be let through if no other came before it.
//! There is no such time for a call that costs more than a whole burst. [`Reason::TooManyKeys`](crate::Reason) if there is no room for
//! another key, with the time after which there may be. [`Reason::DeadlineExceeded`](crate::Reason) if the wait would have ended no sooner
//! than the deadline, with the time that was left to it. None of them has reached the service.
//!
//! # Events
//!
//! [`Event::Rejected`](crate::telemetry::Event), [`Event::Keys`](crate::telemetry::Event) when the number of keys
//! has changed, and [`Action::Waited`](crate::telemetry::Action) for each call that begins to wait.

mod config;
mod future;
mod handle;
mod keys;
mod layer;
mod quotas;
mod scope;
mod service;
mod shared;
mod state;
mod store;
mod waiting;
mod word;

pub use config::{Quota, RateLimitConfig};
pub use future::ResponseFuture;
pub use handle::RateLimitHandle;
pub use layer::RateLimitLayer;
pub use scope::{KeyExtractor, RequestCost, SharedQuota, UnitCost};
pub use service::{RateLimit, Refuses, Waits};
pub use waiting::WaitingFuture;

#[cfg(all(test, stanchion_loom))]
mod model;
#[cfg(all(test, stanchion_shuttle))]
mod schedules;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;
