use std::time::Duration;

use super::usual::{Usual, is_bound, is_reached, weight};
use super::{Algorithm, MAX_FAILURE_RATIO, Next, Sample, in_range, is_failure_ratio, shrunk};
use crate::base::clock::{nanos, times};
use crate::config::InvalidConfig;

/// Allows as many calls as the service can work on at a time, and about as many again to wait for their turn, after TCP's
/// BBR and Envoy's gradient controller. The default.
///
/// ```text
/// capacity = calls per second * usual mean latency
/// limit    = capacity * (1 + tolerance) + max(4, sqrt(capacity))
/// ```
///
/// By Little's law, `capacity` is the number of calls that are in flight while none waits for another. The mean, unlike a
/// median, makes this true for every distribution of latencies: behind a service whose slowest calls take most of
/// its time, a short queue multiplies the median and hardly changes the mean. The room of 4 is that of Netflix's
/// `GradientLimit`, without which a limit that is too low would not show, and the calls that come at random would
/// be rejected.
///
/// The limit counts as reached if 0.8 of it were in flight at any time, and as the constraint if also 0.7 were on average. It
/// is lowered only if it was the constraint: half of the way after a window of 50 calls, and an eighth after 25. It is
/// raised only if it was reached, to at most twice what it was, or four times when a layer is new. If it was
/// the constraint and calls took no longer than usual, it is raised by that factor, and by a quarter if only bursts
/// reached it.
///
/// A window in which the share of calls that fail is more than `max_failure_ratio` above the usual one lowers the limit by a
/// tenth, and one in which most fail by three tenths, to 3 at least. After that it rises by 1 for each window, until a
/// window has not reached it.
///
/// # The usual latency
///
/// It is an average over the windows that did not reach the limit. If all windows reach it, calls wait for one another, and
/// the usual latency is measured: for a while, half of the capacity is admitted. That is done
///
/// - when nothing is known, or what is known is from windows with more than half of the capacity in flight, and the limit
///   has been the constraint for three windows;
/// - when `measure_every` is over and the limit is reached;
/// - when the limit has fallen to half, since then the service is overloaded or has become slower for good.
///
/// If the measured latency shows that even half of the capacity was too much, it is measured again with less. If it is
/// more than half as long again as before, it has to be found again ten seconds later: until then half as long again is
/// usual, which protects a service that is slow for a while. A share of failures that is new is measured twice at once.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gradient {
    /// The calls that may wait in the service, as a share of those it works on; 0 to 10. Default: 1, so that calls take
    /// about twice as long as usual under overload. With less, an overestimate of the capacity costs nothing and an
    /// underestimate rejects calls; with more it is the other way round.
    pub tolerance: f64,
    /// How long the usual latency holds if all windows reach the limit; 1 s to 1 day. Default: 60 s, as Envoy has it. It
    /// holds fifty times as long as it took to measure if that is longer.
    pub measure_every: Duration,
    /// The share of `measure_every` by which it is longer each time, at most, so that instances do not measure in
    /// step; 0 to 1. Default: 0.15, as Envoy has it.
    pub jitter: f64,
    /// By how much the share of calls that fail may be above the usual one; 0 to 1. Default: 0.1. A service that fails
    /// a third of its calls, however few there are, is not helped by a lower limit.
    pub max_failure_ratio: f64,
    usual: Option<Usual>,
    /// The time since the usual latency was found.
    age: Duration,
    due: Duration,
    /// The greatest limit since then.
    peak: f64,
    phase: Phase,
    /// Calls have failed since the last window that did not reach the limit.
    is_careful: bool,
    /// No call has had to wait yet.
    is_new: bool,
    /// Windows in a row in which the limit was the constraint.
    bound: u32,
    /// What a measurement found that was worse than usual.
    doubted: Option<Usual>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Nothing is known.
    Start {
        windows: u32,
    },
    Measure(Measuring),
    Follow,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Measuring {
    /// The limit to come back to.
    before: f64,
    /// The limit while measuring.
    few: f64,
    /// Calls per second at the limit before.
    throughput: f64,
    /// What the last measurement found, if it was not believed.
    last: Option<Usual>,
}

