//! A fallback for failed calls: a value, a function, another service, or the last good response.
//!
//! Use it where a lesser response is better than none: an empty list of recommendations, a price
//! from a minute ago, a replica. Do not use it where the caller must know about the failure (an
//! order, a payment), or to repeat the same call, which is what [`retry`](crate::retry) does. Add
//! it outside of `retry` and of all layers that reject calls: inside of them, it would not see
//! their rejections.
//!
//! # Example
//!
//! ```
//! use stanchion::fallback::{Failure, FailureKind};
//! use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Error, FallbackLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Error<std::fmt::Error>> {
//! let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
//! let operator = breaker.handle();
//! let fallback = FallbackLayer::with(|user: u32, failure: &Failure<String, Error<std::fmt::Error>>| match failure.kind() {
//!     FailureKind::Rejected => Some(format!("bestsellers, for user {user} as for all")),
//!     _ => None,
//! })
//! .keep(|user: &u32| *user)
//! .name("recommendations");
//!
//! let service = ServiceBuilder::new()
//!     .layer(fallback)
//!     .layer(breaker)
//!     .service(service_fn(|user: u32| async move {
//!         match user {
//!             0 => Err(Error::Inner(std::fmt::Error)),
//!             _ => Ok(format!("novels, for user {user}")),
//!         }
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
//! To store the last good response, the layer needs a key that identifies equal requests:
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
//!   call ---> service ---> good, or not the service's fault -------------------> returned
//!                |                                                                 ^
//!                +-------> rejected, timed out, failed ---> no fallback wanted ----+
//!                             |                                                    |
//!                             +---> fallback ---> has no response, or fails -------+
//!                                       |
//!                                       +-------> responds ---> its response is returned
//! ```
//!
//! * A call needs the fallback if its outcome is not [good](crate::classify::Outcome::is_good). By
//!   default that is the case if it ends in an error, including rejections by inner layers. With
//!   the [protocol](FallbackLayer::protocol) for HTTP, it is also the case after responses such as
//!   503 and 429. [`on_rejections`](FallbackLayer::on_rejections) limits the fallback to
//!   rejections, and [`when`](FallbackLayer::when) sets a predicate.
//! * If the fallback has no response, or fails as well, the failure of the service is returned
//!   unchanged. The fallback's own error would hide the cause.
//! * Nothing is saved of a request unless you [ask for it](FallbackLayer::keep), so requests need
//!   not be `Clone`. A response is cloned in two cases: a [value](FallbackLayer::value) when it is
//!   returned, and a good response when it is [stored](FallbackLayer::stale).
//! * With nested fallbacks, the outer one responds when the inner one has no response.
//!
//! ## The last good response
//!
//! The layer stores the latest good response for each key and no other. A stored response is
//! returned until it is older than `max_age`. A new key replaces the oldest response if `max_keys`
//! are stored, or if that response has expired. Large stores are split into up to 16 parts, each
//! with its own lock and an equal share of the capacity. A part may therefore be full, and replace
//! its oldest response, while other parts still have room.
//!
//! Each good call with a key costs a clone of the response, a reading of the clock, and a lock that
//! is held while two responses are exchanged. Memory is allocated only for a new key while there is
//! room, and for a key whose response is being read by another call. Keys are compared and
//! responses cloned outside of the lock, by several callers at the same time. Both must be `Sync`
//! to share the layer between threads.
//!
//! # Readiness
//!
//! The readiness of the inner service. Its errors from `poll_ready` are passed on, since there is
//! no request yet to respond to. A fallback service is polled only when it is needed, and must
//! become ready within [`ready_within`](FallbackLayer::ready_within).
//!
//! # Sharing
//!
//! The layer owns the fallback and the stored responses. All services that it creates, their clones
//! and the clones of the layer share them.
//!
//! # Cancellation
//!
//! Dropping the future drops the call to the service or to the fallback. A panic of the service is
//! passed on.
//!
//! # Rejections
//!
//! The layer rejects no calls.
//!
//! # Events
//!
//! [`Event::Action`](crate::telemetry::Event) for each failure that needed a fallback: `FellBack`,
//! `ServedStale` or `NoFallback`. [`Event::Stale`](crate::telemetry::Event) reports the age of a
//! stored response. The caller sees no difference unless the response shows it: use
//! [`mark`](FallbackLayer::mark) for stored responses, and set it yourself in all others.

mod answer;
mod config;
mod failure;
mod fallback_service;
mod future;
mod handle;
mod layer;
mod predicate;
mod save_request;
mod service;
mod shared;
mod stale;
mod store;

pub use answer::{Answer, FallbackFn, Reply, Value};
pub use config::StaleConfig;
pub use failure::{Failure, FailureKind};
pub use fallback_service::{FallbackService, Serving};
pub use future::ResponseFuture;
pub use handle::StaleHandle;
pub use layer::FallbackLayer;
pub use predicate::FallbackPredicate;
pub use save_request::{SaveNothing, SaveRequest};
pub use service::Fallback;
pub use stale::Stale;

#[cfg(all(test, not(stanchion_loom)))]
mod tests;
