//! Circuit breaker.
mod config;
mod control;
mod future;
mod handle;
mod layer;
mod measures;
mod permit;
mod service;
mod shared;
mod snapshot;
mod state;
mod transition;
mod trial;
mod verdict;
mod waiting;
pub use config::CircuitBreakerConfig;
pub use future::ResponseFuture;
pub use handle::CircuitBreakerHandle;
pub use layer::CircuitBreakerLayer;
pub use permit::Permit;
pub use service::{CircuitBreaker, Readiness};
pub use snapshot::{Saved, Snapshot};
pub use transition::{Cause, State, Transition};

#[cfg(all(test, stanchion_loom))]
mod model;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;
