//! What is printed: a timeline for each client, why they look as they do, a summary, and whether all that is so.

use std::time::Duration;

use crate::virtual_server::{Event, SECOND, seed};
use crate::{LAST, Lane, RATE, Run, SECONDS, SLOW};

/// After the cause of the trouble is gone.
const SOON: Duration = Duration::from_secs(2);
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(crate) fn introduce() {
    let service = timeline(|second| if SLOW.contains(&(second * SECOND)) { 'S' } else { '-' });
    println!(
        "{RATE} calls per second to a service that can serve 1,000; five times slower for ten seconds (S)."
    );
    println!("A character is a second. STANCHION_SEED={}\n", seed());
    println!("{:33}{service}", "the service");
}

pub(crate) fn show(lane: &Lane) {
    let calls = &lane.slow.calls;
    let answered = timeline(|second| level(calls.success(second * SECOND..(second + 1) * SECOND)));
    let attempts = timeline(|second| {
        let attempts = calls.amplification(&lane.slow.server, second * SECOND..(second + 1) * SECOND);
        format!("{attempts:.0}").chars().next().unwrap_or(' ')
    });
    println!("\n{:22}  answered {answered}", lane.client.name());
    println!("{:22}  attempts {attempts}", "");
}

fn timeline(character: impl Fn(u32) -> char) -> String {
    (0..SECONDS).map(character).collect()
}

fn level(share: f64) -> char {
    let above = LEVELS.iter().zip(1_u32..).find(|(_, eighths)| share < f64::from(*eighths) / 8.0);
    above.map_or('█', |(level, _)| *level)
}

pub(crate) struct Report {
    pub(crate) lanes: [Lane; 5],
    /// Retries at once, and a service that stops to work on a request when its client goes.
    pub(crate) cancelled: Run,
}

impl Report {
    pub(crate) fn explain(&self) {
        let [_, at_once, ..] = &self.lanes;
        let storm = at_once.slow.per_second(Event::Arrived, LAST);
        let wasted = percent(at_once.slow.wasted());
        println!(
            "
While it is slow the service can serve 200 requests per second, and most calls fail, whoever makes
them. What differs is what comes then. Retries make {storm:.0} requests of {RATE} calls: more than it can
serve when it is well. So it is late, {wasted} of its work is for clients that have gone, and those
try again: the storm outlives its cause. Backoff and jitter spread the same requests over time, and
do not make them fewer. A budget does: retries are a tenth of the calls, or a twentieth when
attempts time out, which costs double. That the service can serve, and catches up.

Requests whose clients have gone are skipped here. A service that works for those as well is late
until its queue is worked off, budget or not; a circuit breaker keeps the queue short. A service
that stops even what it has begun when the client goes is well again at once ({}), whatever is
retried.
",
            seconds(self.cancelled.recovery())
        );
    }

    pub(crate) fn summarise(&self) {
        let headings = [
            ["", "answered", "requests", "attempts", "well again", "the same if", "wasted", "answered"],
            ["", "while slow", "per second", "per call,", "after", "it works for", "work in", "if 1 of 20"],
            ["", "", "while slow", "at worst", "", "those gone", "the end", "fails"],
        ];
        for heading in headings {
            row(heading);
        }
        for lane in &self.lanes {
            let run = &lane.slow;
            row([
                lane.client.name(),
                &percent(run.calls.success(SLOW)),
                &format!("{:.0}", run.per_second(Event::Arrived, SLOW)),
                &format!("{:.2}", run.worst_second()),
                &seconds(run.recovery()),
                &seconds(lane.behind_orphans.recovery()),
                &percent(run.wasted()),
                &percent(lane.hidden),
            ]);
        }
        println!("never: not within {}", seconds(Some(LAST.end - SLOW.end)));
    }

    /// True if all is as this example says.
    pub(crate) fn check(&self) -> bool {
        println!();
        let mut is_so = true;
        let mut expect = |holds: bool, what: &str| {
            println!("{} {what}", if holds { "  ok   " } else { "FAILED " });
            is_so &= holds;
        };
        let [without, at_once, with_jitter, with_budget, with_breaker] = &self.lanes;
        let all_well =
            self.lanes.iter().all(|lane| lane.slow.calls.success(Duration::ZERO..SLOW.start) > 0.99);
        expect(all_well, "all is well before");
        for lane in [at_once, with_jitter] {
            let is_for_ever = lane.slow.recovery().is_none() && lane.behind_orphans.recovery().is_none();
            expect(is_for_ever, &format!("{}: it never recovers", lane.client.name()));
        }
        let [storm, spread] = [at_once, with_jitter].map(|lane| lane.slow.per_second(Event::Arrived, SLOW));
        expect(spread > 0.9 * storm, "backoff and jitter do not make the requests fewer");
        for lane in [without, with_budget, with_breaker] {
            let is_soon = lane.slow.recovery().is_some_and(|after| after <= SOON);
            expect(is_soon, &format!("{}: it recovers within {}", lane.client.name(), seconds(Some(SOON))));
        }
        for lane in [with_budget, with_breaker] {
            let is_bounded = lane.slow.worst_second() <= 1.25;
            expect(is_bounded, &format!("{}: 1.25 attempts per call at most", lane.client.name()));
            let is_hidden = lane.hidden > 0.995;
            expect(is_hidden, &format!("{}: one failure of twenty is hidden", lane.client.name()));
        }
        let is_soon = self.cancelled.recovery().is_some_and(|after| after <= SOON);
        expect(is_soon, "there is no storm where work stops when its client goes");
        let [alone, broken] = [with_budget, with_breaker].map(|lane| lane.behind_orphans.recovery());
        let is_faster = broken.is_some_and(|after| after <= SOON && alone.is_none_or(|alone| after < alone));
        expect(is_faster, "a breaker spares it the queue of clients that have gone");
        is_so
    }
}

fn row([name, cells @ ..]: [&str; 8]) {
    let [a, b, c, d, e, f, g] = cells;
    println!("{name:21} {a:>10} {b:>10} {c:>9} {d:>10} {e:>12} {f:>10} {g:>10}");
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("{} s", time.as_secs()))
}
