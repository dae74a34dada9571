use std::marker::PhantomData;

use super::algorithm::Algorithm;
use super::config::AdaptiveLimitConfig;
use super::meter::Meter;
use crate::base::clock::Timestamp;
use crate::base::sync::planted;
use crate::config::InvalidConfig;
use crate::error::Reason;
use crate::middleware::admission::limit::sealed::Sealed;
use crate::middleware::admission::{AdmissionConfig, Change, Ended, Full, Limit};

/// A [limit that finds itself](super), by what an algorithm makes of the calls.
#[derive(Debug)]
pub struct Adaptive<A> {
    meter: Meter,
    algorithm: PhantomData<fn() -> A>,
}

impl<A> Sealed for Adaptive<A> {}

impl<A: Algorithm + Clone + PartialEq + Sync> Limit for Adaptive<A> {
    type Config = AdaptiveLimitConfig<A>;

    const MODULE: &'static str = "adaptive_limit";
    const FULL: Reason = Reason::LimitReached;
    const TIMEOUT: Reason = Reason::LimitTimeout;
    const LEARNS: bool = true;

    fn validate(config: &Self::Config) -> Result<(), InvalidConfig> {
        config.validate()
    }

    fn admission(config: &Self::Config) -> &AdmissionConfig {
        &config.admission
    }

    fn new(config: &Self::Config) -> Self {
        let meter = Meter::new(config, Box::new(config.algorithm.clone()), Timestamp(0));
        Self { meter, algorithm: PhantomData }
    }

    fn first(config: &Self::Config) -> u32 {
        config.initial_limit
    }

    fn reconfigure(&self, change: &Change<'_, Self::Config>, set: impl FnOnce(u32)) {
        let Change { before, after, now } = *change;
        let admission = after.admission.clone();
        if (AdaptiveLimitConfig { admission, ..before.clone() }) != *after {
            let is_other = before.algorithm != after.algorithm;
            let other = is_other.then(|| Box::new(after.algorithm.clone()) as Box<dyn Algorithm>);
            self.meter.reconfigure(after, other, now);
        }
        self.meter.publish(set);
    }

    #[inline]
    fn ended(&self, call: &Ended, set: impl FnOnce(u32)) -> bool {
        let Some(found) = self.meter.ended(call) else { return false };
        if planted!("limit_set_out_of_order") {
            set(found);
        } else {
            self.meter.publish(set);
        }
        true
    }

    #[inline]
    fn finds_no_room(&self, full: Full, set: impl FnOnce(u32)) -> bool {
        let is_found = self.meter.finds_no_room(full).is_some();
        if is_found {
            self.meter.publish(set);
        }
        is_found
    }
}
