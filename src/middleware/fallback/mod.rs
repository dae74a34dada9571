//! Answers a failed call from somewhere else: a value, a function, another service, or the last good answer.
//!
//! Use it where a lesser answer is better than none: an empty list of recommendations, a price of a minute ago, a replica.
//! Do not use it where the caller has to know that something failed (an order, a payment), nor as a way to try the
//! same thing again, which is what [`retry`](crate::retry) is for. Put it outside of that and of all layers that refuse: inside
//! of them they would never see a failure.
//!
//! # Example
//!
//! ```
//! use stanchion::fallback::{Failure, Why};
//! use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Error, FallbackLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Error<std::fmt::Error>> {
//! let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
//! let operator = breaker.handle();
//! let fallback = FallbackLayer::with(|user: u32, failure: &Failure<String, Error<std::fmt::Error>>| match failure.why() {
//!     Why::Refused => Some(format!("bestsellers, for user {user} as for all")),
//!     _ => None,
//! })
//! .keep(|user: &u32| *user)
//! .name("recommendations");
//!
//! let service = ServiceBuilder::new()
//!     .layer(fallback)
//!     .layer(breaker)
//!     .service(service_fn(|user: u32| async move {
//!         if user == 0 { Err(Error::Inner(std::fmt::Error)) } else { Ok(format!("novels, for user {user}")) }
//!     }));
//!
//! assert_eq!(service.clone().oneshot(7).await?, "novels, for user 7");
//! assert_eq!(service.clone().oneshot(0).await, Err(Error::Inner(std::fmt::Error)));
//! operator.force_open();
//! assert_eq!(service.oneshot(7).await?, "bestsellers, for user 7 as for all");
//! # Ok(())
//! # }
//! ```
//!
//! The last good answer takes a key, by which a later request is known to ask for the same:
//!
//! ```
//! # use stanchion::{FallbackLayer, StaleConfig};
//! # use std::time::Duration;
//! # let _: FallbackLayer<stanchion::fallback::Stale<u32, String>, _> =
//! FallbackLayer::stale(StaleConfig::new().max_age(Duration::from_secs(300)), |item: &u32| Some(*item));
//! ```
//!
//! # How it decides
//!
//! ```text
//!   call ---> service ---> good, or nothing to do with it ------------------> handed out
//!                |                                                              ^
//!                +-------> refused, timed out, failed ---> not asked for -------+
//!                             |                                                 |
//!                             +---> fallback ---> has no answer, or fails ------+
//!                                       |
//!                                       +-------> answers ---> its answer is handed out
//! ```
//!
//! * A call needs the fallback if its outcome is not [good](crate::classify::Outcome::is_good): by default if it ends in an
//!   error, a rejection by a layer further in included; by the [protocol](FallbackLayer::protocol) for HTTP after a 503 and a 429
//!   too. [`on_rejections`](FallbackLayer::on_rejections) leaves only rejections, [`when`](FallbackLayer::when) has a
//!   predicate decide all.
//! * Where the fallback has no answer, the failure is handed out as it was. So it is if the fallback fails as well: its
//!   own error would hide what has to be mended.
//! * Nothing is kept of a request unless you [ask for it](FallbackLayer::keep), so no request needs to be `Clone`. An
//!   answer is cloned where there is no other way: a [value](FallbackLayer::value) when it is needed,
//!   a good answer when it is held to be given [again](FallbackLayer::stale).
//! * One fallback around another has the outer one answer what the inner one has no answer for.
//!
//! ## The last good answer
//!
//! A response whose outcome is a good success is held under its key, the last for each; any other never is. It is given again for as long as `max_age`. A new key takes the place of the answer that was stored
//! the longest time ago, once there are `max_keys`, or that one is too old. Many keys are held in up to sixteen parts,
//! each with a lock and a share of the room of its own, so that some places may still be free when the first answer has to go.
//!
//! It costs each good call that has a key a clone of the answer, a reading of the clock, and a lock for as long as it takes
//! to exchange two answers. No memory is allocated for that, but for a key that has no answer yet while there is room, and for
//! one whose answer is being given at that moment. Keys are compared and answers cloned outside of the lock, by several
//! callers at a time: a layer that threads share needs both to be `Sync`.
//!
//! # Readiness
//!
//! That of the service inside, whose errors in `poll_ready` are passed on: there is no request yet that could be answered. The
//! service that is a fallback is asked when it is needed, and has to be ready within
//! [`ready_within`](FallbackLayer::ready_within).
//!
//! # Sharing
//!
//! The layer owns the fallback, and the answers that are held. All services it makes, their clones and the clones of the
//! layer share them.
//!
//! # Cancellation
//!
//! Dropping the future drops the call under way, or that of the fallback. A panic of the service is passed on.
//!
//! # Rejections
//!
//! None of its own.
//!
//! # Events
//!
//! [`Event::Action`](crate::telemetry::Event) for each failure that needed a fallback: `FellBack`, `ServedStale` or
//! `NoFallback`. [`Event::Stale`](crate::telemetry::Event) says how old a last good answer was. The caller is not told, unless
//! by the answer: [`mark`](FallbackLayer::mark) is there to put it into one that is given again, and all others you make yourself.

mod answer;
mod by_service;
mod config;
mod failure;
mod future;
mod handle;
mod keep;
mod layer;
mod service;
mod shared;
mod stale;
mod store;
mod when;

pub use answer::{Answer, Reply, Value, With};
pub use by_service::{ByService, Serving};
pub use config::StaleConfig;
pub use failure::{Failure, Why};
pub use future::ResponseFuture;
pub use handle::StaleHandle;
pub use keep::{Keep, Nothing};
pub use layer::FallbackLayer;
pub use service::Fallback;
pub use stale::Stale;
pub use when::When;

#[cfg(all(test, not(stanchion_loom)))]
mod tests;
