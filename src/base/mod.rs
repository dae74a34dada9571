//! The ground: atomics and locks, time, and words that all counters are made of.

pub(crate) mod buckets;
pub(crate) mod clock;
pub(crate) mod epoch_count;
pub(crate) mod sync;
