//! A naive model of the circuit breaker: the oracle the real one is compared with.
//!
//! It is slow and simple on purpose. Results and trials are kept in plain lists and everything is counted from scratch
//! whenever it is asked for. Time is a number of nanoseconds on a clock that never goes back.
//!
//! Two sets of rules share this model. With `stanchion_differences: false` it does what Resilience4j was seen to do
//! (`tests/data/resilience4j`); with `true` it does what Stanchion promises instead. Every place where they part
//! asks [`Naive::differs`].

/// Which of the two sets of rules is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) stanchion_differences: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) rules: Rules,
    pub(crate) window: Window,
    pub(crate) min_calls: u32,
    /// Reached means `>=`.
    pub(crate) failure_percent: f64,
    pub(crate) slow_percent: f64,
    /// A call that took longer than this is slow.
    pub(crate) slow_after: u64,
    pub(crate) open_for: u64,
    /// Lets `open_for` grow while the breaker reopens again and again.
    pub(crate) backoff: Option<Backoff>,
    /// How many trials decide a half-open stay, and how many it admits.
    pub(crate) probes: u32,
    /// How long a trial holds its slot. Stanchion's rules only.
    pub(crate) probe_timeout: Option<u64>,
    /// Resilience4j's rules only.
    pub(crate) timers: Timers,
    pub(crate) initial: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    /// The last so many results.
    Count(u32),
    /// The results of the current bucket and of the `buckets - 1` before it. Buckets are cut on the absolute clock.
    Time { buckets: u64, width_ns: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Backoff {
    pub(crate) multiplier: f64,
    pub(crate) max: Option<u64>,
    /// Every product is cut to whole units. Resilience4j's is a millisecond.
    pub(crate) unit: u64,
}

/// Transitions that need no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timers {
    /// Half-open begins at exactly the end of the wait.
    pub(crate) auto_half_open: bool,
    /// A half-open stay ends at exactly this age ...
    pub(crate) max_wait_half_open: Option<u64>,
    /// ... in this state.
    pub(crate) after_max_wait: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Admits all, records, may open.
    Closed,
    /// Rejects all until the wait is over.
    Open,
    /// Admits a few trials, which decide.
    HalfOpen,
    /// Admits all, records nothing.
    Disabled,
    /// Rejects all until it is moved by hand.
    ForcedOpen,
    /// Admits all, records, never opens.
    ObserveOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure,
}

/// An admitted call. It is used up by `finish` or `ignore`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NaivePermit {
    number: u64,
    generation: u64,
    admitted_at: u64,
}

/// What the window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) buffered: u32,
    pub(crate) failed: u32,
    pub(crate) slow: u32,
    pub(crate) slow_failed: u32,
}

/// In percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rates {
    pub(crate) failure: f64,
    pub(crate) slow: f64,
}

/// A manual transition that is not allowed; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Illegal;

#[derive(Debug, Clone)]
struct CallResult {
    at: u64,
    failed: bool,
    slow: bool,
}

/// The results of one stay, and over how many or how old of them it is judged.
#[derive(Debug, Clone)]
struct Measured {
    window: Window,
    min_calls: u32,
    results: Vec<CallResult>,
    rejected: u32,
}

#[derive(Debug, Clone)]
struct Trial {
    number: u64,
    admitted_at: u64,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Running,
    Finished,
    GivenBack,
}

#[derive(Debug, Clone)]
pub(crate) struct Naive {
    config: Config,
    state: State,
    entered_at: u64,
    /// The number of the current stay. Every entry into a state begins a new one, also into the same state.
    generation: u64,
    /// How long this open stay lasts.
    wait: u64,
    /// Openings in a row, for the back-off.
    openings: u32,
    measured: Measured,
    /// The trials of this half-open stay.
    trials: Vec<Trial>,
    /// Slots given back during this half-open stay, by whomever. Resilience4j's rules only.
    returned: u32,
    admitted_ever: u64,
}

