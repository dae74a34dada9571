use std::time::Duration;

use super::{Algorithm, MAX_FAILURE_RATIO, Next, Sample, float, in_range, is_failure_ratio, shrunk};
use crate::clock::{nanos, times};
use crate::config::InvalidConfig;

/// Compares the latency of a window with the one that is usual when few calls are in flight, after Envoy's gradient
/// controller. The default.
///
/// ```text
/// gradient = usual * (1 + tolerance) / latency, 0.5 to 2
/// limit    = limit * gradient + sqrt(limit * gradient)
/// ```
///
/// A window of fewer than 100 calls moves the limit only in proportion. The limit is not raised unless half of it
/// was used, and is lowered by a tenth where the share of calls that fail is more than `max_failure_ratio` above
/// the usual one.
///
/// # What is usual
///
/// It is taken from windows in which few calls were in flight anyway: no more than the limit divided by
/// `2 * (1 + tolerance)`, or three. If there are none, it is measured: the limit is lowered to so many until enough
/// calls that began after that have ended, and then comes back. That is done
///
/// - when `measure_every` is over;
/// - when the limit has fallen to half, for then the service is overloaded, or has become slower for good;
/// - when most calls fail. The limit to come back to is halved for as long as they do.
///
/// What is found to be worse than before has to be found twice.
///
/// Envoy lowers the limit to three, which is expensive where calls take a second. Half of what is needed is few
/// enough for calls not to queue. Where it is not, because what is usual was itself measured with a queue, each
/// measurement finds a shorter one than the last.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gradient {
    /// By which share calls may take longer than usual before the limit is lowered; 0 to 10. Default: 0.25, as Envoy
    /// has it. With less, chance lowers the limit; with more, more calls queue in the service.
    pub tolerance: f64,
    /// How long what is usual holds, unless a quiet window renews it; 1 s to 1 day. Default: 60 s, as Envoy has it.
    /// It holds fifty times as long as it took to measure if that is longer.
    pub measure_every: Duration,
    /// By up to which share more `measure_every` is each time, so that instances do not measure in step; 0 to 1.
    /// Default: 0.15, as Envoy has it.
    pub jitter: f64,
    /// By how much the share of calls that fail may be above the usual one; 0 to 1. Default: 0.1. A service that fails
    /// a third of its calls, however few there are, is not helped by a lower limit.
    pub max_failure_ratio: f64,
    usual: Option<Usual>,
    /// How long ago it was found.
    age: Duration,
    due: Duration,
    /// The greatest limit since then.
    peak: f64,
    measuring: Option<Measuring>,
}

/// What calls are like when few are in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usual {
    /// In nanoseconds.
    latency: f64,
    failure_ratio: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Measuring {
    /// The limit to come back to.
    before: f64,
    /// What the last measurement has found, if it was not believed.
    last: Option<Usual>,
}

/// So few calls in flight are no load, whatever the limit.
const FEW: f64 = 3.0;
/// If a larger share of calls fails, nothing can be said of the others.
const MOST: f64 = 0.5;
/// The weight of a window in what is usual.
const WEIGHT: f64 = 0.3;
/// The median of so many calls is 14 % off, one standard deviation, if their latencies are spread exponentially.
const FULL_WEIGHT: f64 = 100.0;

