use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::config::HedgeConfig;
use super::shared::Shared;
use crate::config::InvalidConfig;
use crate::primitives::budget::Budget;

/// A handle to inspect and reconfigure a [hedge](super) layer.
#[derive(Clone)]
pub struct HedgeHandle {
    shared: Arc<Shared>,
}

impl HedgeHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns the current configuration.
    #[must_use]
    pub fn config(&self) -> HedgeConfig {
        self.shared.config()
    }

    /// Replaces the configuration. A call in flight keeps its delay and its number of copies;
    /// `ready_within` and `min_remaining` are those in force when a copy is due. The budget does not
    /// change. The latencies are kept if quantile, window and number of samples do not change.
    ///
    /// # Errors
    ///
    /// If `config` is not valid. The old configuration then stays in place.
    pub fn reconfigure(&self, config: HedgeConfig) -> Result<(), InvalidConfig> {
        self.shared.reconfigure(config)
    }

    /// Returns the current delay, or `None` if no call is hedged: the quantile is unknown or not
    /// below `max`, or all calls are slower than usual.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        self.shared.delay()
    }

    /// Returns the budget.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.shared.budget
    }
}

impl fmt::Debug for HedgeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeHandle")
            .field("name", &self.shared.telemetry.name())
            .field("delay", &self.delay())
            .field("budget", &self.shared.budget)
            .finish_non_exhaustive()
    }
}