impl Naive {
    pub(crate) fn new(config: Config, start: u64) -> Self {
        let measured = Measured::with_new_state(config.window, config.min_calls);
        let initial = config.initial;
        let mut breaker = Self {
            config,
            state: State::Closed,
            entered_at: start,
            generation: 0,
            wait: 0,
            openings: 0,
            measured,
            trials: Vec::new(),
            returned: 0,
            admitted_ever: 0,
        };
        if initial == State::HalfOpen {
            // As if it had been open before: the next opening in a row is the second.
            breaker.openings = 1;
        }
        if initial != State::Closed {
            breaker.enter(initial, start);
        }
        breaker
    }

    /// Asks for admission. The first call after the wait makes an open breaker half-open, and is its first trial.
    pub(crate) fn acquire(&mut self, now: u64) -> Option<NaivePermit> {
        self.tick(now);
        if self.state == State::Open && self.wait_is_over(now) {
            self.enter(State::HalfOpen, now);
        }
        if !self.admits(now) {
            self.measured.rejected += 1;
            return None;
        }
        self.admitted_ever += 1;
        let number = self.admitted_ever;
        if self.state == State::HalfOpen {
            self.trials.push(Trial { number, admitted_at: now, fate: Fate::Running });
        }
        Some(NaivePermit { number, generation: self.generation, admitted_at: now })
    }

    /// The call ended. Only this can make a verdict: neither time nor admission nor a given up call does.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is used up")]
    pub(crate) fn finish(&mut self, permit: NaivePermit, now: u64, outcome: Outcome) {
        self.tick(now);
        if !self.honours(&permit, now) {
            return;
        }
        self.settle_trial(&permit, Fate::Finished);
        if self.records() {
            self.measured.results.push(CallResult {
                at: now,
                failed: outcome == Outcome::Failure,
                slow: now - permit.admitted_at > self.config.slow_after,
            });
            self.judge(now);
        }
    }

    /// The call was given up, or ended in a way that says nothing: its slot is free again, nothing is recorded.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is used up")]
    pub(crate) fn ignore(&mut self, permit: NaivePermit, now: u64) {
        self.tick(now);
        if !self.honours(&permit, now) {
            return;
        }
        self.settle_trial(&permit, Fate::GivenBack);
        self.returned += 1;
    }

    /// Fires the timers that are due, in order, each at its own instant. Every other operation begins with this.
    pub(crate) fn tick(&mut self, now: u64) {
        while let Some((at, next)) = self.next_timer().filter(|(at, _)| *at <= now) {
            self.enter(next, at);
        }
    }

    /// When the next timer fires, and into which state. Stanchion has none.
    pub(crate) fn next_timer(&self) -> Option<(u64, State)> {
        let timers = self.config.timers;
        match self.state {
            _ if self.differs() => None,
            State::Open if timers.auto_half_open => Some((self.entered_at + self.wait, State::HalfOpen)),
            State::HalfOpen => {
                timers.max_wait_half_open.map(|limit| (self.entered_at + limit, timers.after_max_wait))
            }
            _ => None,
        }
    }

    pub(crate) fn state(&mut self, now: u64) -> State {
        self.tick(now);
        self.state
    }

    /// What is in the window now. An open breaker goes on showing the window it was opened by.
    pub(crate) fn counts(&mut self, now: u64) -> Counts {
        self.tick(now);
        self.measured.counts(now)
    }

    fn differs(&self) -> bool {
        self.config.rules.stanchion_differences
    }

    /// Exactly at the end of the wait Stanchion admits; Resilience4j does not yet.
    fn wait_is_over(&self, now: u64) -> bool {
        let waited = now - self.entered_at;
        if self.differs() { waited >= self.wait } else { waited > self.wait }
    }

    fn admits(&self, now: u64) -> bool {
        match self.state {
            State::Closed | State::Disabled | State::ObserveOnly => true,
            State::Open | State::ForcedOpen => false,
            State::HalfOpen if self.differs() => self.slots_in_use(now) < to_len(self.config.probes),
            // Whatever is given back adds a slot, so late ones can add more than there were.
            State::HalfOpen => self.trials.len() < to_len(self.config.probes + self.returned),
        }
    }

