use std::time::Duration;

use crate::config::{InvalidConfig, Ratio};
use crate::primitives::window::Window;

/// When a [circuit breaker](super) opens, for how long, and how it closes again.
///
/// The defaults suit a service that makes 10 to 10,000 calls per second: at the lower end the window holds a
/// hundred calls and an outage is seen after two seconds, at the upper end it is seen after twenty calls. For
/// less traffic set [`consecutive_failures`](Self::consecutive_failures) or a longer window.
///
/// Plain data: every field can be set directly or by the method of the same name, and all are checked when a
/// layer is made of it or a running one is given it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CircuitBreakerConfig {
    /// The calls that are judged. Default: the last 10 s in ten buckets, long enough to hold a hundred calls at
    /// ten per second, short enough that an hour of health does not hide an outage.
    pub window: Window,
    /// Ratios are judged once the window holds so many calls; at least 1. A window of fewer calls is judged
    /// when it is full. Default: 20, so that one or two unlucky calls are no outage.
    pub min_calls: u32,
    /// Opens when this share of the calls failed; above 0, at most 1. `None` switches the rule off.
    /// Default: 0.5, a dependency that fails every other call is better left alone.
    pub failure_ratio: Option<f64>,
    /// A call that takes longer is slow. `None`, the default, switches the rule off: only you know
    /// what is slow here. Two or three times the usual p99 is a good start.
    pub slow_after: Option<Duration>,
    /// Opens when this share of the calls was slow; above 0, at most 1. Used if `slow_after` is set.
    /// Default: 0.5.
    pub slow_ratio: f64,
    /// Whether a call counts as slow while it is still in flight after `slow_after`, so that a
    /// dependency that hangs opens the circuit before the first call has run into its timeout. It
    /// is seen up to a sixth of `slow_after` late, or 10 ms if that is longer. Default: true.
    ///
    /// After a change of `slow_after` the calls that are in flight are judged by the new limit, up to a
    /// sixth of their old limit later than others. Those that had been in flight for longer than the old
    /// limit may count up to one new limit after the change, since it is not known when each of them began.
    /// Calls that began while this rule was off are not counted, and of more than eight limits with calls
    /// in flight the earliest are forgotten.
    pub slow_in_flight: bool,
    /// Opens after so many failures in a row, whatever the window holds; at least 1. `None`, the default,
    /// switches the rule off. Set it where there is little traffic.
    pub consecutive_failures: Option<u32>,
    /// How long the circuit stays open before it probes. Zero probes at once. Default: 5 s, a restart's time.
    pub open_for: Duration,
    /// Each opening without a recovery in between lasts so many times longer than the one before; 1 to 100.
    /// Default: 2.
    pub open_factor: f64,
    /// The longest that the circuit stays open, however often it opens and whatever the server asks
    /// for; at least `open_for`. What a server asked for longer ago than this has expired. Default:
    /// 60 s.
    pub max_open_for: Duration,
    /// Each opening is shortened by a random share of itself up to this one, 0 to 1, so that many clients
    /// do not probe in step; also at the cap. Default: 0.1.
    pub open_jitter: f64,
    /// How many trial calls a half-open circuit admits, judged by the same ratios; 1 to 1,000.
    /// Default: 3, for one is too few to tell and many are a burden on a service that gets up.
    pub probes: u32,
    /// A trial call that has not ended after this long gives its slot to another; a change holds
    /// for those in flight, too. `None` waits for ever, and is only safe if every call ends; a slot
    /// that is taken in `poll_ready` under [`Readiness::Pending`](crate::Readiness) is given to
    /// another after 10 s without a call then. Default: 10 s.
    pub probe_timeout: Option<Duration>,
    /// What a call means that a layer further in gave up because its caller's deadline had passed.
    /// Default: a failure if the call was given what calls usually take.
    pub past_deadline: PastDeadline,
    /// After the trial calls have succeeded, the share of calls admitted grows from a tenth to all over
    /// this long. Zero, the default, admits all at once.
    pub ramp: Duration,
}

