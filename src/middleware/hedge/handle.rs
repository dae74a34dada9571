use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::config::HedgeConfig;
use super::shared::Shared;
use crate::config::InvalidConfig;
use crate::primitives::budget::Budget;

/// Looks at a [hedge](super) layer, and changes what it does.
#[derive(Clone)]
pub struct HedgeHandle {
    shared: Arc<Shared>,
}

impl HedgeHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The configuration in use.
    #[must_use]
    pub fn config(&self) -> HedgeConfig {
        self.shared.config()
    }

    /// Changes the configuration, for calls that begin from now on. The budget stays as it is, and so do the latencies if the
    /// quantile, the window and the number of samples do.
    ///
    /// # Errors
    ///
    /// If `config` is not valid; then the old one stays.
    pub fn reconfigure(&self, config: HedgeConfig) -> Result<(), InvalidConfig> {
        self.shared.reconfigure(config)
    }

    /// After how long a call is hedged now. `None` if none is: the quantile is not known, or not below `max`, or all calls are
    /// slower than usual.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        self.shared.delay()
    }

    /// The budget.
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
