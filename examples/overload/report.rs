//! The tables, the plots and the checks of the example's claims.

use std::ops::Range;
use std::time::Duration;

use crate::Contestant;
use crate::overload::DEADLINE;
use crate::plot::{Axis, Line, Panel, Span, draw};
use crate::scenario::{CROWD, Figures, LASTING, Moment, Overload, SLOW};
use crate::virtual_server::seed;

/// The slow period without its first seconds, in which the queue from before still drains.
const SLOW_FOR_A_WHILE: Range<Duration> = Duration::from_secs(32)..SLOW.end;
const WELL_AGAIN: Range<Duration> = Duration::from_secs(43)..LASTING;

pub(crate) fn introduce() {
    println!("A server with a capacity of 1,000 calls per second, and callers that wait for 100 ms.");
    println!("STANCHION_SEED={}", seed());
}

pub(crate) struct Report {
    overloads: Vec<((Contestant, f64), Figures)>,
    troubles: Vec<Vec<Moment>>,
}

impl Report {
    pub(crate) fn new(overloads: Vec<((Contestant, f64), Figures)>, troubles: Vec<Vec<Moment>>) -> Self {
        Self { overloads, troubles }
    }

    fn outcome(&self, contestant: Contestant, load: f64) -> Figures {
        let it = |(which, _): &&((Contestant, f64), Figures)| *which == (contestant, load);
        self.overloads.iter().find(it).expect("each is run at each load").1
    }

    /// Calls answered in time, per second.
    fn answered(&self, contestant: Contestant, during: &Range<Duration>) -> f64 {
        let of_all = Contestant::ALL.iter().zip(&self.troubles);
        let moments = of_all.filter(|(which, _)| **which == contestant).flat_map(|(_, moments)| moments);
        let answered: Vec<_> =
            moments.filter(|moment| during.contains(&moment.at)).map(|moment| moment.answered).collect();
        answered.iter().sum::<f64>() / answered.len() as f64
    }

    pub(crate) fn print(&self) {
        self.table("Goodput: responses in time, as a share of the capacity", |outcome| {
            format!("{:.2}", outcome.goodput)
        });
        self.table("p99 of the admitted calls, in ms", |outcome| {
            if outcome.p99 < DEADLINE { outcome.p99.as_millis().to_string() } else { "late".to_owned() }
        });
        self.table("Rejected, as a share of the calls", |outcome| format!("{:.2}", outcome.refused));
        self.table("Late responses, as a share of the server's work", |outcome| {
            format!("{:.2}", outcome.late)
        });
        println!("\nResponses in time per second. Load: 700, in the burst 3,000. Capacity while slow: 200");
        println!("  {:30}{:>10}{:>10}{:>10}", "", "burst", "slow", "after");
        for contestant in Contestant::ALL {
            let [crowd, slow, after] =
                [CROWD, SLOW_FOR_A_WHILE, WELL_AGAIN].map(|during| self.answered(contestant, &during));
            println!("  {:30}{crowd:>10.0}{slow:>10.0}{after:>10.0}", contestant.name());
        }
        println!();
    }

    fn table(&self, title: &str, cell: impl Fn(Figures) -> String) {
        println!("\n{title}");
        let row = |name: &str, cells: [String; 7]| {
            let cells: String = cells.iter().map(|cell| format!("{cell:>7}")).collect();
            println!("  {name:30}{cells}");
        };
        row("offered", Overload::LOADS.map(|load| format!("{load}x")));
        for contestant in Contestant::ALL {
            row(contestant.name(), Overload::LOADS.map(|load| cell(self.outcome(contestant, load))));
        }
    }