impl CircuitBreakerConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            window: Window::time(Duration::from_secs(10)),
            min_calls: 20,
            failure_ratio: Some(0.5),
            slow_after: None,
            slow_ratio: 0.5,
            slow_in_flight: true,
            consecutive_failures: None,
            open_for: Duration::from_secs(5),
            open_factor: 2.0,
            max_open_for: Duration::from_secs(60),
            open_jitter: 0.1,
            probes: 3,
            probe_timeout: Some(Duration::from_secs(10)),
            past_deadline: PastDeadline::FailureIfUsual,
            ramp: Duration::ZERO,
        }
    }

    /// Sets the calls that are judged.
    #[must_use]
    pub const fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Sets how many calls the window must hold before ratios are judged.
    #[must_use]
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = calls;
        self
    }

    /// Sets the share of failed calls that opens the circuit.
    #[must_use]
    pub const fn failure_ratio(mut self, ratio: f64) -> Self {
        self.failure_ratio = Some(ratio);
        self
    }

    /// Switches the failure ratio off.
    #[must_use]
    pub const fn without_failure_ratio(mut self) -> Self {
        self.failure_ratio = None;
        self
    }

    /// Sets after how long a call is slow, and with it switches the slow-call rule on.
    #[must_use]
    pub const fn slow_after(mut self, limit: Duration) -> Self {
        self.slow_after = Some(limit);
        self
    }

    /// Sets the share of slow calls that opens the circuit.
    #[must_use]
    pub const fn slow_ratio(mut self, ratio: f64) -> Self {
        self.slow_ratio = ratio;
        self
    }

    /// Sets whether calls count as slow while they are in flight.
    #[must_use]
    pub const fn slow_in_flight(mut self, counts: bool) -> Self {
        self.slow_in_flight = counts;
        self
    }

    /// Sets how many failures in a row open the circuit.
    #[must_use]
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = Some(failures);
        self
    }

    /// Sets how long the circuit stays open. Raises `max_open_for` to it if that is shorter.
    #[must_use]
    pub const fn open_for(mut self, wait: Duration) -> Self {
        self.open_for = wait;
        if self.max_open_for.as_nanos() < wait.as_nanos() {
            self.max_open_for = wait;
        }
        self
    }

    /// Sets by how much each opening is longer than the one before.
    #[must_use]
    pub const fn open_factor(mut self, factor: f64) -> Self {
        self.open_factor = factor;
        self
    }

    /// Sets the longest that the circuit stays open.
    #[must_use]
    pub const fn max_open_for(mut self, wait: Duration) -> Self {
        self.max_open_for = wait;
        self
    }

    /// Sets the random share by which each opening is shortened.
    #[must_use]
    pub const fn open_jitter(mut self, share: f64) -> Self {
        self.open_jitter = share;
        self
    }

    /// Sets how many trial calls are admitted.
    #[must_use]
    pub const fn probes(mut self, calls: u32) -> Self {
        self.probes = calls;
        self
    }

    /// Sets after how long a trial call loses its slot.
    #[must_use]
    pub const fn probe_timeout(mut self, limit: Duration) -> Self {
        self.probe_timeout = Some(limit);
        self
    }

    /// Waits for trial calls for ever.
    #[must_use]
    pub const fn without_probe_timeout(mut self) -> Self {
        self.probe_timeout = None;
        self
    }

    /// Sets what a call means that its caller's deadline cut off.
    #[must_use]
    pub const fn past_deadline(mut self, meaning: PastDeadline) -> Self {
        self.past_deadline = meaning;
        self
    }

    /// Sets how long the gradual recovery takes.
    #[must_use]
    pub const fn ramp(mut self, ramp: Duration) -> Self {
        self.ramp = ramp;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        Settings::new(self).map(|_| ())
    }
}

impl Default for CircuitBreakerConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// What a call means for a circuit that a layer further in gave up because its caller's deadline had passed.
///
/// An impatient caller says nothing about the service, and a service that hangs must be seen all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PastDeadline {
    /// A failure if the call had as much time as calls usually take, or if that is not known; otherwise as if it had been
    /// cancelled.
    ///
    /// What calls usually take is an average over a sample of those that succeeded, until the headers of their responses; one of about
    /// 64 is in it, or one in 15 s. It is
    /// known for a minute after the latest sample: a service that has answered no call for longer may hang, however little time
    /// each call has. The time that a call had is that of all its attempts, if it was timed; all calls are for a minute after
    /// one was cut off.
    ///
    /// In each half-open state at most as many calls as there are [`probes`](CircuitBreakerConfig::probes) count as cancelled
    /// for this reason. The others are failures.
    #[default]
    FailureIfUsual,
    /// A failure, however little time it was given.
    Failure,
    /// As if it had been cancelled, however much time it was given.
    Cancelled,
}

