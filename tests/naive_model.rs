//! Holds the naive model of the breaker against the recorded behaviour of Resilience4j, so that it can be trusted as
//! the oracle for the real one; then shows by example what it does where Stanchion differs.

#[path = "support/naive_breaker.rs"]
mod naive_breaker;
#[path = "support/traces.rs"]
mod traces;

use std::collections::BTreeMap;

use naive_breaker::{
    Backoff, Config, Counts, Illegal, Naive, NaivePermit, Outcome, Rates, Rules, State, Timers, Window,
};
use traces::{Op, Scenario, Seen, StateName, Step, WindowKind};

const MS: u64 = 1_000_000;
const RESILIENCE4J: Rules = Rules { stanchion_differences: false };
const STANCHION: Rules = Rules { stanchion_differences: true };

/// In it a timer that `reset` forgot to cancel cuts a later open stay short. No timer of the model outlives its stay.
const FORGOTTEN_TIMER: &str = "cb-q03";

#[test]
fn resilience4j_rules_reproduce_every_recorded_step() {
    let scenarios = traces::load();
    let replayed = scenarios.iter().filter(|scenario| scenario.id != FORGOTTEN_TIMER);
    assert_eq!(replay_all(replayed, RESILIENCE4J), 405);
}

/// The differences matter to calls that end late, and to the opening after one whose length was given by hand. The timers Stanchion does not have are played by
/// an operator who acts at their very instant.
#[test]
fn stanchion_rules_reproduce_every_recorded_step_without_late_results() {
    let scenarios = traces::load();
    let replayed =
        scenarios.iter().filter(|scenario| !has_tag(scenario, "late") && !has_tag(scenario, "quirk"));
    assert_eq!(replay_all(replayed, STANCHION), 185);
}

fn replay_all<'a>(scenarios: impl Iterator<Item = &'a Scenario>, rules: Rules) -> usize {
    let mut total = 0;
    let mut by_tag = BTreeMap::<&str, usize>::new();
    for scenario in scenarios {
        assert_eq!(replay(scenario, rules), Ok(()));
        total += 1;
        for tag in &scenario.tags {
            *by_tag.entry(tag).or_default() += 1;
        }
    }
    println!("{rules:?} replayed {total} scenarios, by tag: {by_tag:?}");
    total
}

#[test]
fn a_forgotten_timer_is_not_imitated() {
    let why = replay(&scenario(FORGOTTEN_TIMER), RESILIENCE4J).expect_err("the model cancels the timer");
    assert!(why.starts_with("cb-q03, step 11:"), "{why}");
}

#[test]
fn a_corrupted_recording_is_noticed() {
    let intact = scenario("cb-d08");
    assert_eq!(replay(&intact, RESILIENCE4J), Ok(()));
    for (what, corrupt) in CORRUPTIONS {
        let mut corrupted = intact.clone();
        corrupt(&mut corrupted);
        assert!(replay(&corrupted, RESILIENCE4J).is_err(), "not noticed: {what}");
    }
}

type Corruption = fn(&mut Scenario);

const CORRUPTIONS: [(&str, Corruption); 7] = [
    ("a call is admitted instead of rejected", |scenario| {
        let rejected = |step: &&mut Step| matches!(step.op, Op::Acquire { ok: false, .. });
        let step = scenario.steps.iter_mut().find(rejected).expect("it rejects a call");
        step.op = Op::Acquire { ok: true, call: Some(999) };
    }),
    ("the last state", |scenario| {
        last_seen(scenario).state = StateName::Disabled;
    }),
    ("the last rate, by the smallest possible step", |scenario| {
        let seen = last_seen(scenario);
        seen.failure_rate = f32::from_bits(seen.failure_rate.to_bits() + 1);
    }),
    ("a count", |scenario| {
        last_seen(scenario).failed += 1;
    }),
    ("the rejections", |scenario| {
        last_seen(scenario).not_permitted += 1;
    }),
    ("the threshold", |scenario| {
        scenario.config.failure_rate_threshold = 101.0;
    }),
    ("an outcome", |scenario| {
        let step = scenario.steps.iter_mut().find(|step| matches!(step.op, Op::Failure { .. }));
        let step = step.expect("it has failures");
        if let Op::Failure { call, ms } = step.op {
            step.op = Op::Success { call, ms };
        }
    }),
];

