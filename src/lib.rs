#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod adaptive_limit;
pub mod admission;
pub mod backoff;
#[cfg(feature = "balance")]
mod balance;
mod buckets;
pub mod budget;
pub mod bulkhead;
pub mod circuit_breaker;
pub mod classify;
mod clock;
mod config;
mod deadline;
pub mod docs;
pub mod error;
pub mod fallback;
#[cfg(feature = "http")]
pub mod headers;
pub mod hedge;
mod in_flight;
mod latency;
mod macros;
mod numbered;
mod permits;
pub mod protocol;
pub mod rate_limit;
#[cfg(feature = "http")]
pub mod replay_body;
pub mod respond;
pub mod retry;
mod sync;
pub mod telemetry;
pub mod throttle;
pub mod timeout;
#[cfg(feature = "tower-retry")]
mod tower_policy;
mod window;

pub use adaptive_limit::{AdaptiveLimit, AdaptiveLimitConfig, AdaptiveLimitHandle, AdaptiveLimitLayer};
pub use admission::{AdmissionConfig, Discipline, Headroom, PartitionConfig};
pub use backoff::{Backoff, Jitter};
pub use budget::{Budget, BudgetConfig};
pub use bulkhead::{Bulkhead, BulkheadConfig, BulkheadHandle, BulkheadLayer};
pub use circuit_breaker::{
    CircuitBreaker, CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer, Readiness,
};
pub use config::InvalidConfig;
pub use deadline::Deadline;
pub use error::{CarryRejected, Error, Reason, Rejected};
pub use fallback::{Fallback, FallbackLayer, StaleConfig, StaleHandle};
pub use hedge::{Hedge, HedgeConfig, HedgeHandle, HedgeLayer};
pub use protocol::{Claim, Criticality, Partition, Tenant};
pub use rate_limit::{RateLimit, RateLimitConfig, RateLimitHandle, RateLimitLayer};
pub use respond::{Respond, RespondLayer, respond};
pub use retry::{Retry, RetryConfig, RetryHandle, RetryLayer};
pub use throttle::{Throttle, ThrottleConfig, ThrottleHandle, ThrottleLayer};
pub use timeout::{Timeout, TimeoutConfig, TimeoutHandle, TimeoutLayer};
#[cfg(feature = "tower-retry")]
pub use tower_policy::TowerPolicy;
pub use window::Window;
