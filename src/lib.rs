// The targets of the README's links in rustdoc. Markdown takes the first of two definitions of a link,
// so these replace the definitions in the README, which are for repository and registry pages.
#![doc = concat!("[plot]: ", include_str!("docs/overload.uri"))]
//!
//! [CHANGELOG]: https://docs.rs/crate/stanchion/latest/source/CHANGELOG.md
//! [DESIGN]: https://docs.rs/crate/stanchion/latest/source/DESIGN.md
//! [CONTRIBUTING]: https://docs.rs/crate/stanchion/latest/source/CONTRIBUTING.md
//! [settings]: docs::settings
//! [composition]: docs::composition
//! [operation]: docs::operation
//! [Performance]: docs::performance
//! [`circuit_breaker`]: mod@circuit_breaker
//! [`timeout`]: mod@timeout
//! [`retry`]: mod@retry
//! [`hedge`]: mod@hedge
//! [`fallback`]: mod@fallback
//! [`bulkhead`]: mod@bulkhead
//! [`adaptive_limit`]: mod@adaptive_limit
//! [`admission`]: mod@admission
//! [`rate_limit`]: mod@rate_limit
//! [`throttle`]: mod@throttle
//! [`budget`]: mod@budget
//! [`backoff`]: mod@backoff
//! [`protocol`]: mod@protocol
//! [`classify`]: mod@classify
//! [`error`]: mod@error
//! [`telemetry`]: mod@telemetry
//! [`docs`]: mod@docs
//! [`respond`]: mod@respond
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod base;
pub mod classify;
mod compat;
mod config;
mod deadline;
pub mod docs;
pub mod error;
#[cfg(feature = "http")]
mod grpc;
#[cfg(feature = "http")]
pub mod http;
mod middleware;
mod primitives;
pub mod protocol;
pub mod telemetry;

pub use middleware::{
    adaptive_limit, admission, bulkhead, circuit_breaker, fallback, hedge, rate_limit, respond, retry,
    throttle, timeout,
};
pub use primitives::{backoff, budget};

pub use adaptive_limit::{AdaptiveLimit, AdaptiveLimitConfig, AdaptiveLimitHandle, AdaptiveLimitLayer};
pub use admission::{AdmissionConfig, PartitionConfig, PriorityShares, QueueDiscipline};
pub use backoff::{Backoff, Jitter};
pub use budget::{Budget, BudgetConfig};
pub use bulkhead::{Bulkhead, BulkheadConfig, BulkheadHandle, BulkheadLayer};
pub use circuit_breaker::{
    CircuitBreaker, CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer, Readiness,
};
#[cfg(feature = "tower-retry")]
pub use compat::TowerPolicy;
pub use config::InvalidConfig;
pub use deadline::Deadline;
pub use error::{CarryRejected, Error, Reason, Rejected};
pub use fallback::{Fallback, FallbackLayer, StaleConfig, StaleHandle};
pub use hedge::{Hedge, HedgeConfig, HedgeHandle, HedgeLayer};
pub use middleware::respond::{Respond, RespondLayer, respond};
pub use primitives::window::Window;
pub use protocol::{CallAttributes, Criticality, Partition, Tenant};
pub use rate_limit::{RateLimit, RateLimitConfig, RateLimitHandle, RateLimitLayer};
pub use retry::{Retry, RetryConfig, RetryHandle, RetryLayer};
pub use throttle::{Throttle, ThrottleConfig, ThrottleHandle, ThrottleLayer};
pub use timeout::{Timeout, TimeoutConfig, TimeoutHandle, TimeoutLayer};
