//! The observer that reports to the `metrics` facade.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use super::{Action, CallOutcome, ConcurrencyGauge, Event, LayerId, MetricSet, Observer};
use crate::base::sync::{AtomicU64, Ordering};
use crate::error::Reason;
use crate::primitives::budget::Budget;

/// Handles by key. A linear search is fastest, since there are few keys.
type HandleMap<K, H> = Box<[(K, H)]>;

/// The metric handles of one layer. They are created once, since a lookup by name costs more than
/// the rest of a call.
pub(super) struct Metrics {
    calls: HandleMap<CallOutcome, Counter>,
    slow: Option<Counter>,
    durations: HandleMap<CallOutcome, Histogram>,
    attempts: HandleMap<CallOutcome, Counter>,
    rejections: HandleMap<Reason, Counter>,
    actions: HandleMap<Action, Counter>,
    states: HandleMap<&'static str, Gauge>,
    budget: Option<BudgetGauges>,
    keys: Option<Gauge>,
    load: HandleMap<ConcurrencyGauge, Gauge>,
}

/// The part of a budget in the gauges, which is removed when the layer is dropped.
struct BudgetGauges {
    tokens: Gauge,
    cap: Gauge,
    max_tokens: f64,
    /// The reported tokens, in billionths. An integer, so that removing them leaves exactly zero.
    reported: AtomicU64,
}

impl BudgetGauges {
    fn report(&self, share: f64) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "neither negative nor above 10^18"
        )]
        self.set((share * self.max_tokens * BILLION).round() as u64);
    }

    fn set(&self, tokens: u64) {
        // Each thread adds the difference to the value it replaces, so the gauge ends at the last
        // value that was stored, in whatever order the threads increment it.
        let before = self.reported.swap(tokens, Ordering::Relaxed);
        #[allow(clippy::cast_precision_loss, reason = "metrics need no exact value")]
        self.tokens.increment((tokens as f64 - before as f64) / BILLION);
    }
}

impl Drop for BudgetGauges {
    fn drop(&mut self) {
        self.set(0);
        self.cap.decrement(self.max_tokens);
    }
}

const BILLION: f64 = 1e9;

/// Registers the series of one layer.
struct Registry {
    source: LayerId,
}

impl Registry {
    fn name(&self, noun: &str) -> String {
        format!("stanchion_{}_{noun}", self.source.module)
    }

    /// Registers a counter for each of `keys`, with the label `label` and the value zero.
    fn counters<K: Copy>(
        &self,
        noun: &str,
        about: &'static str,
        label: &'static str,
        keys: &[K],
        value: impl Fn(K) -> &'static str,
    ) -> HandleMap<K, Counter> {
        if !keys.is_empty() {
            describe_counter!(self.name(noun), about);
        }
        keys.iter()
            .map(|key| {
                let counter = counter!(self.name(noun), "name" => self.source.name, label => value(*key));
                counter.increment(0);
                (*key, counter)
            })
            .collect()
    }

