//! What all services, clones, handles and calls of one layer share.

use std::sync::Arc;

use super::config::ThrottleConfig;
use super::state::{End, Measures, Rule, Sent, Tally};
use crate::clock::{Clock, Now};
use crate::config::{InvalidConfig, Live};
use crate::error::{Reason, Rejected};
use crate::sync::{Mutex, lock};
use crate::telemetry::{Event, Telemetry};

#[derive(Debug)]
pub(super) struct Shared {
    settings: Live<Settings>,
    changing: Mutex<()>,
    clock: Clock,
    pub(super) telemetry: Telemetry,
}

#[derive(Debug)]
struct Settings {
    config: ThrottleConfig,
    rule: Rule,
    measures: Arc<Measures>,
}

impl Shared {
    /// `config` is valid.
    pub(super) fn new(config: ThrottleConfig, telemetry: Telemetry) -> Self {
        let (rule, measures) = (Rule::new(&config), Arc::new(Measures::new(config.window, 0)));
        Self {
            settings: Live::new(Arc::new(Settings { config, rule, measures })),
            changing: Mutex::new(()),
            clock: Clock::start(),
            telemetry,
        }
    }

    pub(super) fn config(&self) -> ThrottleConfig {
        self.settings.read().config.clone()
    }

    pub(super) fn reconfigure(&self, config: ThrottleConfig) -> Result<(), InvalidConfig> {
        config.validate()?;
        // Of two at a time one is first, and the other builds on what it has left.
        let _changing = lock(&self.changing);
        let old = self.settings.read();
        let measures = if old.config.window == config.window {
            Arc::clone(&old.measures)
        } else {
            Arc::new(old.measures.replaced(config.window, self.clock.now()))
        };
        self.settings.swap(Arc::new(Settings { rule: Rule::new(&config), config, measures }));
        Ok(())
    }

    /// The share of calls that is refused now, and what it is made of.
    pub(super) fn look(&self) -> (f64, Tally) {
        let settings = self.settings.read();
        let tally = settings.measures.tally(self.clock.now());
        (settings.rule.ratio(tally), tally)
    }

    /// Leave to send a call.
    #[inline]
    pub(super) fn admit(self: &Arc<Self>) -> Result<Ticket, Rejected> {
        let settings = self.settings.read();
        match settings.measures.admit(&settings.rule, &Now::of(&self.clock), fastrand::f64) {
            Some(sent) => Ok(Ticket { shared: Arc::clone(self), sent, is_ended: false }),
            None => Err(self.refuse()),
        }
    }

    #[cold]
    fn refuse(&self) -> Rejected {
        let rejected = Rejected::new(Reason::Throttled, self.telemetry.name(), None);
        self.telemetry.emit(&Event::Rejected(&rejected));
        rejected
    }
}

/// A call that was sent, to be told how it ended. Dropped instead, it takes the call for cancelled.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    sent: Sent,
    is_ended: bool,
}

impl Ticket {
    #[inline]
    pub(super) fn end(mut self, end: End) {
        self.settle(end);
    }

    #[inline]
    fn settle(&mut self, end: End) {
        self.is_ended = true;
        self.shared.settings.read().measures.end(self.sent, end, &Now::of(&self.shared.clock));
    }
}

impl Drop for Ticket {
    #[inline]
    fn drop(&mut self) {
        if !self.is_ended {
            self.settle(End::Cancelled);
        }
    }
}