#[test]
fn late_results_are_where_the_two_sets_of_rules_part() {
    let scenarios = traces::load();
    let late = scenarios.iter().filter(|scenario| has_tag(scenario, "late"));
    let parted = late.filter(|scenario| replay(scenario, STANCHION).is_err()).count();
    assert!(parted > 100, "only {parted} scenarios with late results replay differently");
}

#[test]
fn stanchion_admits_at_exactly_the_end_of_the_wait() {
    let mut breaker = opened(small(STANCHION));
    assert!(breaker.acquire(100 * MS - 1).is_none());
    assert!(breaker.acquire(100 * MS).is_some());
    let mut breaker = opened(small(RESILIENCE4J));
    assert!(breaker.acquire(100 * MS).is_none());
    assert!(breaker.acquire(100 * MS + 1).is_some());
}

#[test]
fn a_result_of_an_earlier_stay_changes_nothing_and_returns_no_slot() {
    let mut breaker = Naive::new(small(STANCHION), 0);
    let [success, failure, dropped] = [0; 3].map(|now| admitted(&mut breaker, now));
    fail_twice(&mut breaker, 0);
    let trials = [100 * MS; 2].map(|now| admitted(&mut breaker, now));
    breaker.finish(success, 100 * MS, Outcome::Success);
    breaker.finish(failure, 100 * MS, Outcome::Failure);
    breaker.ignore(dropped, 100 * MS);
    assert_eq!(breaker.state(100 * MS), State::HalfOpen);
    assert_eq!(breaker.counts(100 * MS), Counts::default());
    assert!(breaker.acquire(100 * MS).is_none());
    for trial in trials {
        breaker.finish(trial, 101 * MS, Outcome::Success);
    }
    assert_eq!(breaker.state(101 * MS), State::Closed);
}

#[test]
fn a_finished_trial_keeps_its_slot_and_a_dropped_one_returns_it() {
    let mut breaker = opened(Config { min_calls: 3, probes: 3, ..small(STANCHION) });
    let [finished, dropped, _running] = [100 * MS; 3].map(|now| admitted(&mut breaker, now));
    breaker.finish(finished, 110 * MS, Outcome::Success);
    assert!(breaker.acquire(110 * MS).is_none());
    breaker.ignore(dropped, 110 * MS);
    assert!(breaker.acquire(110 * MS).is_some());
    assert!(breaker.acquire(110 * MS).is_none());
}

#[test]
fn an_overdue_trial_loses_its_slot_and_its_say() {
    let mut breaker = opened(small(STANCHION));
    let overdue = [100 * MS; 2].map(|now| admitted(&mut breaker, now));
    assert!(breaker.acquire(150 * MS - 1).is_none());
    let replacements = [150 * MS; 2].map(|now| admitted(&mut breaker, now));
    for trial in overdue {
        breaker.finish(trial, 150 * MS, Outcome::Failure);
    }
    assert_eq!(breaker.counts(150 * MS), Counts::default());
    assert!(breaker.acquire(150 * MS).is_none(), "the overdue ones return no slot either");
    for trial in replacements {
        breaker.finish(trial, 160 * MS, Outcome::Success);
    }
    assert_eq!(breaker.state(160 * MS), State::Closed);
}

/// The recordings never grow a wait across these, so the rules are taken by their word.
#[test]
fn a_forced_opening_counts_for_the_backoff_and_being_disabled_or_observed_starts_it_anew() {
    let doubling = Backoff { multiplier: 2.0, max: None, unit: MS };
    let waits_after = |operate: fn(&mut Naive) -> Result<(), Illegal>| {
        let mut breaker = opened(Config { backoff: Some(doubling), ..small(STANCHION) });
        operate(&mut breaker).expect("it is legal in an open breaker");
        breaker.force_open(0).expect("it is legal everywhere");
        breaker.open(0, None).expect("it is legal in a forced open breaker");
        (0..).find(|ms| breaker.acquire(ms * MS).is_some())
    };
    assert_eq!(waits_after(|_| Ok(())), Some(400));
    assert_eq!(waits_after(|breaker| breaker.force_open(0)), Some(800));
    assert_eq!(waits_after(|breaker| breaker.disable(0)), Some(200));
    assert_eq!(waits_after(|breaker| breaker.observe_only(0)), Some(200));
}

#[test]
fn an_empty_window_has_no_rate_whatever_the_minimum() {
    let mut breaker = Naive::new(Config { min_calls: 0, ..small(STANCHION) }, 0);
    assert_eq!(breaker.rates(0), None);
}

