use std::time::Duration;

use crate::config::{InvalidConfig, Ratio};

/// When a [throttle](super) refuses calls, and how many.
///
/// Plain data: every field can be set directly or by the method of the same name, and all are checked when a
/// layer is made of it or a running one is given it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ThrottleConfig {
    /// How far back calls are looked at; 1 s to 1 hour. Default: 10 s. A service that begins to refuse everything is
    /// throttled after half of it (with a `headroom` of 2). A call that has no answer counts once it has taken half of
    /// it, so it must be longer than twice what calls usually take.
    pub window: Duration,
    /// How many requests are sent for each one that is accepted before any is refused; 1 to 100. Default: 2. Nearer
    /// to 1 the service has less to refuse, and the throttle takes longer to see that it accepts more again.
    pub headroom: f64,
    /// The largest share of calls that is refused; above 0, at most 1. Default: 0.95. What is left finds out when the
    /// service is well again, and how fast.
    pub max_ratio: f64,
    /// With fewer requests in the window no call is refused. Default: 10. A client that sends so few does no harm,
    /// and has little to judge by.
    pub min_requests: u32,
    /// Whether the throttle's own refusals count as requests, as in the textbook. Default: false.
    ///
    /// If so, a service that accepts `c` requests per second is never sent more than `headroom * c` for long, but the
    /// throttle takes a multiple of `window` to let all calls pass after it is well. If not, it is sent
    /// `sqrt(headroom * r * c)` of `r` calls, and all calls pass within seconds.
    pub counts_refusals: bool,
}

impl ThrottleConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            window: Duration::from_secs(10),
            headroom: 2.0,
            max_ratio: 0.95,
            min_requests: 10,
            counts_refusals: false,
        }
    }

    /// Sets how far back calls are looked at.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how many requests are sent for each one that is accepted.
    #[must_use]
    pub const fn headroom(mut self, headroom: f64) -> Self {
        self.headroom = headroom;
        self
    }

    /// Sets the largest share of calls that is refused.
    #[must_use]
    pub const fn max_ratio(mut self, ratio: f64) -> Self {
        self.max_ratio = ratio;
        self
    }

    /// Sets how many requests it takes for any call to be refused.
    #[must_use]
    pub const fn min_requests(mut self, requests: u32) -> Self {
        self.min_requests = requests;
        self
    }

    /// Sets whether the throttle's own refusals count as requests.
    #[must_use]
    pub const fn counts_refusals(mut self, counts: bool) -> Self {
        self.counts_refusals = counts;
        self
    }
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        const SHORTEST: Duration = Duration::from_secs(1);
        const LONGEST: Duration = Duration::from_secs(3_600);
        if !(SHORTEST..=LONGEST).contains(&self.window) {
            return Err(InvalidConfig::new("window", self.window, "a duration from 1 s to 1 hour"));
        }
        // Written so that a NaN fails: it is in no range.
        if !(1.0..=100.0).contains(&self.headroom) {
            return Err(InvalidConfig::new("headroom", self.headroom, "a number from 1 to 100"));
        }
        Ratio::new("max_ratio", self.max_ratio).map(drop)
    }
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self::new()
    }
}
