//! Counters, windows, queues and budgets, of which the middlewares are made. They know no service and no request.

pub mod backoff;
pub mod budget;
pub(crate) mod in_flight;
pub(crate) mod latency;
pub(crate) mod semaphore;
pub(crate) mod window;
