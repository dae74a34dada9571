use std::sync::Arc;
use std::time::Duration;

use super::Latencies;
use crate::base::clock::{Timestamp, nanos};
use crate::config::InvalidConfig;

/// How much time must be left for a call to be made.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum MinRemaining {
    /// So much. Zero: any.
    Fixed(Duration),
    /// As much as this share of calls took at most, of late; above 0, below 1. With 0.5, a call is not made that would
    /// more likely than not be too late. Any, until that is known for a hundred calls.
    Measured(f64),
}

impl MinRemaining {
    pub(crate) const fn quantile(self) -> Option<f64> {
        match self {
            Self::Measured(quantile) => Some(quantile),
            Self::Fixed(_) => None,
        }
    }

    pub(crate) fn validate(self, field: &'static str) -> Result<(), InvalidConfig> {
        self.quantile().map_or(Ok(()), |quantile| quantile_of(field, quantile))
    }
}

/// A quantile that can be measured.
pub(crate) fn quantile_of(field: &'static str, given: f64) -> Result<(), InvalidConfig> {
    if given > 0.0 && given < 1.0 {
        Ok(())
    } else {
        Err(InvalidConfig::new(field, given, "a number above 0 and below 1"))
    }
}

/// How much time is needed, with what it takes to know.
#[derive(Clone, Debug)]
pub(crate) struct Needed {
    rule: MinRemaining,
    measured: Option<Arc<Latencies>>,
}

impl Needed {
    /// With fewer, a high quantile is the accident of one call.
    pub(crate) const MIN_SAMPLES: u32 = 100;

    /// By calls that ended within `window`. What was measured `before` stays of use as long as the question is the same.
    pub(crate) fn new(rule: MinRemaining, window: Duration, before: Option<&Self>) -> Self {
        let kept = before.filter(|before| before.rule == rule).and_then(|before| before.measured.clone());
        let new = |quantile| Arc::new(Latencies::new(quantile, window, Self::MIN_SAMPLES));
        Self { rule, measured: kept.or_else(|| rule.quantile().map(new)) }
    }

    pub(crate) const fn is_measured(&self) -> bool {
        self.measured.is_some()
    }

    /// In nanoseconds.
    pub(crate) fn at(&self, now: Timestamp) -> u64 {
        match (self.rule, &self.measured) {
            (MinRemaining::Fixed(needed), _) => nanos(needed),
            (MinRemaining::Measured(_), measured) => {
                measured.as_ref().and_then(|measured| measured.quantile(now)).map_or(0, nanos)
            }
        }
    }

    pub(crate) fn record(&self, latency: Duration, now: Timestamp) {
        if let Some(measured) = &self.measured {
            measured.record(latency, now);
        }
    }
}
