use std::marker::PhantomData;
use std::sync::Arc;

use super::algorithm::Algorithm;
use super::config::AdaptiveLimitConfig;
use super::meter::Meter;
use crate::admission::{AdmissionConfig, AdmissionLayer, Change, Ended, Limit};
use crate::clock::Timestamp;
use crate::config::{InvalidConfig, Live};
use crate::error::Reason;

/// A [limit that finds itself](super), by what an algorithm makes of the calls.
#[derive(Debug)]
pub struct Adaptive<A> {
    meter: Live<Meter>,
    algorithm: PhantomData<fn() -> A>,
}

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
        Self { meter: Live::new(Arc::new(meter)), algorithm: PhantomData }
    }

    fn first(config: &Self::Config) -> u32 {
        config.initial_limit
    }

    /// What has been learned stays, unless there is another algorithm; the limit stays, as far as it may.
    fn reconfigure(&self, change: &Change<'_, Self::Config>) -> u32 {
        let Change { before, after, now, limit } = *change;
        let admission = after.admission.clone();
        if (AdaptiveLimitConfig { admission, ..before.clone() }) == *after {
            return limit;
        }
        let limit = limit.clamp(after.min_limit, after.max_limit);
        let algorithm = Box::new(after.algorithm.clone());
        let meter = if before.algorithm == after.algorithm {
            Meter::going_on(&self.meter.read(), after, algorithm, now)
        } else {
            Meter::new(&after.clone().initial_limit(limit), algorithm, now)
        };
        self.meter.swap(Arc::new(meter));
        limit
    }

    #[inline]
    fn ended(&self, call: &Ended) -> Option<u32> {
        self.meter.read().ended(call)
    }
}

impl<A: Algorithm + Clone + PartialEq + Sync, C, W, P> AdmissionLayer<Adaptive<A>, C, W, P> {
    /// Decides how a call ended, and when: a [`Classify`](crate::classify::Classify), or a closure. Default: every error is a
    /// failure, and a call ends when the head of its response is there. For HTTP there is
    /// `classify::http::HttpClassifier`.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> AdmissionLayer<Adaptive<A>, D, W, P> {
        self.classified(classify)
    }
}