    pub(crate) fn goodput_by_load(&self) -> String {
        let line = |contestant: Contestant| -> Line {
            Overload::LOADS
                .iter()
                .map(|load| (*load, Some(self.outcome(contestant, *load).goodput)))
                .collect()
        };
        let panel = Panel {
            title: "Goodput of an overloaded server, by limit",
            height: 300.0,
            x: Axis::logarithmic("offered load (multiple of the capacity)", Overload::LOADS),
            y: Axis::linear("goodput (share of capacity)", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            spans: vec![],
            lines: Contestant::ALL.map(line).into(),
        };
        draw("Goodput against offered load", &Contestant::ALL.map(Contestant::name), &[panel])
    }

    pub(crate) fn over_time(&self) -> String {
        let seconds = |from: Duration, to: Duration, caption| Span {
            from: from.as_secs_f64(),
            to: to.as_secs_f64(),
            caption,
        };
        let panel = |title, label, ticks: &[f64], value: fn(&Moment) -> Option<f64>| Panel {
            title,
            height: 150.0,
            x: Axis::linear(
                "time (s)",
                (0..=LASTING.as_secs() / 10).map(|tens| tens as f64 * 10.0).collect::<Vec<_>>(),
            ),
            y: Axis::linear(label, ticks),
            spans: vec![
                seconds(CROWD.start, CROWD.end, "burst: 3 times the capacity"),
                seconds(SLOW.start, SLOW.end, "slow: 5 times the service time"),
            ],
            lines: self
                .troubles
                .iter()
                .map(|moments| {
                    moments.iter().map(|moment| (moment.at.as_secs_f64(), value(moment))).collect()
                })
                .collect(),
        };
        let panels = [
            panel(
                "Responses in time, of 700 calls per second",
                "per second",
                &[0.0, 400.0, 800.0, 1_200.0],
                |moment| Some(moment.answered),
            ),
            panel(
                "Latency of admitted calls (callers give up after 100 ms)",
                "p99 (ms)",
                &[0.0, 25.0, 50.0, 75.0, 100.0],
                |moment| Some(moment.p99?.as_secs_f64() * 1_000.0),
            ),
            panel("Concurrency limit", "calls in flight", &[0.0, 10.0, 20.0, 30.0, 40.0, 50.0], |moment| {
                moment.limit.filter(|limit| *limit <= 50).map(f64::from)
            }),
        ];
        draw("An overloaded and a slow server over time", &Contestant::ALL.map(Contestant::name), &panels)
    }

    /// Prints each claim of this example, and returns `true` if all of them hold.
    pub(crate) fn check(&self) -> bool {
        use Contestant::{
            Adaptive, ExpiredSkipped, NewestFirst, Queueing, Rejecting, TooHigh, Tower, Unlimited,
        };
        const FITS: [Contestant; 5] = [Tower, Rejecting, Queueing, NewestFirst, Adaptive];
        println!();
        let mut all_hold = true;
        let mut expect = |holds: bool, what: &str| {
            println!("{} {what}", if holds { "  ok   " } else { "FAILED " });
            all_hold &= holds;
        };
        let overloads = [2.0, 3.0, 5.0, 10.0];
        let always = |contestants: &[Contestant], holds: &dyn Fn(Figures) -> bool| {
            contestants.iter().all(|which| overloads.iter().all(|load| holds(self.outcome(*which, *load))))
        };
        let goodput = |contestant, load| self.outcome(contestant, load).goodput;
        expect(
            Contestant::ALL.iter().all(|contestant| goodput(*contestant, 0.8) >= 0.75),
            "below its capacity the server serves all callers, with any limit",
        );
        expect(
            always(&[Unlimited, TooHigh], &|outcome| outcome.goodput < 0.02),
            "from twice the capacity on, no response is in time without a limit, or with one that is too high",
        );
        expect(
            (0.05..0.15).contains(&goodput(ExpiredSkipped, 2.0)) && goodput(ExpiredSkipped, 10.0) < 0.05,
            "skipping expired calls is not enough: the server starts calls that are nearly expired",
        );
        expect(
            always(&FITS, &|outcome| outcome.goodput >= 0.93),
            "with a suitable limit, or a short queue, the goodput is close to the capacity",
        );
        expect(always(&FITS, &|outcome| outcome.late <= 0.02), "and at most one response in fifty is late");
        expect(
            always(&FITS, &|outcome| outcome.p99 <= Duration::from_millis(95)),
            "the p99 of the admitted calls is at most 95 ms",
        );
        let after = CROWD.end + Duration::from_secs(2)..SLOW.start;
        expect(
            self.answered(Unlimited, &after) < 1.0,
            "without a limit the overload outlasts the burst, because the queue remains",
        );
        expect(
            FITS.iter().all(|which| self.answered(*which, &after) > 0.95 * 700.0),
            "with a limit it ends with the burst",
        );
        let slow = |contestant| self.answered(contestant, &SLOW_FOR_A_WHILE);
        expect(
            FITS.iter().all(|which| slow(*which) >= 110.0) && slow(Unlimited) < 1.0,
            "a slow server serves some callers, and none without a limit",
        );
        expect(
            FITS.iter().all(|which| self.answered(*which, &WELL_AGAIN) > 0.95 * 700.0),
            "and serves all of them soon after it has recovered",
        );
        all_hold
    }
}
