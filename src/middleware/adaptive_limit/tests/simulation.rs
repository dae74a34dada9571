//! A server of ten workers under overload, event by event.

use std::collections::VecDeque;

use super::super::algorithm::Algorithm;
use super::super::config::AdaptiveLimitConfig;
use super::super::meter::Meter;
use crate::base::clock::Timestamp;
use crate::classify::Class;
use crate::middleware::admission::Ended;

const WORKERS: usize = 10;
const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MS;
const MEAN: f64 = 10.0 * MS as f64;
/// What the server can do in a second.
const CAPACITY: f64 = 1_000.0;
const DEADLINE: u64 = 100 * MS;

/// What is told of each call's end, and says how many calls may be in flight.
pub(super) trait Limiter {
    fn limit(&self) -> u32;
    fn ended(&mut self, call: &Ended);
}

/// A meter and the limit it has found.
pub(super) struct Metered {
    meter: Meter,
    limit: u32,
}

impl Metered {
    pub(super) fn new(config: &AdaptiveLimitConfig, algorithm: impl Algorithm) -> Self {
        let meter = Meter::new(config, Box::new(algorithm), Timestamp(0));
        Self { meter, limit: config.initial_limit }
    }
}

impl Limiter for Metered {
    fn limit(&self) -> u32 {
        self.limit
    }

    fn ended(&mut self, call: &Ended) {
        self.limit = self.meter.ended(call).unwrap_or(self.limit);
    }
}

/// A limit that stays.
pub(super) struct Fixed(pub(super) u32);

impl Limiter for Fixed {
    fn limit(&self) -> u32 {
        self.0
    }

    fn ended(&mut self, _: &Ended) {}
}

pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `SplitMix64`.
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.next()).ln()
    }

    /// By Box and Muller.
    pub(super) fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.next()).ln()).sqrt() * (std::f64::consts::TAU * self.next()).cos()
    }
}

/// What becomes of a call.
#[derive(Clone, Copy)]
struct Call {
    began: u64,
    is_here: bool,
}

pub(super) struct Simulation<L> {
    limiter: L,
    random: Random,
    now: u64,
    calls: Vec<Call>,
    in_flight: u32,
    queue: VecDeque<usize>,
    /// When each worker that has one is done with which call, the soonest last.
    busy: Vec<(u64, usize)>,
    /// The calls whose clients have not left yet, in order.
    patient: VecDeque<usize>,
    /// Calls that the server has finished: when, and how long they took.
    done: Vec<(u64, u64)>,
    /// Calls that came, without those refused while it was full already.
    pub(super) offered: u64,
}

impl<L: Limiter> Simulation<L> {
    pub(super) fn new(limiter: L, seed: u64) -> Self {
        Self {
            limiter,
            random: Random(seed),
            now: 0,
            calls: Vec::new(),
            in_flight: 0,
            queue: VecDeque::new(),
            busy: Vec::new(),
            patient: VecDeque::new(),
            done: Vec::new(),
            offered: 0,
        }
    }

    /// Goes on until `end`, with `load` times the capacity offered, and calls that take `slower` times as long.
    pub(super) fn run_until(&mut self, end: u64, load: f64, slower: f64) {
        let gap = SECOND as f64 / (CAPACITY * load);
        let mut arrival = self.now + self.random.exponential(gap) as u64;
        loop {
            let done = self.busy.last().map_or(u64::MAX, |(at, _)| *at);
            let leaves = self.next_to_leave().map_or(u64::MAX, |call| self.calls[call].began + DEADLINE);
            self.now = arrival.min(done).min(leaves).min(end);
            if self.now == end {
                return;
            }
            if self.now == arrival {
                self.offered += 1;
                if self.in_flight >= self.limiter.limit() {
                    // Those who come before somebody goes are refused as well, and the next gap knows nothing of them.
                    self.now = done.min(leaves).min(end);
                } else {
                    self.admit(slower);
                }
                arrival = self.now + self.random.exponential(gap) as u64;
            } else if self.now == done {
                self.finish(slower);
            } else if let Some(call) = self.patient.pop_front() {
                self.leave(call, None);
            }
        }
    }

    fn next_to_leave(&mut self) -> Option<usize> {
        while let Some(call) = self.patient.front() {
            if self.calls[*call].is_here {
                return Some(*call);
            }
            self.patient.pop_front();
        }
        None
    }

    fn admit(&mut self, slower: f64) {
        let call = self.calls.len();
        self.calls.push(Call { began: self.now, is_here: true });
        self.in_flight += 1;
        self.patient.push_back(call);
        self.queue.push_back(call);
        if self.busy.len() < WORKERS {
            self.serve(slower);
        }
    }

    fn serve(&mut self, slower: f64) {
        if let Some(call) = self.queue.pop_front() {
            let done = self.now + self.random.exponential(MEAN * slower) as u64;
            let place = self.busy.partition_point(|(at, _)| *at > done);
            self.busy.insert(place, (done, call));
        }
    }

    fn finish(&mut self, slower: f64) {
        let Some((_, call)) = self.busy.pop() else { return };
        self.done.push((self.now, self.now - self.calls[call].began));
        if self.calls[call].is_here {
            self.leave(call, Some(Class::Success));
        }
        self.serve(slower);
    }

    fn leave(&mut self, call: usize, class: Option<Class>) {
        self.calls[call].is_here = false;
        let began = Timestamp(self.calls[call].began);
        let ended = Ended { began, now: Timestamp(self.now), in_flight: self.in_flight, class };
        self.limiter.ended(&ended);
        self.in_flight -= 1;
    }

    /// What was done in this time.
    pub(super) fn report(&self, from: u64, to: u64) -> Report {
        let mut latencies: Vec<u64> =
            self.done.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, latency)| *latency).collect();
        latencies.sort_unstable();
        let good = latencies.partition_point(|latency| *latency <= DEADLINE);
        let all = latencies.len().max(1);
        Report {
            goodput: good as f64 / ((to - from) as f64 / SECOND as f64) / CAPACITY,
            p99: latencies.get(all * 99 / 100).map_or(0.0, |latency| *latency as f64 / MS as f64),
            late: (latencies.len() - good) as f64 / all as f64,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    /// Calls that were done in time, of those that the server can do.
    pub(super) goodput: f64,
    /// In milliseconds.
    pub(super) p99: f64,
    /// The share of calls that were done after the client had left.
    pub(super) late: f64,
}
