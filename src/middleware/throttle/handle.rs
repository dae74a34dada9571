use std::fmt;
use std::sync::Arc;

use super::config::ThrottleConfig;
use super::shared::Shared;
use super::state::Tally;
use crate::config::InvalidConfig;

/// Looks at a [throttle](super), and changes what it does.
#[derive(Clone)]
pub struct ThrottleHandle {
    shared: Arc<Shared>,
}

/// What a throttle goes by at some moment. The counts are those of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The share of calls that is refused, 0 to [`max_ratio`](ThrottleConfig::max_ratio).
    pub ratio: f64,
    /// Calls that were sent and have ended, or have taken longer than half of the window.
    pub sent: u64,
    /// Those of them that the service accepted.
    pub accepted: u64,
    /// Calls that the throttle refused.
    pub refused: u64,
}

impl ThrottleHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The configuration in use.
    #[must_use]
    pub fn config(&self) -> ThrottleConfig {
        self.shared.config()
    }

    /// Changes the configuration, for calls that begin from now on. The counts stay; if the window is another one, they
    /// begin to age anew.
    ///
    /// # Errors
    ///
    /// If `config` is not valid; then the old one stays.
    pub fn reconfigure(&self, config: ThrottleConfig) -> Result<(), InvalidConfig> {
        self.shared.reconfigure(config)
    }

    /// What the throttle goes by now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (ratio, Tally { sent, accepted, refused }) = self.shared.look();
        Snapshot { ratio, sent, accepted, refused }
    }
}

impl fmt::Debug for ThrottleHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottleHandle")
            .field("name", &self.shared.telemetry.name())
            .field("config", &self.shared.config())
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}
