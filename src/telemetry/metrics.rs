//! Observer that counts and measures through the `metrics` facade.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use super::{Event, Observer, Outcome, Source};
use crate::error::Reason;

/// The handles of one layer, taken once: looking one up costs more than all the rest of a call.
pub(super) struct Metrics {
    calls: [Counter; Outcome::ALL.len()],
    slow: Counter,
    rejections: [Counter; Reason::ALL.len()],
    durations: [Histogram; 2],
    states: Box<[(&'static str, Gauge)]>,
}

impl Metrics {
    /// Registers every series but those of transitions, at zero.
    pub(super) fn register(source: Source, states: &[&'static str]) -> Self {
        let Source { name, .. } = source;
        let metric = |noun: &str| format!("stanchion_{}_{noun}", source.module);
        let duration = |outcome: Outcome| histogram!(metric("call_duration_seconds"), "name" => name, "outcome" => outcome.as_str());
        describe_counter!(metric("calls_total"), "Calls that were let through, by how they ended.");
        describe_counter!(metric("slow_calls_total"), "Calls that took longer than they should.");
        describe_counter!(metric("rejections_total"), "Calls that were refused, by the reason.");
        describe_counter!(metric("transitions_total"), "Changes of state.");
        describe_gauge!(
            metric("state"),
            "Circuits in the state: of one circuit, 1 for its state and 0 for all others."
        );
        describe_histogram!(metric("call_duration_seconds"), Unit::Seconds, "How long calls took.");
        let this = Self {
            calls: Outcome::ALL.map(
                |outcome| counter!(metric("calls_total"), "name" => name, "outcome" => outcome.as_str()),
            ),
            slow: counter!(metric("slow_calls_total"), "name" => name),
            rejections: Reason::ALL.map(
                |reason| counter!(metric("rejections_total"), "name" => name, "reason" => reason.as_str()),
            ),
            durations: [duration(Outcome::Success), duration(Outcome::Failure)],
            states: states
                .iter()
                .map(|state| (*state, gauge!(metric("state"), "name" => name, "state" => *state)))
                .collect(),
        };
        for counter in this.calls.iter().chain(&this.rejections).chain([&this.slow]) {
            counter.increment(0);
        }
        for (_, gauge) in &this.states {
            // Not set to zero: another layer of that name may be there already.
            gauge.increment(0.0);
        }
        this
    }

    fn add(&self, state: &str, circuits: f64) {
        if let Some((_, gauge)) = self.states.iter().find(|(name, _)| *name == state) {
            gauge.increment(circuits);
        }
    }
}

impl Observer for Metrics {
    fn on_event(&self, source: &Source, event: &Event<'_>) {
        match event {
            Event::Call { outcome, slow, latency } => {
                if let Some(calls) = self.calls.get(*outcome as usize) {
                    calls.increment(1);
                }
                if *slow {
                    self.slow.increment(1);
                }
                // How long a call took that was cancelled, or says nothing, says nothing.
                if let Some(duration) = self.durations.get(*outcome as usize) {
                    duration.record(latency.as_secs_f64());
                }
            }
            Event::Rejected(rejected) => {
                if let Some(rejections) = self.rejections.get(rejected.reason() as usize) {
                    rejections.increment(1);
                }
            }
            Event::StateChanged { from, to, .. } => {
                self.add(from, -1.0);
                self.add(to, 1.0);
                let metric = format!("stanchion_{}_transitions_total", source.module);
                counter!(metric, "name" => source.name, "from" => *from, "to" => *to).increment(1);
            }
            Event::Began { state } => self.add(state, 1.0),
            Event::Ended { state } => self.add(state, -1.0),
            Event::WouldChange { .. } => {}
        }
    }
}
