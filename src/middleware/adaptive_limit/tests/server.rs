//! A server with any distribution of service times, event by event.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;

use super::simulation::{Limiter, Random};
use crate::base::clock::Timestamp;
use crate::classify::Class;
use crate::middleware::admission::Ended;

/// How service times are distributed around their mean.
#[derive(Clone, Copy, Debug)]
pub(super) enum Law {
    Fixed,
    Exponential,
    /// With this sigma.
    Lognormal(f64),
    /// Half of the mean, but for a tenth of the calls eleven times as long.
    Bimodal,
    /// With this exponent; below 2 the variance is infinite.
    Pareto(f64),
}

/// Callers leave after ten times the mean, which the server does not notice.
const PATIENCE: f64 = 10.0;

pub(super) struct Server {
    pub(super) law: Law,
    /// In seconds.
    pub(super) mean: f64,
    pub(super) seed: u64,
}

impl Server {
    /// Runs it until `end`, with a load, a slowness and a number of workers for each time, and returns when calls were
    /// done in time.
    pub(super) fn run(
        &self,
        limiter: impl Limiter,
        end: f64,
        during: impl Fn(f64) -> (f64, f64, usize),
    ) -> Vec<f64> {
        fastrand::seed(self.seed);
        let mut run = Run {
            limiter,
            arrivals: Random::new(self.seed),
            services: Random::new(!self.seed),
            calls: Vec::new(),
            in_flight: 0,
            queue: VecDeque::new(),
            busy: BinaryHeap::new(),
            patient: VecDeque::new(),
            done: Vec::new(),
        };
        let mut arrival = 0.0;
        loop {
            let done = run.busy.peek().map_or(f64::INFINITY, |Reverse((at, _))| seconds(*at));
            let leaves = run.next_to_leave().map_or(f64::INFINITY, |began| began + PATIENCE * self.mean);
            let mut now = f64::min(arrival, done).min(leaves);
            if now >= end {
                return run.done;
            }
            let (load, slower, workers) = during(now);
            if now == arrival {
                if run.in_flight < run.limiter.limit() {
                    run.admit(now);
                } else {
                    // Whoever comes before a call has ended is rejected as well, and the next gap knows nothing of them.
                    now = f64::min(done, leaves);
                }
                let gap = self.mean / (load * workers as f64);
                arrival = now + run.arrivals.exponential(gap);
            } else if now == done {
                run.finish(now, PATIENCE * self.mean);
            } else if let Some(call) = run.patient.pop_front() {
                run.leave(call, now, None);
            }
            while run.busy.len() < workers {
                let Some(call) = run.queue.pop_front() else { break };
                let took = self.law.draw(self.mean, &mut run.services) * slower;
                run.busy.push(Reverse((nanos(now + took), call)));
            }
        }
    }
}

/// The calls per second in this time.
pub(super) fn goodput(done: &[f64], during: Range<f64>) -> f64 {
    let calls = done.iter().filter(|at| during.contains(at)).count();
    calls as f64 / (during.end - during.start)
}

impl Law {
    fn draw(self, mean: f64, random: &mut Random) -> f64 {
        match self {
            Self::Fixed => mean,
            Self::Exponential => random.exponential(mean),
            Self::Lognormal(sigma) => mean * (sigma * random.normal() - sigma * sigma / 2.0).exp(),
            Self::Bimodal => mean * if random.next() < 0.9 { 0.5 } else { 5.5 },
            Self::Pareto(exponent) => {
                mean * (exponent - 1.0) / exponent * (1.0 - random.next()).powf(-1.0 / exponent)
            }
        }
    }
}

struct Run<L> {
    limiter: L,
    arrivals: Random,
    services: Random,
    /// When each began, and whether its caller is still there.
    calls: Vec<(f64, bool)>,
    in_flight: u32,
    queue: VecDeque<usize>,
    busy: BinaryHeap<Reverse<(u64, usize)>>,
    /// The calls whose callers have not left yet, in order.
    patient: VecDeque<usize>,
    done: Vec<f64>,
}

impl<L: Limiter> Run<L> {
    /// When it began.
    fn next_to_leave(&mut self) -> Option<f64> {
        while let Some(call) = self.patient.front() {
            let (began, is_here) = self.calls[*call];
            if is_here {
                return Some(began);
            }
            self.patient.pop_front();
        }
        None
    }

    fn admit(&mut self, now: f64) {
        self.in_flight += 1;
        self.patient.push_back(self.calls.len());
        self.queue.push_back(self.calls.len());
        self.calls.push((now, true));
    }

    fn finish(&mut self, now: f64, patience: f64) {
        let Some(Reverse((_, call))) = self.busy.pop() else { return };
        let (began, is_here) = self.calls[call];
        if is_here {
            if now - began <= patience {
                self.done.push(now);
            }
            self.leave(call, now, Some(Class::Success));
        }
    }

    fn leave(&mut self, call: usize, now: f64, class: Option<Class>) {
        let (began, is_here) = &mut self.calls[call];
        *is_here = false;
        let (began, now) = (Timestamp(nanos(*began)), Timestamp(nanos(now)));
        self.limiter.ended(&Ended { began, now, in_flight: self.in_flight, class });
        self.in_flight -= 1;
    }
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