/// Two failures of two open it for 100 ms; two trials decide, leased for 50 ms.
fn small(rules: Rules) -> Config {
    Config {
        rules,
        window: Window::Count(2),
        min_calls: 2,
        failure_percent: 100.0,
        slow_percent: 100.0,
        slow_after: u64::MAX,
        open_for: 100 * MS,
        backoff: None,
        probes: 2,
        probe_timeout: Some(50 * MS),
        timers: Timers { auto_half_open: false, max_wait_half_open: None, after_max_wait: State::Open },
        initial: State::Closed,
    }
}

fn opened(config: Config) -> Naive {
    let mut breaker = Naive::new(config, 0);
    fail_twice(&mut breaker, 0);
    breaker
}

fn fail_twice(breaker: &mut Naive, now: u64) {
    for _ in 0..2 {
        let permit = admitted(breaker, now);
        breaker.finish(permit, now, Outcome::Failure);
    }
    assert_eq!(breaker.state(now), State::Open);
}

fn admitted(breaker: &mut Naive, now: u64) -> NaivePermit {
    breaker.acquire(now).expect("the call is admitted")
}

fn scenario(id: &str) -> Scenario {
    traces::load().into_iter().find(|scenario| scenario.id == id).expect("the scenario is recorded")
}

fn has_tag(scenario: &Scenario, tag: &str) -> bool {
    scenario.tags.iter().any(|candidate| candidate == tag)
}

fn last_seen(scenario: &mut Scenario) -> &mut Seen {
    &mut scenario.steps.last_mut().expect("a scenario has steps").seen
}

/// Replays one scenario step by step; an error says where the model first did something else.
fn replay(scenario: &Scenario, rules: Rules) -> Result<(), String> {
    let start = scenario.config.start_ms * MS;
    let mut player = Player::new(&scenario.config, rules);
    for (index, step) in scenario.steps.iter().enumerate() {
        let now = start + step.seen.t * MS;
        player.play(step, now).map_err(|why| format!("{}, step {index}: {why} at {step:?}", scenario.id))?;
    }
    Ok(())
}

struct Player {
    breaker: Breaker,
    /// Knows when Resilience4j's timers fire, for rules that have none.
    timekeeper: Breaker,
}

/// A model and the calls it has admitted.
struct Breaker {
    model: Naive,
    calls: BTreeMap<u32, NaivePermit>,
    /// What is added to a wait so that admission comes right after it and not at its end.
    smallest_step: u64,
}

impl Player {
    fn new(recorded: &traces::Config, rules: Rules) -> Self {
        Self { breaker: Breaker::new(recorded, rules), timekeeper: Breaker::new(recorded, RESILIENCE4J) }
    }

    fn play(&mut self, step: &Step, now: u64) -> Result<(), String> {
        while let Some((at, next)) = self.timekeeper.model.next_timer().filter(|(at, _)| *at <= now) {
            self.timekeeper.model.tick(at);
            self.breaker.fire(next, at).map_err(|Illegal| "a timer was refused".to_owned())?;
        }
        // Its own mismatches are not looked at: where it strays, so will the other.
        let _ = self.timekeeper.perform(step, now);
        self.breaker.perform(step, now)?;
        self.breaker.compare(&step.seen, now)
    }
}

impl Breaker {
    fn new(recorded: &traces::Config, rules: Rules) -> Self {
        let smallest_step = u64::from(rules.stanchion_differences);
        let model = Naive::new(configured(recorded, rules, smallest_step), recorded.start_ms * MS);
        Self { model, calls: BTreeMap::new(), smallest_step }
    }

    /// Does by hand what a timer does; for a model with that timer there is nothing left to do.
    fn fire(&mut self, next: State, at: u64) -> Result<(), Illegal> {
        if self.model.next_timer().is_some() {
            self.model.tick(at);
            return Ok(());
        }
        match next {
            State::HalfOpen => self.model.half_open(at),
            State::Closed => self.model.close(at),
            _ => self.model.open(at, None),
        }
    }

