//! Observer that counts and measures through the `metrics` facade.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use super::{Action, CallOutcome, ConcurrencyGauge, Event, LayerId, Observer, Vocabulary};
use crate::base::sync::{AtomicU64, Ordering};
use crate::error::Reason;
use crate::primitives::budget::Budget;

/// Handles by what they stand for. There are few, so looking through all is the fastest way.
type By<K, H> = Box<[(K, H)]>;

/// The handles of one layer, taken once: looking one up by name costs more than all the rest of a call.
pub(super) struct Metrics {
    calls: By<CallOutcome, Counter>,
    slow: Option<Counter>,
    durations: By<CallOutcome, Histogram>,
    attempts: By<CallOutcome, Counter>,
    rejections: By<Reason, Counter>,
    actions: By<Action, Counter>,
    states: By<&'static str, Gauge>,
    budget: Option<BudgetGauges>,
    keys: Option<Gauge>,
    load: By<ConcurrencyGauge, Gauge>,
}

/// What one budget adds to the gauges, as long as its layer exists.
struct BudgetGauges {
    tokens: Gauge,
    cap: Gauge,
    most: f64,
    /// In billionths of a token, so that all that is added comes off again.
    told: AtomicU64,
}

impl BudgetGauges {
    fn tell(&self, share: f64) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "neither negative nor above 10^18"
        )]
        self.set((share * self.most * BILLION).round() as u64);
    }

    fn set(&self, tokens: u64) {
        // Of several threads each adds what it differs from the one before: in the end it is what the last one told.
        let told = self.told.swap(tokens, Ordering::Relaxed);
        #[allow(clippy::cast_precision_loss, reason = "to be looked at")]
        self.tokens.increment((tokens as f64 - told as f64) / BILLION);
    }
}

impl Drop for BudgetGauges {
    fn drop(&mut self) {
        self.set(0);
        self.cap.decrement(self.most);
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

    /// A counter for each of `keys`, told apart by `label`; they stand at zero.
    fn counters<K: Copy>(
        &self,
        noun: &str,
        about: &'static str,
        label: &'static str,
        keys: &[K],
        value: impl Fn(K) -> &'static str,
    ) -> By<K, Counter> {
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

    fn gauges(&self, states: &[&'static str]) -> By<&'static str, Gauge> {
        if !states.is_empty() {
            describe_gauge!(
                self.name("state"),
                "Circuits in the state: of one circuit, 1 for its state and 0 for all others."
            );
        }
        states
            .iter()
            .map(|state| {
                let gauge = gauge!(self.name("state"), "name" => self.source.name, "state" => *state);
                // Not set to zero: another layer of that name may be there already.
                gauge.increment(0.0);
                (*state, gauge)
            })
            .collect()
    }

    fn durations(&self, outcomes: &[CallOutcome]) -> By<CallOutcome, Histogram> {
        if !outcomes.is_empty() {
            describe_histogram!(self.name("call_duration_seconds"), Unit::Seconds, "How long calls took.");
        }
        let histogram = |outcome: &CallOutcome| {
            let metric = self.name("call_duration_seconds");
            histogram!(metric, "name" => self.source.name, "outcome" => outcome.as_str())
        };
        outcomes.iter().map(|outcome| (*outcome, histogram(outcome))).collect()
    }

    fn slow(&self) -> Counter {
        describe_counter!(self.name("slow_calls_total"), "Calls that took longer than they should.");
        let slow = counter!(self.name("slow_calls_total"), "name" => self.source.name);
        slow.increment(0);
        slow
    }

    fn budget(&self, budget: &Budget) -> BudgetGauges {
        let about = "Tokens of the budget that were left when it was last asked.";
        let tokens = self.count("budget_tokens", about);
        let cap = self.count("budget_cap", "The most tokens of the budget.");
        let most = budget.config().map_or(0.0, |config| config.cap);
        cap.increment(most);
        let gauges = BudgetGauges { tokens, cap, most, told: AtomicU64::new(0) };
        gauges.tell(budget.share());
        gauges
    }

    fn count(&self, noun: &str, about: &'static str) -> Gauge {
        describe_gauge!(self.name(noun), about);
        let gauge = gauge!(self.name(noun), "name" => self.source.name);
        // Not set to zero: another layer of that name may be there already.
        gauge.increment(0.0);
        gauge
    }

    fn load(&self) -> By<ConcurrencyGauge, Gauge> {
        let about = |load| match load {
            ConcurrencyGauge::InFlight => "Calls under way.",
            ConcurrencyGauge::Queued => "Calls that wait for their turn.",
            ConcurrencyGauge::Limit => "Calls that may be under way.",
        };
        ConcurrencyGauge::ALL.iter().map(|load| (*load, self.count(load.as_str(), about(*load)))).collect()
    }
}

impl Metrics {
    /// Registers every series but those of transitions, at zero.
    pub(super) fn register(source: LayerId, vocabulary: &Vocabulary<'_>) -> Self {
        const NONE: &[CallOutcome] = &[];
        // How long a call took that was cancelled, or says nothing, says nothing.
        const MEASURED: &[CallOutcome] = &[CallOutcome::Success, CallOutcome::Failure];
        let Vocabulary { states, reasons, actions, calls, attempts, budget, keys, load, .. } = vocabulary;
        let registry = Registry { source };
        let outcomes = |wanted: bool| if wanted { CallOutcome::ALL } else { NONE };
        Self {
            calls: registry.counters(
                "calls_total",
                "Calls that were let through, by how they ended.",
                "outcome",
                outcomes(*calls),
                CallOutcome::as_str,
            ),
            slow: calls.then(|| registry.slow()),
            durations: registry.durations(if *calls { MEASURED } else { NONE }),
            attempts: registry.counters(
                "attempts_total",
                "Attempts at calls, by how they ended.",
                "outcome",
                outcomes(*attempts),
                CallOutcome::as_str,
            ),
            rejections: registry.counters(
                "rejections_total",
                "Calls that were refused or given up, by the reason.",
                "reason",
                reasons,
                Reason::as_str,
            ),
            actions: registry.counters(
                "actions_total",
                "What was done about calls, or could not be done.",
                "action",
                actions,
                Action::as_str,
            ),
            states: registry.gauges(states),
            budget: budget.map(|budget| registry.budget(budget)),
            keys: keys.then(|| registry.count("keys", "Keys that are held.")),
            load: if *load { registry.load() } else { By::default() },
        }
    }
}

fn of<'a, K: PartialEq, H>(handles: &'a By<K, H>, key: &K) -> Option<&'a H> {
    handles.iter().find(|(other, _)| other == key).map(|(_, handle)| handle)
}

fn count<K: PartialEq>(counters: &By<K, Counter>, key: &K) {
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
                    gauges.tell(*share);
                }
            }
            Event::Keys { change } => add_to(self.keys.as_ref(), *change),
            Event::Concurrency { what, change } => add_to(of(&self.load, what), *change),
            Event::StateChanged { from, to, .. } => {
                add(from, -1.0);
                add(to, 1.0);
                let metric = format!("stanchion_{}_transitions_total", source.module);
                describe_counter!(metric.clone(), "Changes of state.");
                counter!(metric, "name" => source.name, "from" => *from, "to" => *to).increment(1);
            }
            Event::StateCreated { state } => add(state, 1.0),
            Event::StateDropped { state } => add(state, -1.0),
            Event::Stale { .. } | Event::WouldChange { .. } => {}
        }
    }
}
