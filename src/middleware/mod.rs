//! The middlewares. They do not import one another, except that bulkhead and adaptive limit share
//! [`admission`].

pub mod adaptive_limit;
pub mod admission;
pub mod bulkhead;
pub mod circuit_breaker;
pub mod fallback;
pub(crate) mod gate;
pub mod hedge;
pub(crate) mod macros;
pub mod rate_limit;
pub mod respond;
pub mod retry;
pub mod throttle;
pub mod timeout;
