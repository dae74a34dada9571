//! Adapters for other crates: tower's load balancer and tower's retry.

#[cfg(feature = "balance")]
mod balance;
#[cfg(feature = "tower-retry")]
mod tower_policy;

#[cfg(feature = "tower-retry")]
pub use tower_policy::TowerPolicy;
