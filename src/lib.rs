//! Resilience middleware for tower.
pub mod circuit_breaker;
pub mod classify;
mod clock;
mod config;
mod error;
mod in_flight;
mod macros;
mod numbered;
mod sync;
pub mod telemetry;
mod window;
pub use circuit_breaker::{CircuitBreaker, CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer};
pub use config::{InvalidConfig, Ratio};
pub use error::{Error, Reason, Rejected};
pub use window::Window;
