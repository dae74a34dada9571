//! Sums up calls as they end, and has a limit made of each window of them.
//!
//! ```text
//! latencies  for each bucket: calls that succeeded, ever
//! failures   calls that failed, ever; likewise those that were given up soon
//! in_flight  the most at the same time in this window
//! ```
//!
//! The counters are never set back. A window is what they have grown by, so nobody who counts has to know where one
//! ends, and each call is in one of them. A window lasts as long as configured, or twice as long as calls take, and
//! until it holds enough of them, or some of them and is late.
//!
//! A thread that stalls between looking up whether its call belongs to the window and counting it may count it in
//! the next one. One call does not move a median.

#![warn(
    clippy::arithmetic_side_effects,
    reason = "clocks jump, and what is configured may be as large as it likes"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::TryLockError;
use std::time::Duration;

use super::algorithm::{Algorithm, Next, Sample};
use super::config::AdaptiveLimitConfig;
use super::histogram::{Histogram, Seen};
use crate::base::clock::{Timestamp, nanos, times};
use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};
use crate::classify::Class;
use crate::middleware::admission::{Ended, Full};

/// However long calls take, a window lasts no longer if it holds enough of them.
const LONGEST_WINDOW: u64 = 60_000_000_000;

/// What finds the limit of one service.
#[derive(Debug)]
pub(super) struct Meter {
    /// When to look whether the window is over.
    look_at: AtomicU64,
    /// Calls that began before are not in this window.
    since: AtomicU64,
    /// A call that was given up after more time has failed.
    patience: AtomicU64,
    /// When a window that measures has been open for too long, if calls find no room.
    stuck_at: AtomicU64,
    in_flight: AtomicU64,
    failures: AtomicU64,
    given_up: AtomicU64,
    latencies: Histogram,
    /// Only tried when a call ends, so that nobody waits for it but who sets another limit.
    closing: Mutex<Closing>,
}

/// What is configured.
#[derive(Debug)]
struct Rules {
    window: u64,
    min_calls: u64,
    min_limit: f64,
    max_limit: f64,
}

impl Rules {
    fn new<A>(config: &AdaptiveLimitConfig<A>) -> Self {
        Self {
            window: nanos(config.window),
            min_calls: u64::from(config.min_calls),
            min_limit: f64::from(config.min_limit),
            max_limit: f64::from(config.max_limit),
        }
    }

    fn within(&self, limit: f64) -> f64 {
        limit.clamp(self.min_limit, self.max_limit)
    }
}

/// What only who closes a window has to do with.
#[derive(Debug)]
struct Closing {
    rules: Rules,
    algorithm: Box<dyn Algorithm>,
    limit: f64,
    opened: Timestamp,
    length: u64,
    min_calls: u64,
    is_afresh: bool,
    /// The limit before what is measured afresh, which is less.
    before: f64,
    /// How many calls are let in besides, since as many do not end.
    besides: u32,
    counted: Counted,
    /// The median of windows, in nanoseconds: an average.
    usual: Option<u64>,
}

/// The counters when the window began.
#[derive(Debug)]
struct Counted {
    latencies: Seen,
    failures: u64,
    given_up: u64,
}

impl Meter {
    /// Both must be valid.
    pub(super) fn new<A>(
        config: &AdaptiveLimitConfig<A>,
        algorithm: Box<dyn Algorithm>,
        now: Timestamp,
    ) -> Self {
        let rules = Rules::new(config);
        Self {
            look_at: AtomicU64::new(now.after(config.window).0),
            since: AtomicU64::new(0),
            patience: AtomicU64::new(u64::MAX),
            stuck_at: AtomicU64::new(u64::MAX),
            in_flight: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            latencies: Histogram::new(),
            closing: Mutex::new(Closing {
                algorithm,
                limit: f64::from(config.initial_limit),
                opened: now,
                length: rules.window,
                min_calls: rules.min_calls,
                rules,
                is_afresh: false,
                before: f64::from(config.initial_limit),
                besides: 0,
                counted: Counted { latencies: Seen::new(), failures: 0, given_up: 0 },
                usual: None,
            }),
        }
    }