    /// A finished trial keeps its slot until the end of the stay, a running one until its lease is over.
    fn slots_in_use(&self, now: u64) -> usize {
        let in_use = |trial: &&Trial| match trial.fate {
            Fate::Finished => true,
            Fate::Running => !self.lease_is_over(trial, now),
            Fate::GivenBack => false,
        };
        self.trials.iter().filter(in_use).count()
    }

    fn lease_is_over(&self, trial: &Trial, now: u64) -> bool {
        self.config.probe_timeout.is_some_and(|lease| now - trial.admitted_at >= lease)
    }

    /// Whether the end of this call still means anything.
    fn honours(&self, permit: &NaivePermit, now: u64) -> bool {
        if !self.differs() {
            // No call belongs to a stay: its end counts in whichever stay it happens.
            return true;
        }
        let lost = |trial: &Trial| trial.number == permit.number && self.lease_is_over(trial, now);
        permit.generation == self.generation && !self.trials.iter().any(lost)
    }

    fn settle_trial(&mut self, permit: &NaivePermit, fate: Fate) {
        for trial in self.trials.iter_mut().filter(|trial| trial.number == permit.number) {
            trial.fate = fate;
        }
    }

    fn records(&self) -> bool {
        match self.state {
            // Only a call of an earlier stay can end in here.
            State::Open => !self.differs(),
            State::Closed | State::HalfOpen | State::ObserveOnly => true,
            State::Disabled | State::ForcedOpen => false,
        }
    }

    fn judge(&mut self, now: u64) {
        let Some(rates) = self.measured.rates(now) else {
            return;
        };
        let sick = rates.failure >= self.config.failure_percent || rates.slow >= self.config.slow_percent;
        match (self.state, sick) {
            (State::Closed | State::HalfOpen, true) => self.enter(State::Open, now),
            (State::HalfOpen, false) => self.enter(State::Closed, now),
            _ => {}
        }
    }

    fn enter(&mut self, state: State, now: u64) {
        match state {
            State::Open | State::ForcedOpen => self.openings += 1,
            State::Closed | State::Disabled | State::ObserveOnly => self.openings = 0,
            State::HalfOpen => {}
        }
        self.wait = self.config.wait_of_opening(self.openings);
        self.begin_stay(state, now);
    }

    fn begin_stay(&mut self, state: State, now: u64) {
        let Config { window, min_calls, probes, .. } = self.config;
        match state {
            // Still shows what it was opened by.
            State::Open => {}
            // Trials are counted, however the other results are windowed.
            State::HalfOpen => self.measured = Measured::with_new_state(Window::Count(probes), min_calls),
            State::Closed | State::Disabled | State::ForcedOpen | State::ObserveOnly => {
                self.measured = Measured::with_new_state(window, min_calls);
            }
        }
        self.state = state;
        self.entered_at = now;
        self.generation += 1;
        self.trials.clear();
        self.returned = 0;
    }
}

/// What an operator may do and look at.
#[allow(dead_code, reason = "not every test that includes this file needs an operator")]
impl Naive {
    pub(crate) fn close(&mut self, now: u64) -> Result<(), Illegal> {
        self.move_by_hand(State::Closed, now)
    }

    /// Opens for `wait`, which then does not count as an opening in a row, or for as long as it would by itself.
    pub(crate) fn open(&mut self, now: u64, wait: Option<u64>) -> Result<(), Illegal> {
        let openings = self.openings;
        self.move_by_hand(State::Open, now)?;
        if let Some(wait) = wait {
            if !self.differs() {
                self.openings = openings;
            }
            self.wait = wait;
        }
        Ok(())
    }

    pub(crate) fn half_open(&mut self, now: u64) -> Result<(), Illegal> {
        self.move_by_hand(State::HalfOpen, now)
    }

    pub(crate) fn force_open(&mut self, now: u64) -> Result<(), Illegal> {
        self.move_by_hand(State::ForcedOpen, now)
    }

