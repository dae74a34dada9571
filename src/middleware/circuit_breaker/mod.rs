//! Cuts off a dependency that fails, is slow or hangs, probes it, and lets it back in.
//!
//! Use it around every client of something that can be down: callers get an error at once instead of waiting for a
//! timeout, and the dependency is left alone while it gets up. Do not use it around something that has no other
//! state than working (a pure computation), nor as a limit on how many calls are made.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use stanchion::circuit_breaker::State;
//! use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Rejected, Window};
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let config = CircuitBreakerConfig::new().window(Window::calls(10)).min_calls(4).probes(1);
//! let layer = CircuitBreakerLayer::new(config).name("inventory");
//! let handle = layer.handle();
//! let mut service = layer.layer(service_fn(|ok: bool| async move {
//!     if ok { Ok("42 in stock") } else { Err(BoxError::from("connection reset")) }
//! }));
//!
//! for _ in 0..4 {
//!     let _ = service.ready().await?.call(false).await;
//! }
//! assert_eq!(handle.state(), State::Open);
//!
//! let refused = service.ready().await?.call(true).await.unwrap_err();
//! let rejected = Rejected::find(&*refused).expect("it was refused");
//! println!("{rejected}"); // rejected by inventory: circuit is open, retry after 4.7s
//!
//! tokio::time::sleep(Duration::from_secs(5)).await;
//! assert_eq!(service.ready().await?.call(true).await?, "42 in stock");
//! assert_eq!(handle.state(), State::Closed);
//! # Ok(())
//! # }
//! ```
//!
//! To protect work that is not a `Service` (a query, a publish), use the [handle](CircuitBreakerHandle):
//! `handle.run(query())`, or [`try_acquire`](CircuitBreakerHandle::try_acquire) and [`Permit::finish`].
//!
//! # How it decides
//!
//! ```text
//!             a ratio, or failures in a row                    too many probes fail
//!   closed ------------------------------------> open <------------------------------+
//!     ^                                         |    ^                               |
//!     |  ramp is over                           |    | it relapses                   |
//!     +---------------- recovering -------------|----+                               |
//!     ^                     ^                   | the wait is over, and a call comes |
//!     |                     |                   v                                    |
//!     +---------------------+--------------- half-open ------------------------------+
//!        no ramp              ramp             enough probes went well
//! ```
//!
//! * **Closed**: calls pass. Each that ends goes into the [`Window`](crate::Window), which is judged when that can
//!   change anything: the share of failures, the share of slow calls (those in flight for too long among them),
//!   and failures in a row. Reaching a threshold opens the circuit, from `min_calls` calls on.
//! * **Open**: calls are refused. Each opening without a recovery lasts longer, up to a cap, minus
//!   a random part; a `Retry-After` of the server may make it longer, up to the same cap. The next
//!   success forgets it, and it expires.
//! * **Half-open**: `probes` trial calls pass and are judged by the same ratios; the other calls are refused. A slow
//!   trial call counts as slow, also while it hangs. One that is lost gives its slot to another after `probe_timeout`.
//! * **Recovering**, with a `ramp`: a share of calls passes that grows from a tenth to all. Every verdict is judged: an
//!   outage opens the circuit again within some twenty calls, while failures below the threshold do not, for
//!   chance is given its due (three standard deviations).
//!
//! Whatever changes what a verdict needs asks for the verdict: the end of a call, one that hangs,
//! and another configuration.
//!
//! By hand it can be disabled, forced open, or made to observe only; see the [handle](CircuitBreakerHandle).
//!
//! # Readiness
//!
//! The circuit is asked before the service is. While it refuses, `poll_ready` says ready without asking the service,
//! and the next `call` is the refusal, also if the circuit has closed in between: the service was not asked
//! whether it is ready. With [`Readiness::Pending`] it is not ready, and the task is woken when the wait is over or
//! the state changes; leave to make a trial call is then taken in `poll_ready`, and given back when the service is
//! dropped. An error of the service's own `poll_ready` is passed on, and counts as a failed call unless it is a rejection by
//! a layer further in.
//!
//! # Sharing
//!
//! The layer owns the circuit. All services it makes, their clones and the clones of the layer share it;
//! [`with_new_state`](CircuitBreakerLayer::with_new_state) makes a layer with a circuit of its own.
//!
//! # Cancellation
//!
//! A call whose future is dropped was cancelled: no verdict, and a trial call's slot is free at once. If it had been slow
//! by then, it counts as a slow call. A panic of the service is a failure. An end that arrives in another state than
//! the one its call was admitted in changes nothing.
//!
//! # Deadlines
//!
//! A call that a layer further in gave up because its caller's deadline had passed is a failure if it had as much time as
//! calls usually take. With less time it says nothing about the service, and is as if it had been cancelled: callers with
//! little patience must not open the circuit for the others. If no call was answered for a minute it is a failure in any case,
//! and so are the trial calls of a half-open circuit, except for the first `probes` of them.
//! [`PastDeadline`] has the details, and switches the rule off.
//!
//! # Rejections
//!
//! [`Reason::CircuitOpen`](crate::Reason), with the time to the next trial call if there is one, and
//! [`Reason::Recovering`](crate::Reason). Neither has reached the service.
//!
//! # Events
//!
//! [`Event::Call`](crate::telemetry::Event) for each call that ended, `Rejected` for each refusal, `StateChanged` with the
//! cause, and `WouldChange` from a circuit that only observes. [`CircuitBreakerHandle::subscribe`] has the transitions
//! as values.

mod config;
mod control;
mod handle;
mod judging;
mod layer;
mod measures;
mod orders;
mod pass;
mod permit;
mod ramp;
mod service;
mod shared;
mod snapshot;
mod state;
mod transition;
mod trial;
mod usual;
mod verdict;
mod waiters;
mod waiting;
mod word;
pub use config::{CircuitBreakerConfig, PastDeadline};
pub use handle::CircuitBreakerHandle;
pub use layer::CircuitBreakerLayer;
pub use permit::Permit;
pub use service::{CircuitBreaker, Readiness};
pub use snapshot::{PersistedState, Snapshot};
pub use transition::{Cause, State, Transition};

#[cfg(all(test, stanchion_loom))]
mod model;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;

use crate::middleware::gate::{self, Admitted};

/// The future of a call through a [circuit breaker](self).
pub type ResponseFuture<F, P> = gate::ResponseFuture<F, Admitted<P, Permit>>;