/// The limit is not lowered below this, unless it is to measure.
const FEW: f64 = 3.0;
/// If a larger share of calls fails, nothing can be said of the others.
const MOST: f64 = 0.5;
/// The weight of a window in the usual latency.
const WEIGHT: f64 = 0.3;
/// The share of the way to a lower limit that is made after one window.
const STEP: f64 = 0.5;
/// The least room for calls that wait.
const ROOM: f64 = 4.0;
/// The share of the limit that is in flight on average if the limit is the constraint.
const BOUND: f64 = 0.7;
/// What takes longer than this many times the usual latency is not believed at once.
const SLOWER: f64 = 1.5;
/// If calls take longer than this many times the usual latency, they wait.
const WAITS: f64 = 1.25;

impl Gradient {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tolerance: 1.0,
            measure_every: Duration::from_secs(60),
            jitter: 0.15,
            max_failure_ratio: MAX_FAILURE_RATIO,
            usual: None,
            age: Duration::ZERO,
            due: Duration::ZERO,
            peak: 0.0,
            phase: Phase::Start { windows: 0 },
            is_careful: false,
            is_new: true,
            bound: 0,
            doubted: None,
        }
    }

    /// Sets the share of the calls that the service works on that may wait.
    #[must_use]
    pub const fn tolerance(mut self, share: f64) -> Self {
        self.tolerance = share;
        self
    }

    /// Sets how long the usual latency holds.
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

    /// Returns the limit for a service that works on `capacity` calls at a time.
    pub(in crate::middleware::adaptive_limit) fn target(&self, capacity: f64) -> f64 {
        capacity * (1.0 + self.tolerance) + capacity.sqrt().max(ROOM)
    }

    /// Returns the calls that the service works on at a time if `limit` is right.
    fn capacity(&self, limit: f64) -> f64 {
        let per_call = 1.0 + self.tolerance;
        ((limit - ROOM) / per_call).max(limit / (5.0 * per_call)).max(1.0)
    }

    /// Decides while nothing is known.
    fn start(&mut self, limit: f64, windows: u32, sample: &Sample) -> Next {
        const BURSTS: u32 = 8;
        let fails = sample.failure_ratio() > self.max_failure_ratio;
        // Few of the calls that take long have ended, so the mean is too low.
        let is_short = windows == 0 && sample.mean.is_some_and(|mean| sample.length < mean.saturating_mul(4));
        if !is_short && (fails || is_bound(limit, sample, BOUND)) {
            return self.measure(limit, sample.throughput(), self.capacity(limit), None);
        }
        let is_known = !is_short && (!is_reached(limit, sample) || windows >= BURSTS);
        match Usual::of(sample).filter(|_| is_known && !fails) {
            Some(usual) => {
                let is_sure = sample.concurrency() <= self.capacity(limit) * 0.5;
                self.found(Usual { is_sure, ..usual }, limit, Duration::ZERO);
            }
            None => self.phase = Phase::Start { windows: windows.saturating_add(1) },
        }
        Next::limit(limit)
    }

    fn measure(&mut self, before: f64, throughput: f64, capacity: f64, last: Option<Usual>) -> Next {
        self.measure_at((capacity * 0.5).max(FEW), before, throughput, last)
    }

    fn measure_at(&mut self, few: f64, before: f64, throughput: f64, last: Option<Usual>) -> Next {
        let few = few.min(before).max(1.0);
        self.bound = 0;
        self.phase = Phase::Measure(Measuring { before, few, throughput, last });
        Next::limit(few).reset_window()
    }

    fn measured(&mut self, measuring: Measuring, sample: &Sample) -> Next {
        let Measuring { before, few, throughput, last } = measuring;
        let Some(found) = measuring.found(sample) else { return self.failed(measuring) };
        // The service was as busy as before: calls still wait for one another.
        let capacity = throughput * found.latency;
        let is_busy = few > 1.0 && few > capacity * 0.8;
        if is_busy && found.failure_ratio <= self.max_failure_ratio {
            let before = self.target(capacity).min(before);
            return self.measure_at((capacity * 0.5).floor(), before, throughput, Some(found));
        }
        if self.is_slower(&found) && !self.doubted.is_some_and(|doubted| found.is_no_better_than(&doubted)) {
            return self.doubt(found, before, sample.length);
        }
        if found.failure_ratio > self.max_failure_ratio
            && !last.is_some_and(|last| found.is_no_better_than(&last))
        {
            return self.measure_at(few, before, throughput, Some(found));
        }
        let (usual, limit) = match self.usual {
            Some(usual) if usual.is_sure && last.is_none() => {
                (usual.towards(&found, 0.5 * weight(sample)), before)
            }
            _ => (found, before.min(self.target(capacity).max(before * 0.5))),
        };
        self.found(Usual { is_sure: true, ..usual }, limit, sample.length);
        Next::limit(limit)
    }

    /// Most calls failed while measuring: nothing is known of the service, but that it needs less.
    fn failed(&mut self, Measuring { before, few, throughput, .. }: Measuring) -> Next {
        let before = (before * 0.5).max(FEW.min(before));
        if self.usual.is_none() {
            return self.measure_at(few.min(self.capacity(before) * 0.5), before, throughput, None);
        }
        self.phase = Phase::Follow;
        self.age = Duration::ZERO;
        self.peak = before;
        self.is_careful = true;
        Next::limit(before)
    }

    fn is_slower(&self, found: &Usual) -> bool {
        self.usual.is_some_and(|usual| found.latency > usual.latency * SLOWER)
    }

    /// A service that is slow for some seconds is protected by what was usual before, and may be busy with calls that their
    /// callers have given up. So half as much again is believed at once, and all of it if it is found again some time later.
    fn doubt(&mut self, found: Usual, limit: f64, took: Duration) -> Next {
        const HOLD: Duration = Duration::from_secs(10);
        const TIMES_MEASURED: u32 = 5;
        self.doubted = Some(found);
        // With few in flight it is not the limit that makes calls fail.
        if let Some(usual) = &mut self.usual {
            usual.failure_ratio = found.failure_ratio;
            usual.latency *= SLOWER;
        }
        self.due = HOLD.max(took.saturating_mul(TIMES_MEASURED));
        self.age = Duration::ZERO;
        self.peak = limit;
        self.phase = Phase::Follow;
        Next::limit(limit)
    }

    fn found(&mut self, usual: Usual, limit: f64, took: Duration) {
        const TIMES_MEASURED: u32 = 50;
        let interval = self.measure_every.max(took.saturating_mul(TIMES_MEASURED));
        let jittered = times(nanos(interval), 1.0 + self.jitter * fastrand::f64());
        self.due = Duration::from_nanos(jittered);
        self.usual = Some(usual);
        self.doubted = None;
        self.age = Duration::ZERO;
        self.peak = limit;
        self.phase = Phase::Follow;
    }

    /// Updates the usual latency by a window that did not reach the limit.
    fn learn(&mut self, limit: f64, usual: Usual, sample: &Sample) {
        let Some(seen) = Usual::of(sample) else { return };
        let fails = seen.failure_ratio > (usual.failure_ratio + self.max_failure_ratio).min(MOST);
        if fails || is_reached(limit, sample) {
            return;
        }
        let capacity = self.capacity(limit);
        // Under a load of just what the service can do, the queue is as long as the limit allows, whatever it is. So a
        // window counts for no more than what the limit stands for.
        let most = (capacity / sample.throughput().max(f64::MIN_POSITIVE)).max(usual.latency);
        let seen = Usual { latency: seen.latency.min(most).min(usual.latency * 2.0), ..seen };
        // Since it cannot rise by a queue, what was sure stays so.
        let is_sure = usual.is_sure || sample.concurrency() <= capacity * 0.5;
        let usual = usual.towards(&seen, WEIGHT * weight(sample));
        self.found(Usual { is_sure, ..usual }, limit, Duration::ZERO);
        self.is_careful = false;
    }

    fn follow(&mut self, limit: f64, usual: Usual, sample: &Sample) -> f64 {
        let ratio = sample.failure_ratio();
        if ratio > MOST {
            self.is_careful = true;
            return (limit * 0.7).max(FEW.min(limit));
        }
        if ratio > usual.failure_ratio + self.max_failure_ratio {
            self.is_careful = true;
            return shrunk(limit);
        }
        let is_bound = is_bound(limit, sample, BOUND);
        let waits = sample.mean.is_none_or(|mean| mean.as_secs_f64() > usual.latency * WAITS);
        self.is_new &= is_bound && !waits;
        let most = match (self.is_careful, self.is_new) {
            (true, _) => limit + 1.0,
            (false, true) => limit * 4.0,
            (false, false) => limit * 2.0,
        };
        // Bursts reach the limit of a service that has room for more.
        let is_burst = usual.is_sure && is_reached(limit, sample);
        let target = match (waits, is_bound) {
            (false, true) => most,
            (false, false) if is_burst => limit * 1.25,
            _ => self.target(sample.throughput() * usual.latency),
        };
        if target >= limit {
            if is_reached(limit, sample) { target.min(most) } else { limit }
        } else if is_bound {
            limit
                + (target.max(limit * 0.5).max(FEW.min(limit)) - limit)
                    * STEP
                    * (2.0 * weight(sample)).min(1.0).powi(2)
        } else {
            limit
        }
    }
}

