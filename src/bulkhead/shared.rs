use std::sync::Arc;

use super::config::{BulkheadConfig, Mode};
use crate::clock::nanos;
use crate::config::{InvalidConfig, Live};
use crate::error::{Reason, Rejected};
use crate::permits::Permits;
use crate::sync::{Mutex, lock};
use crate::telemetry::{Event, Telemetry};

/// What the services of a layer share.
#[derive(Debug)]
pub struct Shared {
    pub(super) permits: Arc<Permits>,
    pub(super) mode: Mode,
    config: Live<BulkheadConfig>,
    /// Held while the configuration changes: of two at a time one is first, in both places.
    changing: Mutex<()>,
    pub(super) telemetry: Telemetry,
}

impl Shared {
    /// `config` is valid.
    pub(super) fn new(config: BulkheadConfig, mode: Mode, telemetry: Telemetry) -> Self {
        Self {
            permits: Arc::new(Permits::new(config.max_in_flight, config.places(mode))),
            mode,
            config: Live::new(Arc::new(config)),
            changing: Mutex::new(()),
            telemetry,
        }
    }

    pub(super) fn config(&self) -> arc_swap::Guard<Arc<BulkheadConfig>> {
        self.config.read()
    }

    /// Goes on with what `change` makes of the configuration.
    pub(super) fn change(
        &self,
        change: impl FnOnce(&BulkheadConfig) -> BulkheadConfig,
    ) -> Result<(), InvalidConfig> {
        let changing = lock(&self.changing);
        let config = change(&self.config());
        config.validate(self.mode)?;
        let limit = config.max_in_flight;
        self.permits.allow_queued(config.places(self.mode));
        self.config.swap(Arc::new(config));
        self.permits.limit_to(limit);
        drop(changing);
        // Those who wait are woken now, by code that is not ours.
        self.permits.grant();
        Ok(())
    }

    pub(super) fn refuse(&self) -> Rejected {
        self.reject(Rejected::new(Reason::BulkheadFull, self.telemetry.name(), None))
    }

    pub(super) fn give_up(&self) -> Rejected {
        let wait = nanos(self.config().max_wait);
        self.reject(Rejected::timeout(Reason::BulkheadTimeout, self.telemetry.name(), wait, false))
    }

    fn reject(&self, rejected: Rejected) -> Rejected {
        self.telemetry.emit(&Event::Rejected(&rejected));
        rejected
    }
}
