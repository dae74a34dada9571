//! What the outage came to, and whether the circuit breaker did its job.

use std::time::Duration;

use stanchion::circuit_breaker::State;

use crate::exporter::sum;
use crate::history::History;
use crate::lane::{Lane, PERIOD, Tally};
use crate::screen::millis;
use crate::script::{Condition, Script, Span};
use crate::{LAST, TIMEOUT};

/// What one lane went through while the server was sick.
struct Outage {
    calls: Tally,
    reached: usize,
}

impl Outage {
    fn of(lane: &Lane, is_part: impl Fn(Duration) -> bool) -> Self {
        Self { calls: lane.tally(|call| is_part(call.began)), reached: lane.server.reached(&is_part) }
    }
}

/// One fault, and what the circuit did about it.
struct Fault {
    span: Span,
    /// From the onset.
    opened: Option<Duration>,
    /// How often the circuit probed while the fault lasted.
    probings: usize,
    /// From healing to full traffic.
    closed: Option<Duration>,
}

impl Fault {
    /// The p95 of the calls that began when the circuit had opened and the server was still sick. Not the p99:
    /// one or two calls of a hundred are probes, and wait as long as they would have without.
    fn p95_once_open(&self, lane: &Lane) -> Duration {
        let since = self.opened.map_or(self.span.to, |opened| self.span.from + opened);
        lane.tally(|call| (since..self.span.to).contains(&call.began)).p95
    }
}

pub(crate) struct Report<'a> {
    bare: &'a Lane,
    protected: &'a Lane,
    faults: Vec<Fault>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(history: &History, bare: &'a Lane, protected: &'a Lane) -> Self {
        let fault = |(sick, healed): (Span, Span)| Fault {
            span: sick,
            opened: history.first(State::Open, sick.from..sick.to),
            probings: history.count(State::HalfOpen, &(sick.from..sick.to)),
            closed: history.first(State::Closed, healed.from..healed.to),
        };
        Self { bare, protected, faults: Script::faults().map(fault).collect() }
    }

    pub(crate) fn print(&self) {
        let is_sick = |at| Script::condition_at(at).is_fault();
        let (bare, protected) = (Outage::of(self.bare, is_sick), Outage::of(self.protected, is_sick));
        println!("\n{:32}{:>10}{:>17}", "While the server was sick", self.bare.name, self.protected.name);
        row("calls made", [&bare, &protected].map(|lane| lane.calls.calls().to_string()));
        row("calls that reached the server", [&bare, &protected].map(|lane| lane.reached.to_string()));
        row("refused at once", [&bare, &protected].map(|lane| lane.calls.refused.to_string()));
        row("failed", [&bare, &protected].map(|lane| lane.calls.failed.to_string()));
        row(
            "callers waited, in all",
            [&bare, &protected].map(|lane| format!("{:.0} s", lane.calls.waited.as_secs_f64())),
        );
        row("caller waited, p50", [&bare, &protected].map(|lane| millis(lane.calls.p50)));
        row("caller waited, p99", [&bare, &protected].map(|lane| millis(lane.calls.p99)));
        println!(
            "{:.1}% fewer calls reached the sick server.",
            fewer(bare.reached, protected.reached) * 100.0
        );

        println!("\nThe server opened  probed  full traffic    calls reached it       p95 once open");
        println!("           after           after healing    bare  protected     bare  protected");
        for fault in &self.faults {
            let reached = |lane| Outage::of(lane, |at| fault.span.contains(at)).reached;
            println!(
                "  {:7} {:>7} {:>8} {:>14} {:>7} {:>10} {:>9} {:>9}",
                fault.span.condition.word(),
                seconds(fault.opened),
                format!("{} times", fault.probings),
                seconds(fault.closed),
                reached(self.bare),
                reached(self.protected),
                millis(fault.p95_once_open(self.bare)),
                millis(fault.p95_once_open(self.protected)),
            );
        }
    }

    /// Checks what a circuit breaker is for. `metrics` is the page that it exports. True if all is well.
    pub(crate) fn check(&self, metrics: &str) -> bool {
        println!();
        let mut is_fine = true;
        let mut expect = |holds: bool, what: &str| {
            println!("{} {what}", if holds { "  ok   " } else { "FAILED " });
            is_fine &= holds;
        };
        for Fault { span, opened, closed, .. } in &self.faults {
            let word = span.condition.word();
            expect(
                opened.is_some(),
                &format!("the circuit opens when the server {word}: {}", seconds(*opened)),
            );
            expect(closed.is_some(), &format!("and closes when it is well again: {}", seconds(*closed)));
        }

        let is_sick = |at| Script::condition_at(at).is_fault();
        let (bare, protected) = (self.bare.server.reached(is_sick), self.protected.server.reached(is_sick));
        let sick_time: Duration = self.faults.iter().map(|fault| fault.span.to - fault.span.from).sum();
        let enough = sick_time.div_duration_f64(PERIOD) / 2.0;
        expect(
            as_f64(bare) >= enough,
            &format!("there was an outage: {bare} bare calls reached the sick server"),
        );
        let share = fewer(bare, protected);
        expect(
            share >= 0.8,
            &format!("at least 80% fewer calls reached the sick server: {:.1}%", share * 100.0),
        );

        let hang = self.faults.iter().find(|fault| fault.span.condition == Condition::Hangs);
        if let Some(hang) = hang.filter(|hang| hang.opened.is_some()) {
            let p95 = hang.p95_once_open(self.protected);
            let what = "with the circuit open, callers do not wait for a server that hangs";
            expect(p95 < TIMEOUT / 4, &format!("{what}: p95 {}", millis(p95).trim()));
        }

        let last = self.protected.tally(|call| call.began + LAST >= Script::length());
        let success = share_of(last.passed, last.calls());
        expect(
            success >= 0.95,
            &format!("in the end all is well: {:.1}% of the last calls passed", success * 100.0),
        );

        let refused = self.protected.tally(|_| true).refused;
        let counted = sum(metrics, "stanchion_circuit_breaker_rejections_total");
        expect(
            (counted - as_f64(refused)).abs() < 0.5,
            &format!("the metrics say what the callers saw: {counted} and {refused} refusals"),
        );
        is_fine
    }
}

fn row(what: &str, lanes: [String; 2]) {
    let [bare, protected] = lanes;
    println!("  {what:30}{bare:>10}{protected:>17}");
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
}

/// How many fewer the second is, as a share of the first.
fn fewer(first: usize, second: usize) -> f64 {
    1.0 - share_of(second, first)
}

fn share_of(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { as_f64(part) / as_f64(whole) }
}

#[allow(clippy::cast_precision_loss, reason = "a few thousand calls")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