impl Measuring {
    /// Returns what was measured, unless most calls failed.
    fn found(&self, sample: &Sample) -> Option<Usual> {
        let found = Usual::of(sample).filter(|found| found.failure_ratio <= MOST)?;
        // By Little's law, since as many were in flight as were admitted, once the others had ended. The mean leaves out
        // the calls that have not ended: those that take long.
        let drained = (self.before - self.few) / self.throughput.max(f64::MIN_POSITIVE);
        let each = self.few * (sample.length.as_secs_f64() - drained) / sample.ended().max(1.0);
        Some(Usual { latency: found.latency.max(each), ..found })
    }
}

impl Default for Gradient {
    fn default() -> Self {
        Self::new()
    }
}

impl Algorithm for Gradient {
    fn next(&mut self, limit: f64, sample: &Sample) -> Next {
        const HELD: f64 = 0.75;
        const WINDOWS: u32 = 3;
        match self.phase {
            Phase::Start { windows } => return self.start(limit, windows, sample),
            Phase::Measure(measuring) => return self.measured(measuring, sample),
            Phase::Follow => {}
        }
        self.age = self.age.saturating_add(sample.length);
        self.peak = self.peak.max(limit);
        if let Some(usual) = self.usual {
            self.learn(limit, usual, sample);
        }
        let Some(usual) = self.usual else { return Next::limit(limit) };
        let next = self.follow(limit, usual, sample);
        self.bound = if is_bound(limit, sample, HELD) { self.bound.saturating_add(1) } else { 0 };
        let is_due = self.age >= self.due && is_reached(limit, sample);
        let is_unsure = self.bound >= WINDOWS && !usual.is_sure;
        let has_fallen = next <= self.peak * 0.5;
        if is_due || (is_unsure || has_fallen) && self.doubted.is_none() {
            let throughput = sample.throughput();
            let capacity = self.capacity(next).min(throughput * usual.latency);
            return self.measure(next, throughput, capacity, None);
        }
        Next::limit(next)
    }

    fn validate(&self) -> Result<(), InvalidConfig> {
        const SHORTEST: Duration = Duration::from_secs(1);
        const LONGEST: Duration = Duration::from_secs(86_400);
        in_range("tolerance", self.tolerance, 0.0..=10.0, "a number from 0 to 10")?;
        if !(SHORTEST..=LONGEST).contains(&self.measure_every) {
            return Err(InvalidConfig::new(
                "measure_every",
                self.measure_every,
                "a duration from 1 s to 1 day",
            ));
        }
        in_range("jitter", self.jitter, 0.0..=1.0, "a number from 0 to 1")?;
        is_failure_ratio(self.max_failure_ratio)
    }
}
