use super::config::BulkheadConfig;
use crate::config::InvalidConfig;
use crate::error::Reason;
use crate::middleware::admission::limit::sealed::Sealed;
use crate::middleware::admission::{
    AdmissionConfig, AdmissionHandle, AdmissionLayer, Change, Ended, Full, Limit,
};
use crate::middleware::gate::HoldUntil;

/// The limit of a [bulkhead](super): what is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed;

impl Sealed for Fixed {}

impl Limit for Fixed {
    type Config = BulkheadConfig;

    const MODULE: &'static str = "bulkhead";
    const FULL: Reason = Reason::BulkheadFull;
    const TIMEOUT: Reason = Reason::BulkheadTimeout;
    const LEARNS: bool = false;

    fn validate(config: &BulkheadConfig) -> Result<(), InvalidConfig> {
        config.validate()
    }

    fn admission(config: &BulkheadConfig) -> &AdmissionConfig {
        &config.admission
    }

    fn new(_: &BulkheadConfig) -> Self {
        Self
    }

    fn first(config: &BulkheadConfig) -> u32 {
        config.max_in_flight
    }

    fn reconfigure(&self, change: &Change<'_, BulkheadConfig>, set: impl FnOnce(u32)) {
        set(change.after.max_in_flight);
    }

    fn ended(&self, _: &Ended, _: impl FnOnce(u32)) -> bool {
        false
    }

    fn finds_no_room(&self, _: Full, _: impl FnOnce(u32)) -> bool {
        false
    }
}

impl<W, P> AdmissionLayer<Fixed, W, P> {
    /// Holds the permit of a call until the body of its response has ended or is dropped, whatever the outcome, as far as the
    /// protocol knows of bodies. Default: until the headers of the response are there.
    /// # Panics
    ///
    /// If the layer was cloned, or has made a service or a handle: they would not share its state.
    #[must_use]
    #[track_caller]
    pub fn hold_until_body_end(self) -> Self {
        self.held_until(HoldUntil::BodyEnd)
    }
}

impl AdmissionHandle<Fixed> {
    /// Allows `max_in_flight` calls from now on. Those that are under way go on; if they are more, the next one begins
    /// when they have become fewer. If there is more room, those who wait are served at once.
    ///
    /// # Errors
    ///
    /// If it is zero or more than 2,147,483,647; then the old limit stays.
    pub fn resize(&self, max_in_flight: u32) -> Result<(), InvalidConfig> {
        self.change(|config| config.clone().max_in_flight(max_in_flight))
    }
}