    pub(crate) fn disable(&mut self, now: u64) -> Result<(), Illegal> {
        self.move_by_hand(State::Disabled, now)
    }

    pub(crate) fn observe_only(&mut self, now: u64) -> Result<(), Illegal> {
        self.move_by_hand(State::ObserveOnly, now)
    }

    /// A fresh closed breaker, from anywhere.
    pub(crate) fn reset(&mut self, now: u64) {
        self.tick(now);
        self.enter(State::Closed, now);
    }

    /// `None` while there are too few results to judge.
    pub(crate) fn rates(&mut self, now: u64) -> Option<Rates> {
        self.tick(now);
        self.measured.rates(now)
    }

    /// Calls rejected since the window shown was fresh.
    pub(crate) fn not_permitted(&mut self, now: u64) -> u32 {
        self.tick(now);
        self.measured.rejected
    }

    /// Trials anew, in the same stay: those under way keep their slots and count.
    fn probe_again(&mut self, now: u64) {
        let Config { probes, min_calls, .. } = self.config;
        self.measured = Measured::with_new_state(Window::Count(probes), min_calls);
        self.entered_at = now;
        self.trials.retain(|trial| matches!(trial.fate, Fate::Running));
    }

    fn move_by_hand(&mut self, to: State, now: u64) -> Result<(), Illegal> {
        self.tick(now);
        match (self.state, to) {
            (State::Closed, State::HalfOpen) | (State::ObserveOnly, State::Open | State::HalfOpen) => {
                Err(Illegal)
            }
            (State::HalfOpen, State::HalfOpen) if self.differs() => {
                self.probe_again(now);
                Ok(())
            }
            _ => {
                self.enter(to, now);
                Ok(())
            }
        }
    }
}

impl Config {
    /// The first opening in a row is number 1.
    fn wait_of_opening(&self, number: u32) -> u64 {
        let Some(backoff) = self.backoff else {
            return self.open_for;
        };
        let grown = (1..number).fold(self.open_for, |wait, _| backoff.grow(wait));
        backoff.max.map_or(grown, |max| grown.min(max))
    }
}

impl Backoff {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "cut to whole units on purpose, never negative, and `as` saturates"
    )]
    fn grow(&self, wait: u64) -> u64 {
        let units = (wait / self.unit) as f64 * self.multiplier;
        (units as u64).saturating_mul(self.unit)
    }
}

impl Measured {
    fn with_new_state(window: Window, min_calls: u32) -> Self {
        let min_calls = match window {
            // More would never come together.
            Window::Count(size) => min_calls.min(size),
            Window::Time { .. } => min_calls,
        };
        Self { window, min_calls, results: Vec::new(), rejected: 0 }
    }

    fn live(&self, now: u64) -> Vec<CallResult> {
        match self.window {
            Window::Count(size) => {
                let older = self.results.len().saturating_sub(to_len(size));
                self.results.iter().skip(older).cloned().collect()
            }
            Window::Time { buckets, width_ns } => {
                let alive = |result: &&CallResult| result.at / width_ns + buckets > now / width_ns;
                self.results.iter().filter(alive).cloned().collect()
            }
        }
    }

    fn counts(&self, now: u64) -> Counts {
        let mut counts = Counts::default();
        for result in self.live(now) {
            counts.buffered += 1;
            counts.failed += u32::from(result.failed);
            counts.slow += u32::from(result.slow);
            counts.slow_failed += u32::from(result.failed && result.slow);
        }
        counts
    }

    fn rates(&self, now: u64) -> Option<Rates> {
        let Counts { buffered, failed, slow, .. } = self.counts(now);
        let percent = |part: u32| f64::from(part) * 100.0 / f64::from(buffered);
        (buffered > 0 && buffered >= self.min_calls)
            .then(|| Rates { failure: percent(failed), slow: percent(slow) })
    }
}

fn to_len(count: u32) -> usize {
    usize::try_from(count).expect("a count of calls fits in memory")
}
