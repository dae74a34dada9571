use std::time::Duration;

use crate::config::InvalidConfig;
use crate::permits::Permits;

/// How many calls may be under way, and how many more may wait: see [bulkheads](super).
///
/// Plain data: every field can be set directly or by the method of the same name, and all are checked when a
/// layer is made of it or a running one is given it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BulkheadConfig {
    /// How many calls may be under way at a time; 1 to 2,147,483,647. Default: 64. That is a guess: it should be what
    /// the service bears, which is about its calls per second times the seconds that one takes.
    pub max_in_flight: u32,
    /// How many more may wait for their turn, in a layer that [waits](crate::BulkheadLayer::waiting); in others zero.
    /// Default: 0, since what waits in a queue that does not get shorter is late for its caller.
    pub max_queued: usize,
    /// How long one of them waits, until the service is called; above zero. Default: 1 s.
    pub max_wait: Duration,
}

/// What happens to a call that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Refuse,
    Wait,
    Backpressure,
}

impl BulkheadConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_in_flight: 64, max_queued: 0, max_wait: Duration::from_secs(1) }
    }

    /// Sets how many calls may be under way.
    #[must_use]
    pub const fn max_in_flight(mut self, calls: u32) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// Sets how many more may wait.
    #[must_use]
    pub const fn max_queued(mut self, calls: usize) -> Self {
        self.max_queued = calls;
        self
    }

    /// Sets how long they wait.
    #[must_use]
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    pub(super) fn validate(&self, mode: Mode) -> Result<(), InvalidConfig> {
        if self.max_in_flight == 0 || self.max_in_flight > Permits::MAX {
            return Err(InvalidConfig::new("max_in_flight", self.max_in_flight, "1 to 2147483647"));
        }
        if self.max_queued > 0 && mode != Mode::Wait {
            const NONE: &str = "0, unless the layer is made by `BulkheadLayer::waiting`";
            return Err(InvalidConfig::new("max_queued", self.max_queued, NONE));
        }
        if self.max_wait.is_zero() {
            return Err(InvalidConfig::new("max_wait", self.max_wait, "longer than zero"));
        }
        Ok(())
    }

    /// How many places the queue has: of services that wait until they are ready, each has one.
    pub(super) const fn places(&self, mode: Mode) -> usize {
        match mode {
            Mode::Backpressure => usize::MAX,
            Mode::Refuse | Mode::Wait => self.max_queued,
        }
    }
}

impl Default for BulkheadConfig {
    fn default() -> Self {
        Self::new()
    }
}