/// The configuration, checked, in the form in which it is used.
#[derive(Debug)]
pub(super) struct Settings {
    /// The configuration as it was given.
    pub(super) config: CircuitBreakerConfig,
    pub(super) window: Window,
    pub(super) min_calls: u64,
    pub(super) failure_ratio: Option<Ratio>,
    pub(super) slow_after: Option<Duration>,
    pub(super) slow_ratio: Option<Ratio>,
    pub(super) slow_in_flight: bool,
    pub(super) consecutive_failures: Option<u32>,
    pub(super) open_for: Duration,
    pub(super) open_factor: f64,
    pub(super) max_open_for: Duration,
    pub(super) open_jitter: f64,
    pub(super) probes: u32,
    /// How many trial calls decide.
    pub(super) min_probes: u64,
    pub(super) probe_timeout: Option<Duration>,
    pub(super) ramp: Duration,
}

impl Settings {
    pub(super) fn new(config: &CircuitBreakerConfig) -> Result<Self, InvalidConfig> {
        config.window.validate()?;
        at_least_one("min_calls", config.min_calls)?;
        at_least_one("consecutive_failures", config.consecutive_failures.unwrap_or(1))?;
        let slow_ratio = Ratio::new("slow_ratio", config.slow_ratio)?;
        let failure_ratio =
            config.failure_ratio.map(|ratio| Ratio::new("failure_ratio", ratio)).transpose()?;
        // Written so that a NaN fails: it is in no range.
        if !(1.0..=100.0).contains(&config.open_factor) {
            return Err(InvalidConfig::new("open_factor", config.open_factor, "a number from 1 to 100"));
        }
        if !(0.0..=1.0).contains(&config.open_jitter) {
            return Err(InvalidConfig::new("open_jitter", config.open_jitter, "a number from 0 to 1"));
        }
        if config.max_open_for < config.open_for {
            return Err(InvalidConfig::new("max_open_for", config.max_open_for, "at least `open_for`"));
        }
        if !(1..=1_000).contains(&config.probes) {
            return Err(InvalidConfig::new("probes", config.probes, "a number from 1 to 1,000"));
        }
        if config.probe_timeout == Some(Duration::ZERO) {
            return Err(InvalidConfig::new(
                "probe_timeout",
                Duration::ZERO,
                "a duration above zero, or `without_probe_timeout`",
            ));
        }
        if failure_ratio.is_none() && config.slow_after.is_none() && config.consecutive_failures.is_none() {
            return Err(InvalidConfig::new(
                "failure_ratio",
                failure_ratio,
                "none only beside `slow_after` or `consecutive_failures`, or nothing would ever open the circuit",
            ));
        }
        let min_calls = match config.window {
            Window::Calls(calls) => config.min_calls.min(calls),
            Window::Time { .. } => config.min_calls,
        };
        Ok(Self {
            config: config.clone(),
            window: config.window,
            min_calls: u64::from(min_calls),
            failure_ratio,
            slow_after: config.slow_after,
            slow_ratio: config.slow_after.map(|_| slow_ratio),
            slow_in_flight: config.slow_in_flight,
            consecutive_failures: config.consecutive_failures,
            open_for: config.open_for,
            open_factor: config.open_factor,
            max_open_for: config.max_open_for,
            open_jitter: config.open_jitter,
            probes: config.probes,
            min_probes: u64::from(config.min_calls.min(config.probes)),
            probe_timeout: config.probe_timeout,
            ramp: config.ramp,
        })
    }

    /// The share of bad calls with which the circuit stays closed.
    pub(super) fn allowed_share(&self) -> f64 {
        let ratios = [self.failure_ratio, self.slow_ratio].into_iter().flatten().map(Ratio::get);
        ratios.reduce(f64::max).unwrap_or(1.0)
    }

    /// From when on a call in flight counts as slow, if it does.
    pub(super) fn overdue_after(&self) -> Option<Duration> {
        self.slow_after.filter(|_| self.slow_in_flight)
    }
}

fn at_least_one(field: &'static str, given: u32) -> Result<(), InvalidConfig> {
    if given == 0 { Err(InvalidConfig::new(field, given, "at least 1")) } else { Ok(()) }
}