    fn gauges(&self, states: &[&'static str]) -> HandleMap<&'static str, Gauge> {
        if !states.is_empty() {
            describe_gauge!(
                self.name("state"),
                "Number of circuits in the state. A single circuit counts as 1 in its state and as 0 in all others."
            );
        }
        states
            .iter()
            .map(|state| {
                let gauge = gauge!(self.name("state"), "name" => self.source.name, "state" => *state);
                // Not set to zero: another layer with this name may exist already.
                gauge.increment(0.0);
                (*state, gauge)
            })
            .collect()
    }

    fn durations(&self, outcomes: &[CallOutcome]) -> HandleMap<CallOutcome, Histogram> {
        if !outcomes.is_empty() {
            describe_histogram!(self.name("call_duration_seconds"), Unit::Seconds, "Duration of calls.");
        }
        let histogram = |outcome: &CallOutcome| {
            let metric = self.name("call_duration_seconds");
            histogram!(metric, "name" => self.source.name, "outcome" => outcome.as_str())
        };
        outcomes.iter().map(|outcome| (*outcome, histogram(outcome))).collect()
    }

    fn slow(&self) -> Counter {
        describe_counter!(self.name("slow_calls_total"), "Number of calls that were slow.");
        let slow = counter!(self.name("slow_calls_total"), "name" => self.source.name);
        slow.increment(0);
        slow
    }

    fn budget(&self, budget: &Budget) -> BudgetGauges {
        let about = "Tokens left in the budget when it was last used.";
        let tokens = self.count("budget_tokens", about);
        let cap = self.count("budget_cap", "Maximum number of tokens in the budget.");
        let max_tokens = budget.config().map_or(0.0, |config| config.cap);
        cap.increment(max_tokens);
        let gauges = BudgetGauges { tokens, cap, max_tokens, reported: AtomicU64::new(0) };
        gauges.report(budget.share());
        gauges
    }

    fn count(&self, noun: &str, about: &'static str) -> Gauge {
        describe_gauge!(self.name(noun), about);
        let gauge = gauge!(self.name(noun), "name" => self.source.name);
        // Not set to zero: another layer with this name may exist already.
        gauge.increment(0.0);
        gauge
    }

    fn load(&self) -> HandleMap<ConcurrencyGauge, Gauge> {
        let about = |load| match load {
            ConcurrencyGauge::InFlight => "Number of calls in flight.",
            ConcurrencyGauge::Queued => "Number of calls in the queue.",
            ConcurrencyGauge::Limit => "Maximum number of calls in flight.",
        };
        ConcurrencyGauge::ALL.iter().map(|load| (*load, self.count(load.as_str(), about(*load)))).collect()
    }
}

impl Metrics {
    /// Registers all series except the transitions, with the value zero.
    pub(super) fn register(source: LayerId, set: &MetricSet<'_>) -> Self {
        const NONE: &[CallOutcome] = &[];
        // The duration of ignored and cancelled calls says nothing about the service.
        const MEASURED: &[CallOutcome] = &[CallOutcome::Success, CallOutcome::Failure];
        let MetricSet { states, reasons, actions, calls, attempts, budget, keys, load, .. } = set;
        let registry = Registry { source };
        let outcomes = |wanted: bool| if wanted { CallOutcome::ALL } else { NONE };
        Self {
            calls: registry.counters(
                "calls_total",
                "Number of calls that were let through, by outcome.",
                "outcome",
                outcomes(*calls),
                CallOutcome::as_str,
            ),
            slow: calls.then(|| registry.slow()),
            durations: registry.durations(if *calls { MEASURED } else { NONE }),
            attempts: registry.counters(
                "attempts_total",
                "Number of attempts, by outcome.",
                "outcome",
                outcomes(*attempts),
                CallOutcome::as_str,
            ),
            rejections: registry.counters(
                "rejections_total",
                "Number of calls that were rejected or given up, by reason.",
                "reason",
                reasons,
                Reason::as_str,
            ),
            actions: registry.counters(
                "actions_total",
                "Number of actions on calls, such as retries, by action.",
                "action",
                actions,
                Action::as_str,
            ),
            states: registry.gauges(states),
            budget: budget.map(|budget| registry.budget(budget)),
            keys: keys.then(|| registry.count("keys", "Number of tracked keys.")),
            load: if *load { registry.load() } else { HandleMap::default() },
        }
    }
}

fn of<'a, K: PartialEq, H>(handles: &'a HandleMap<K, H>, key: &K) -> Option<&'a H> {
    handles.iter().find(|(other, _)| other == key).map(|(_, handle)| handle)
}

fn count<K: PartialEq>(counters: &HandleMap<K, Counter>, key: &K) {
    if let Some(counter) = of(counters, key) {
        counter.increment(1);
    }
}

fn add_to(gauge: Option<&Gauge>, change: i64) {
    if let Some(gauge) = gauge {
        #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
        gauge.increment(change as f64);
    }
}

impl Observer for Metrics {
    fn on_event(&self, source: &LayerId, event: &Event<'_>) {
        let add = |state: &'static str, circuits: f64| {
            if let Some(gauge) = of(&self.states, &state) {
                gauge.increment(circuits);
            }
        };
        match event {
            Event::Call { outcome, slow, latency } => {
                count(&self.calls, outcome);
                if let (true, Some(counter)) = (*slow, &self.slow) {
                    counter.increment(1);
                }
                if let Some(duration) = of(&self.durations, outcome) {
                    duration.record(latency.as_secs_f64());
                }
            }
            Event::Attempt { outcome, .. } => count(&self.attempts, outcome),
            Event::Action { action, .. } => count(&self.actions, action),
            Event::Rejected(rejected) => count(&self.rejections, &rejected.reason()),
            Event::Budget { share } => {
                if let Some(gauges) = &self.budget {
                    gauges.report(*share);
                }
            }
            Event::Keys { change } => add_to(self.keys.as_ref(), *change),
            Event::Concurrency { what, change } => add_to(of(&self.load, what), *change),
            Event::StateChanged { from, to, .. } => {
                add(from, -1.0);
                add(to, 1.0);
                let metric = format!("stanchion_{}_transitions_total", source.module);
                describe_counter!(metric.clone(), "Number of state changes.");
                counter!(metric, "name" => source.name, "from" => *from, "to" => *to).increment(1);
            }
            Event::StateCreated { state } => add(state, 1.0),
            Event::StateDropped { state } => add(state, -1.0),
            Event::Stale { .. } | Event::WouldChange { .. } => {}
        }
    }
}