    /// Goes by the rules of `config` from now on, and returns the limit, which stays as far as it may. What has been
    /// learned stays, unless there is another algorithm.
    pub(super) fn reconfigure<A>(
        &self,
        config: &AdaptiveLimitConfig<A>,
        other: Option<Box<dyn Algorithm>>,
        now: Timestamp,
    ) -> u32 {
        let mut replaced = None;
        let mut closing = lock(&self.closing);
        closing.rules = Rules::new(config);
        closing.limit = closing.rules.within(closing.limit);
        closing.before = closing.rules.within(closing.before);
        closing.length = closing.rules.window;
        if let Some(algorithm) = other {
            replaced = Some(std::mem::replace(&mut closing.algorithm, algorithm));
            closing.is_afresh = false;
            closing.usual = None;
            self.patience.store(u64::MAX, Ordering::Relaxed);
        }
        closing.counted = self.counted();
        let afresh = closing.is_afresh;
        self.open(&mut closing, now, afresh);
        let limit = closing.let_in();
        drop(closing);
        // Not under the lock: it is a user's, and may panic.
        drop(replaced);
        limit
    }

    /// Calls `set` with the limit, under the lock under which the limit and its range change: what
    /// is set last is what holds.
    pub(super) fn publish(&self, set: impl FnOnce(u32)) {
        let closing = lock(&self.closing);
        set(closing.let_in());
    }

    /// Counts a call, and returns the limit from now on, which may be the same, if it was the last one of its window.
    #[inline]
    pub(super) fn ended(&self, call: &Ended) -> Option<u32> {
        if call.began.0 >= self.since.load(Ordering::Relaxed) {
            self.count(call);
        }
        if self.is_due(call.now) { self.look(call.now) } else { None }
    }

    /// Takes note that a call finds no room, and returns the limit from now on if that changes.
    pub(super) fn finds_no_room(&self, full: Full) -> Option<u32> {
        if full.now.0 < self.stuck_at.load(Ordering::Relaxed) { None } else { self.make_room(full) }
    }

    /// Lets in more calls beside those that are in flight, if these keep all others from being
    /// measured: calls that began before, and exempt ones, may never end. No more than before.
    #[cold]
    fn make_room(&self, full: Full) -> Option<u32> {
        let mut closing = self.try_lock()?;
        if full.now.0 < self.stuck_at.load(Ordering::Relaxed) {
            return None;
        }
        self.stuck_at.store(closing.stuck_at(full.now), Ordering::Relaxed);
        closing.besides = whole(closing.before).saturating_sub(whole(closing.limit)).min(full.in_flight);
        Some(closing.let_in())
    }