impl Gradient {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tolerance: 0.25,
            measure_every: Duration::from_secs(60),
            jitter: 0.15,
            max_failure_ratio: MAX_FAILURE_RATIO,
            usual: None,
            age: Duration::ZERO,
            due: Duration::ZERO,
            peak: 0.0,
            measuring: None,
        }
    }

    /// Sets by which share calls may take longer than usual.
    #[must_use]
    pub const fn tolerance(mut self, share: f64) -> Self {
        self.tolerance = share;
        self
    }

    /// Sets how long what is usual holds.
    #[must_use]
    pub const fn measure_every(mut self, interval: Duration) -> Self {
        self.measure_every = interval;
        self
    }

    /// Sets by up to which share more the interval is each time.
    #[must_use]
    pub const fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Sets how much larger than usual the share of calls that fail may be.
    #[must_use]
    pub const fn max_failure_ratio(mut self, ratio: f64) -> Self {
        self.max_failure_ratio = ratio;
        self
    }

    /// With so many in flight there is no queue, if `limit` is about right.
    fn few(&self, limit: f64) -> f64 {
        (limit / (2.0 * (1.0 + self.tolerance))).max(FEW)
    }

    fn measure(&mut self, before: f64, last: Option<Usual>) -> Next {
        self.measuring = Some(Measuring { before, last });
        Next::limit(self.few(before).min(before)).afresh()
    }

    fn measured(&mut self, Measuring { before, last }: Measuring, sample: &Sample) -> Next {
        let failure_ratio = sample.failure_ratio();
        let found = Usual::of(sample);
        if let Some(sure) = found.filter(|found| self.is_sure(found, last.as_ref())) {
            let average = last.or(self.usual).map_or(sure, |usual| usual.towards(&sure, 0.5));
            self.found(average, before, sample.length);
            return Next::limit(before);
        }
        // What is given up goes on in the service, so it may be kept busy with that even by so few.
        let before = if failure_ratio > MOST {
            (before * 0.5).max(FEW.min(before))
        } else if failure_ratio > self.max_failure_ratio {
            shrunk(before)
        } else {
            before
        };
        self.measure(before, found)
    }

    /// What is worse than before must be so twice: at first the service may be busy with calls that their callers have
    /// given up, and which are not in flight any more.
    fn is_sure(&self, found: &Usual, last: Option<&Usual>) -> bool {
        const NOT_BETTER: f64 = 0.75;
        let fails = found.failure_ratio > self.max_failure_ratio;
        let is_slower =
            self.usual.is_some_and(|usual| found.latency > usual.latency * (1.0 + self.tolerance));
        let is_not_better = |last: &Usual| {
            found.latency >= last.latency * NOT_BETTER
                && (!fails || found.failure_ratio >= last.failure_ratio * NOT_BETTER)
        };
        !fails && !is_slower || found.failure_ratio <= MOST && last.is_some_and(is_not_better)
    }

    fn found(&mut self, usual: Usual, limit: f64, took: Duration) {
        const TIMES_MEASURED: u32 = 50;
        let interval = self.measure_every.max(took.saturating_mul(TIMES_MEASURED));
        let jittered = times(nanos(interval), 1.0 + self.jitter * fastrand::f64());
        self.due = Duration::from_nanos(jittered);
        self.usual = Some(usual);
        self.age = Duration::ZERO;
        self.peak = limit;
    }

    /// Takes what is usual from a window that was not made for it.
    fn learn(&mut self, limit: f64, sample: &Sample) {
        let Some(seen) = Usual::of(sample) else { return };
        let usual_failures = self.usual.map_or(0.0, |usual| usual.failure_ratio);
        let is_quiet = f64::from(sample.in_flight) <= self.few(limit)
            && seen.failure_ratio <= (usual_failures + self.max_failure_ratio).min(MOST);
        match &mut self.usual {
            Some(usual) if seen.is_faster(usual, self.tolerance, sample) => usual.latency = seen.latency,
            Some(usual) if is_quiet => {
                let average = usual.towards(&seen, WEIGHT);
                self.found(average, limit, Duration::ZERO);
            }
            None if is_quiet => self.found(seen, limit, Duration::ZERO),
            _ => {}
        }
    }

    fn judged(&self, limit: f64, usual: Usual, sample: &Sample) -> f64 {
        let next = sample.latency.map_or(limit, |latency| {
            let next = by_gradient(limit, usual.latency * (1.0 + self.tolerance), float(latency));
            limit + (next - limit) * (calls(sample) / FULL_WEIGHT).min(1.0)
        });
        let next = if sample.uses(limit) { next } else { next.min(limit) };
        let fails = sample.failure_ratio() > usual.failure_ratio + self.max_failure_ratio;
        if fails { next.min(shrunk(limit)) } else { next }
    }
}

/// The limit if calls may take `allowed` and take `latency`. The root is the room for a queue, without which a
/// limit that is too low would not show.
pub(in crate::adaptive_limit) fn by_gradient(limit: f64, allowed: f64, latency: f64) -> f64 {
    let next = limit * (allowed / latency).clamp(0.5, 2.0);
    next + next.sqrt()
}

impl Usual {
    fn of(sample: &Sample) -> Option<Self> {
        let failure_ratio = sample.failure_ratio();
        sample.latency.map(|latency| Self { latency: float(latency), failure_ratio })
    }

    /// By more than chance would make it: the median of exponentially spread latencies is that far off in one of 500
    /// windows.
    fn is_faster(&self, usual: &Self, tolerance: f64, sample: &Sample) -> bool {
        let chance = 4.0 / calls(sample).sqrt();
        self.latency * (1.0 + chance.max(tolerance)) < usual.latency
    }

    fn towards(self, seen: &Self, weight: f64) -> Self {
        Self {
            latency: self.latency + (seen.latency - self.latency) * weight,
            failure_ratio: self.failure_ratio + (seen.failure_ratio - self.failure_ratio) * weight,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn calls(sample: &Sample) -> f64 {
    sample.calls as f64
}

impl Default for Gradient {
    fn default() -> Self {
        Self::new()
    }
}

impl Algorithm for Gradient {
    fn next(&mut self, limit: f64, sample: &Sample) -> Next {
        if let Some(measuring) = self.measuring.take() {
            return self.measured(measuring, sample);
        }
        self.age = self.age.saturating_add(sample.length);
        self.peak = self.peak.max(limit);
        self.learn(limit, sample);
        let Some(usual) = self.usual else { return self.measure(limit, None) };
        let next = self.judged(limit, usual, sample);
        let most_fail = sample.failure_ratio() > MOST;
        if self.age >= self.due || next <= self.peak * 0.5 || most_fail {
            return self.measure(next, None);
        }
        Next::limit(next)
    }

    fn validate(&self) -> Result<(), InvalidConfig> {
        const SHORTEST: Duration = Duration::from_secs(1);
        const LONGEST: Duration = Duration::from_secs(86_400);
        in_range("tolerance", self.tolerance, 0.0..=10.0, "0 to 10")?;
        if !(SHORTEST..=LONGEST).contains(&self.measure_every) {
            return Err(InvalidConfig::new("measure_every", self.measure_every, "1 s to 1 day"));
        }
        in_range("jitter", self.jitter, 0.0..=1.0, "0 to 1")?;
        is_failure_ratio(self.max_failure_ratio)
    }
}
