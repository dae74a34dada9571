//! Circuit breakers and limits side by side in one run: see the README next to this package.

use std::time::Duration;

use crate::measure::{Counting, Heap, Threads};
use crate::row::{BARE, Row};

mod floors;
mod instructions;
mod measure;
#[cfg(feature = "ours")]
mod ours;
#[cfg(feature = "ours")]
mod ours_layers;
#[cfg(feature = "ours")]
mod ours_limits;
mod peer_layers;
mod peer_limits;
mod peers;
mod row;
mod service;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const USAGE: &str = "usage: peers [--quick | --instructions] [--only SUBSTRING,..]";

struct Options {
    counts_instructions: bool,
    rounds: usize,
    /// How long a row's turn is: not much more than a scheduler's time slice, so that some turns are not
    /// interrupted even where the machine has other work.
    budget: Duration,
    only: String,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let budget = Duration::from_millis(5);
        let mut options = Self { counts_instructions: false, rounds: 200, budget, only: String::new() };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => {
                    options.rounds = 15;
                    options.budget = Duration::from_millis(2);
                }
                "--instructions" => options.counts_instructions = true,
                "--only" => options.only = args.next()?.to_lowercase(),
                _ => return None,
            }
        }
        Some(options)
    }

    /// The bare service is always measured: it is what the ratios refer to.
    fn wants(&self, row: &Row) -> bool {
        row.name == BARE || self.only.split(',').any(|words| row.name.to_lowercase().contains(words))
    }
}

/// What was measured of one row, one figure a round.
#[derive(Default)]
struct Figures {
    one: Vec<f64>,
    two: Vec<f64>,
    allocations: f64,
    heap: Option<Heap>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [instructions::CHILD, name, calls] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return instructions::child(&rows(), name, calls).expect("a row and a number");
    }
    let Some(options) = Options::parse(args.into_iter()) else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    if options.counts_instructions {
        let wanted: Vec<Row> = rows().into_iter().filter(|row| options.wants(row)).collect();
        return instructions::table(&wanted).expect("valgrind is installed");
    }
    let threads = Threads::start();
    let mut measured: Vec<(Row, Figures)> =
        rows().into_iter().filter(|row| options.wants(row)).map(|row| (row, Figures::default())).collect();
    // Round-robin, so that whatever else the machine does hits all contestants alike.
    for round in 1..=options.rounds {
        if round % (options.rounds / 5) == 0 {
            eprintln!("round {round} of {}", options.rounds);
        }
        for (row, figures) in &mut measured {
            figures.measure(row, &threads, options.budget);
        }
    }
    for (row, figures) in &mut measured {
        figures.heap = row.heap.as_ref().map(|heap| heap());
    }
    print!("{}", table(&measured));
}

fn rows() -> Vec<Row> {
    #[cfg(feature = "ours")]
    let ours =
        [ours::successes(), ours::failures(), ours::refusals(), ours_layers::rows(), ours_limits::rows()];
    #[cfg(not(feature = "ours"))]
    let ours = [const { Vec::new() }; 5];
    let [our_successes, our_failures, our_refusals, our_layers, our_limits] = ours;
    [
        floors::successes(),
        our_successes,
        peers::successes(),
        our_failures,
        floors::refusals(),
        our_refusals,
        peers::refusals(),
        our_layers,
        peer_layers::rows(),
        our_limits,
        peer_limits::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Figures {
    fn measure(&mut self, row: &Row, threads: &Threads, budget: Duration) {
        let sample = threads.one((row.lap)(), budget);
        row.expect.check(row.name, sample);
        self.one.push(sample.ns());
        // The last round's: by then everything that is set up once has been.
        self.allocations = sample.allocations as f64 / sample.calls as f64;
        if !row.shared {
            return;
        }
        if let Some(samples) = threads.two([(row.lap)(), (row.lap)()], budget) {
            let mut calls_per_ns = 0.0;
            for sample in samples {
                row.expect.check(row.name, sample);
                // Both ran for the same while, so their rates add up.
                calls_per_ns += 1.0 / sample.ns();
            }
            self.two.push(1.0 / calls_per_ns);
        }
    }

    fn best(&self) -> f64 {
        self.one.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn table(measured: &[(Row, Figures)]) -> String {
    let of = |name: &str| measured.iter().find(|(row, _)| row.name == name).map(|(_, figures)| figures);
    let bare = of(BARE).map(Figures::best);
    let mut lines = vec![
        format!(
            "| a call | 1T ns | 1T median | x bare | 2T ns | allocs | heap B, idle | heap B, 10,000 calls \
             | 1T x ours | 2T x ours |"
        ),
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|".to_owned(),
    ];
    for (row, figures) in measured {
        let ours = row.ours.and_then(of);
        let two = median(&figures.two);
        let ratio =
            |ours: Option<f64>, this: Option<f64>| number(ours.zip(this).map(|(ours, this)| this / ours), 2);
        lines.push(format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.name,
            number(Some(figures.best()), 1),
            number(median(&figures.one), 1),
            number(bare.map(|bare| figures.best() / bare), 1),
            number(two, 1),
            number(Some(figures.allocations), 2),
            number(figures.heap.map(|heap| heap.idle), 0),
            number(figures.heap.map(|heap| heap.used), 0),
            ratio(ours.map(Figures::best), Some(figures.best())),
            ratio(ours.and_then(|ours| median(&ours.two)), two),
        ));
    }
    lines.join("\n") + "\n"
}

/// With as many decimals as mean something: none from 1,000 up, none for a round number.
fn number(value: Option<f64>, decimals: usize) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 1_000.0 || (value - value.round()).abs() < 0.005 => format!("{value:.0}"),
        Some(value) => format!("{value:.decimals$}"),
    }
}