    /// `None` if another thread holds the lock.
    fn try_lock(&self) -> Option<MutexGuard<'_, Closing>> {
        match self.closing.try_lock() {
            Ok(closing) => Some(closing),
            // Whatever panicked, all was in order before.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    #[inline]
    fn count(&self, call: &Ended) {
        let in_flight = u64::from(call.in_flight);
        if in_flight > self.in_flight.load(Ordering::Relaxed) {
            self.in_flight.fetch_max(in_flight, Ordering::Relaxed);
        }
        let took = call.now.since(call.began);
        let counter = match call.class {
            Some(Class::Success) => return self.latencies.count(took),
            Some(Class::Ignored) => return,
            Some(Class::Failure) => &self.failures,
            None if nanos(took) > self.patience.load(Ordering::Relaxed) => &self.failures,
            None => &self.given_up,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Also if the next look is further away than one ever is: the clock has jumped back.
    #[inline]
    fn is_due(&self, now: Timestamp) -> bool {
        let ahead = self.look_at.load(Ordering::Relaxed).wrapping_sub(now.0);
        ahead.wrapping_sub(1) >= LONGEST_WINDOW
    }

    #[cold]
    fn look(&self, now: Timestamp) -> Option<u32> {
        let mut closing = self.try_lock()?;
        // Another one may have closed it in the meantime.
        if !self.is_due(now) && !planted!("window_closed_twice") {
            return None;
        }
        if now < closing.opened {
            self.open(&mut closing, now, false);
            return None;
        }
        let counted = self.counted();
        let sample = self.sample(&closing, &counted, now);
        if !closing.is_over(&sample) {
            self.look_again(now, closing.rules.window >> 3);
            return None;
        }
        let limit = closing.limit;
        if !closing.is_afresh {
            closing.before = limit;
        }
        let Next { limit: next, afresh } = closing.ask(&sample);
        closing.limit = if next.is_nan() { limit } else { closing.rules.within(next) };
        closing.counted = counted;
        self.learn(&mut closing, limit, &sample);
        self.open(&mut closing, now, afresh);
        Some(closing.let_in())
    }

    fn counted(&self) -> Counted {
        Counted {
            latencies: self.latencies.read(),
            failures: self.failures.load(Ordering::Relaxed),
            given_up: self.given_up.load(Ordering::Relaxed),
        }
    }

    fn sample(&self, closing: &Closing, counted: &Counted, now: Timestamp) -> Sample {
        let latencies = counted.latencies.since(&closing.counted.latencies);
        let succeeded = latencies.calls();
        let failures = counted.failures.wrapping_sub(closing.counted.failures);
        let given_up = counted.given_up.wrapping_sub(closing.counted.given_up);
        // Where hardly any caller waits for the end, the service hangs, however soon they leave.
        let is_hanging = given_up > succeeded.saturating_add(failures).saturating_mul(9);
        let failures = failures.saturating_add(if is_hanging { given_up } else { 0 });
        Sample {
            latency: latencies.median(),
            mean: latencies.mean(),
            fastest: latencies.fastest(),
            in_flight: u32::try_from(self.in_flight.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
            calls: succeeded.saturating_add(failures),
            failures,
            cancelled: if is_hanging { 0 } else { given_up },
            length: now.since(closing.opened),
        }
    }

    /// What is usual, for the next window's length and for telling which calls were given up late.
    fn learn(&self, closing: &mut Closing, limit: f64, sample: &Sample) {
        let Some(latency) = sample.mean.map(nanos) else { return };
        closing.length = latency.saturating_mul(2).clamp(closing.rules.window, LONGEST_WINDOW);
        let usual = closing.usual.unwrap_or(latency);
        // If the limit was used, a longer one may be that of a queue.
        let is_telling = latency < usual || closing.is_afresh || sample.is_app_limited(limit);
        let usual = if is_telling { times(usual, 0.7).saturating_add(times(latency, 0.3)) } else { usual };
        closing.usual = Some(usual);
        self.patience.store(times(usual, 2.5), Ordering::Relaxed);
    }

    fn open(&self, closing: &mut Closing, now: Timestamp, afresh: bool) {
        closing.opened = now;
        closing.is_afresh = afresh;
        closing.besides = 0;
        self.stuck_at.store(closing.stuck_at(now), Ordering::Relaxed);
        closing.min_calls = closing.rules.min_calls;
        self.since.store(if afresh { now.0 } else { 0 }, Ordering::Relaxed);
        if afresh {
            let several_rounds = u64::from(whole(closing.limit)).saturating_mul(4);
            closing.min_calls = closing.min_calls.max(several_rounds);
            closing.length = closing.rules.window;
            // Without those that have ended since the last look.
            closing.counted = self.counted();
        }
        self.in_flight.store(0, Ordering::Relaxed);
        self.look_again(now, closing.length);
    }

    fn look_again(&self, now: Timestamp, after: u64) {
        self.look_at.store(now.after(Duration::from_nanos(after)).0, Ordering::Relaxed);
    }
}

impl Closing {
    /// A user's algorithm may panic, and the end of a call has nothing to do with that: it may itself be a panic, and two
    /// of them end the program.
    fn ask(&mut self, sample: &Sample) -> Next {
        let Self { algorithm, limit, .. } = self;
        catch_unwind(AssertUnwindSafe(|| algorithm.next(*limit, sample))).unwrap_or(Next::limit(*limit))
    }

    /// The limit with those that are let in besides.
    fn let_in(&self) -> u32 {
        whole(self.limit).saturating_add(self.besides)
    }

    /// When a window that measures is open for too long if no call finds room, from now.
    fn stuck_at(&self, now: Timestamp) -> u64 {
        const LATE: u64 = 16;
        let round = self.rules.window.max(self.usual.unwrap_or(0));
        if self.is_afresh { now.0.saturating_add(round.saturating_mul(LATE)) } else { u64::MAX }
    }

    /// Whether enough calls have ended, for the time it took.
    fn is_over(&self, sample: &Sample) -> bool {
        const LATE: u64 = 4;
        const ENOUGH_IF_LATE: u64 = 16;
        let length = nanos(sample.length);
        let latency = sample.mean.map_or(0, nanos).max(self.length >> 1);
        let calls = sample.calls.saturating_add(sample.cancelled);
        let is_full = calls >= self.min_calls && length >= self.length;
        let is_late = length >= self.rules.window.saturating_mul(LATE)
            && length.saturating_mul(2) >= latency.saturating_mul(3);
        // Of calls that begin with the window, the short ones end first.
        let rounds = if self.is_afresh { u64::from(whole(self.limit)).saturating_mul(4) } else { 0 };
        (is_full || is_late && calls >= self.min_calls.min(ENOUGH_IF_LATE))
            && (calls >= rounds || length >= latency.saturating_mul(16))
    }
}

/// The limit that is let in.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn whole(limit: f64) -> u32 {
    limit as u32
}