    fn perform(&mut self, step: &Step, now: u64) -> Result<(), String> {
        let moved = match step.op {
            Op::Acquire { ok, call } => return self.acquire(ok, call, now),
            Op::Success { call, .. } => return self.finish(call, now, Outcome::Success),
            Op::Failure { call, .. } => return self.finish(call, now, Outcome::Failure),
            Op::Ignore { call } | Op::IgnoredError { call, .. } => {
                let permit = self.permit(call)?;
                self.model.ignore(permit, now);
                Ok(())
            }
            Op::Advance { .. } => {
                self.model.tick(now);
                Ok(())
            }
            Op::ForceOpen => self.model.force_open(now),
            Op::Disable => self.model.disable(now),
            Op::Close => self.model.close(now),
            Op::Open => self.model.open(now, None),
            Op::OpenFor { ms } => self.model.open(now, Some(ms * MS + self.smallest_step)),
            Op::HalfOpen => self.model.half_open(now),
            Op::MetricsOnly => self.model.observe_only(now),
            Op::Reset => {
                self.model.reset(now);
                Ok(())
            }
        };
        same("refused", moved.is_err(), step.error.is_some())
    }

    fn acquire(&mut self, ok: bool, call: Option<u32>, now: u64) -> Result<(), String> {
        let permit = self.model.acquire(now);
        same("admitted", permit.is_some(), ok)?;
        self.calls.extend(call.zip(permit));
        Ok(())
    }

    fn finish(&mut self, call: u32, now: u64, outcome: Outcome) -> Result<(), String> {
        let permit = self.permit(call)?;
        self.model.finish(permit, now, outcome);
        Ok(())
    }

    fn permit(&mut self, call: u32) -> Result<NaivePermit, String> {
        self.calls.remove(&call).ok_or_else(|| format!("call {call} was not admitted"))
    }

    fn compare(&mut self, seen: &Seen, now: u64) -> Result<(), String> {
        let Seen { buffered, failed, slow, slow_failed, .. } = *seen;
        same("state", self.model.state(now), state_of(seen.state))?;
        same("counts", self.model.counts(now), Counts { buffered, failed, slow, slow_failed })?;
        same("rejected", self.model.not_permitted(now), seen.not_permitted)?;
        same("rates", as_recorded(self.model.rates(now)), [seen.failure_rate, seen.slow_rate])
    }
}

fn same<T: Copy + PartialEq + std::fmt::Debug>(what: &str, model: T, recorded: T) -> Result<(), String> {
    if model == recorded { Ok(()) } else { Err(format!("{what}: {model:?}, recorded {recorded:?}")) }
}

#[expect(clippy::cast_possible_truncation, reason = "32-bit floats were recorded")]
fn as_recorded(rates: Option<Rates>) -> [f32; 2] {
    rates.map_or([-1.0, -1.0], |rates| [rates.failure as f32, rates.slow as f32])
}

fn configured(recorded: &traces::Config, rules: Rules, smallest_step: u64) -> Config {
    let max_wait = recorded.max_wait_half_open_ms * MS;
    // The smallest step must survive the multiplications.
    let unit = if rules.stanchion_differences { 1 } else { MS };
    Config {
        rules,
        window: match recorded.window {
            WindowKind::Count => Window::Count(recorded.size),
            WindowKind::Time => Window::Time { buckets: u64::from(recorded.size), width_ns: 1000 * MS },
        },
        min_calls: recorded.minimum_calls,
        failure_percent: recorded.failure_rate_threshold,
        slow_percent: recorded.slow_call_rate_threshold,
        slow_after: recorded.slow_call_duration_ms * MS,
        open_for: recorded.wait_open_ms * MS + smallest_step,
        backoff: recorded.wait_open_multiplier.map(|multiplier| Backoff {
            multiplier,
            max: recorded.wait_open_max_ms.map(|max| max * MS + smallest_step),
            unit,
        }),
        probes: recorded.permitted_half_open,
        probe_timeout: None,
        timers: Timers {
            auto_half_open: recorded.auto_half_open,
            max_wait_half_open: (max_wait > 0).then_some(max_wait),
            after_max_wait: recorded.after_half_open_wait.map_or(State::Open, state_of),
        },
        initial: recorded.initial_state.map_or(State::Closed, state_of),
    }
}

fn state_of(name: StateName) -> State {
    match name {
        StateName::Closed => State::Closed,
        StateName::Open => State::Open,
        StateName::HalfOpen => State::HalfOpen,
        StateName::Disabled => State::Disabled,
        StateName::ForcedOpen => State::ForcedOpen,
        StateName::MetricsOnly => State::ObserveOnly,
    }
}
