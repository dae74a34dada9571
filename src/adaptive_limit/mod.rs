//! A limit of calls in flight that finds itself.

mod algorithm;
mod config;
mod histogram;
mod meter;

pub use algorithm::{Aimd, Algorithm, Gradient, Gradient2, Next, Sample, Vegas};
pub use config::AdaptiveLimitConfig;

#[cfg(all(test, stanchion_loom))]
mod model;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;
