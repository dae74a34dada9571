//! What all services, clones, handles and calls of one layer share.

use std::sync::Arc;

use super::config::ThrottleConfig;
use super::state::{End, Measures, Rule, Sent, Tally};
use crate::base::clock::{Clock, Now};
use crate::base::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::config::{InvalidConfig, Live};
use crate::error::{Reason, Rejected};
use crate::telemetry::{Event, Telemetry};

#[derive(Debug)]
pub(super) struct Shared {
    settings: Live<Settings>,
    /// Those of the first window, which are reached without a detour until there is another.
    first: Measures,
    is_replaced: AtomicU64,
    changing: Mutex<()>,
    clock: Clock,
    pub(super) telemetry: Telemetry,
}

#[derive(Debug)]
struct Settings {
    config: ThrottleConfig,
    rule: Rule,
    /// None while they are the first.
    measures: Option<Arc<Measures>>,
}

impl Shared {
    /// `config` is valid.
    pub(super) fn new(config: ThrottleConfig, telemetry: Telemetry) -> Self {
        let (rule, first) = (Rule::new(&config), Measures::new(config.window, 0));
        Self {
            settings: Live::new(Arc::new(Settings { config, rule, measures: None })),
            first,
            is_replaced: AtomicU64::new(0),
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
        let present = old.measures.as_deref().unwrap_or(&self.first);
        let is_same = old.config.window == config.window;
        let measures = if is_same {
            old.measures.clone()
        } else {
            Some(Arc::new(present.replaced(config.window, self.clock.now())))
        };
        self.settings.swap(Arc::new(Settings { rule: Rule::new(&config), config, measures }));
        if is_same {
            present.forget_share();
        } else {
            self.is_replaced.store(1, Ordering::Release);
        }
        Ok(())
    }

    #[inline]
    fn measured<R>(&self, look: impl FnOnce(&Measures) -> R) -> R {
        // One call of `look` and not one for each case, so that it is inlined.
        let settings;
        let measures = if self.is_replaced.load(Ordering::Acquire) == 0 {
            &self.first
        } else {
            settings = self.settings.read();
            settings.measures.as_deref().unwrap_or(&self.first)
        };
        look(measures)
    }

    /// The share of calls that is refused now, and what it is made of.
    pub(super) fn look(&self) -> (f64, Tally) {
        let tally = self.measured(|measures| measures.tally(self.clock.now()));
        (self.settings.read().rule.ratio(tally), tally)
    }

    /// Leave to send a call.
    #[inline]
    pub(super) fn admit(self: &Arc<Self>) -> Result<Ticket, Rejected> {
        let rule = || self.settings.read().rule;
        match self.measured(|measures| measures.admit(rule, &Now::of(&self.clock), fastrand::f64)) {
            Some(sent) => Ok(Ticket { shared: Arc::clone(self), sent, is_ended: false }),
            None => Err(self.refuse()),
        }
    }

    #[cold]
    fn refuse(&self) -> Rejected {
        let rejected = Rejected::new(Reason::Throttled, self.telemetry.name());
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
    /// Notes that the call was not ready when it was polled.
    #[inline]
    pub(super) const fn wait(&mut self) {
        self.sent.wait();
    }

    #[inline]
    pub(super) fn end(mut self, end: End) {
        self.settle(end);
    }

    #[inline]
    fn settle(&mut self, end: End) {
        self.is_ended = true;
        let now = Now::of(&self.shared.clock);
        self.shared.measured(|measures| measures.end(self.sent, end, &now));
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
