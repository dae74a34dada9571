use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::config::{BulkheadConfig, Mode};
use super::future::ResponseFuture;
use super::parked::{Given, Parked, Place};
use super::permit::Permit;
use super::shared::Shared;
use crate::classify::ErrorsAreFailures;
use crate::config::InvalidConfig;
use crate::error::Rejected;

/// Inspects and changes the limit of a [bulkhead](super), and limits what is no service.
#[derive(Clone)]
pub struct BulkheadHandle {
    shared: Arc<Shared>,
}

/// What a [bulkhead](super) was doing at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// How many calls were under way, and services ready for one with a permit taken ahead. More than
    /// `max_in_flight`, while calls are under way that began before the limit was lowered.
    pub in_flight: u32,
    /// How many might have been.
    pub max_in_flight: u32,
    /// How many waited for their turn.
    pub queued: usize,
}

impl BulkheadHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The configuration in use.
    #[must_use]
    pub fn config(&self) -> BulkheadConfig {
        BulkheadConfig::clone(&self.shared.config())
    }

    /// How many calls are under way, and how many wait.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let permits = &self.shared.permits;
        let (in_flight, limit) = permits.counts();
        Snapshot { in_flight, max_in_flight: limit, queued: permits.queued() }
    }

    /// Allows `max_in_flight` calls from now on. Those that are under way go on; if they are more, the next one begins
    /// when they have become fewer. If there is more room, those who wait are served at once.
    ///
    /// # Errors
    ///
    /// If it is zero or more than 2,147,483,647; then the old limit stays.
    pub fn resize(&self, max_in_flight: u32) -> Result<(), InvalidConfig> {
        self.shared.change(|config| config.clone().max_in_flight(max_in_flight))
    }

    /// Changes the configuration, for calls that begin or begin to wait from now on.
    ///
    /// # Errors
    ///
    /// If `config` is not valid; then the old one stays.
    pub fn reconfigure(&self, config: BulkheadConfig) -> Result<(), InvalidConfig> {
        self.shared.change(|_| config)
    }

    /// Leave to do something that is no service's, now or not at all.
    ///
    /// # Errors
    ///
    /// If there is no room, or others wait for it.
    pub fn try_acquire(&self) -> Result<Permit, Rejected> {
        self.shared.permits.try_acquire().map(Permit::new).ok_or_else(|| self.shared.refuse())
    }

    /// Runs `call` if there is room, or when it is its turn in a layer that [waits](crate::BulkheadLayer::waiting). One
    /// that is refused is dropped without having been polled.
    ///
    /// The place is taken now, and not when the future is first polled.
    pub fn run<F, T, E>(&self, call: F) -> ResponseFuture<F, ErrorsAreFailures, Parked<Given<F>>>
    where
        F: Future<Output = Result<T, E>>,
        E: From<Rejected>,
    {
        if let Some(permit) = self.shared.permits.try_acquire() {
            return ResponseFuture::calling(call, ErrorsAreFailures, Permit::new(permit));
        }
        let place = match self.shared.mode {
            Mode::Wait => Place::take(&self.shared),
            Mode::Refuse | Mode::Backpressure => Err(self.shared.refuse()),
        };
        let parked = place.map(|place| Parked::new(place, Given(Some(call))));
        ResponseFuture::parked(parked, ErrorsAreFailures)
    }
}

impl fmt::Debug for BulkheadHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadHandle")
            .field("name", &self.shared.telemetry.name())
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}
