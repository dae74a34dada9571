//! Counts and decisions against lists.

use proptest::prelude::*;

use super::super::ThrottleConfig;
use super::super::state::{End, Measures, Rule, Tally};
use super::{WINDOW, plain};
use crate::base::clock::{Now, Timestamp, nanos};

/// What the throttle keeps in words, in lists.
#[derive(Debug, Default)]
struct Naive {
    /// What was accepted or not, and when.
    ended: Vec<(u64, bool)>,
    refused: Vec<u64>,
    started: Vec<u64>,
    known: Option<Found>,
}

/// The share that was found in a bucket, and how many changes it is still good for.
#[derive(Clone, Copy, Debug)]
struct Found {
    ratio: f64,
    bucket: u64,
    changes: i64,
}

impl Naive {
    fn tally(&self, now: u64) -> Tally {
        let bucket = nanos(WINDOW) / 40;
        let is_in_window = |time: u64| now / bucket - time / bucket < 40;
        let late_after = nanos(WINDOW) / 2;
        let cohort = late_after.div_ceil(6);
        let is_late =
            |started: u64| now.checked_sub(late_after).is_some_and(|late| started / cohort < late / cohort);
        let count = |count: usize| count as u64;
        let late = count(self.started.iter().filter(|started| is_late(**started)).count());
        let ended: Vec<_> = self.ended.iter().filter(|(time, _)| is_in_window(*time)).collect();
        Tally {
            sent: late + count(ended.len()),
            accepted: count(ended.iter().filter(|(_, accepted)| *accepted).count()),
            refused: count(self.refused.iter().filter(|time| is_in_window(**time)).count()),
        }
    }

    fn admits(&mut self, config: &ThrottleConfig, now: u64, draw: f64) -> bool {
        let bucket = now / (nanos(WINDOW) / 40);
        let known = self.known.filter(|known| known.bucket == bucket && known.changes >= 0);
        let Found { ratio, .. } = *self.known.insert(known.unwrap_or_else(|| {
            let tally = self.tally(now);
            let ratio = Rule::new(config).ratio(tally);
            let ratio = (ratio * 262_144.0).floor() / 262_144.0;
            let requests = tally.sent + if config.counts_refusals { tally.refused } else { 0 };
            Found { ratio, bucket, changes: (requests as f64 / (64.0 * config.headroom)) as i64 }
        }));
        if ratio > 0.0 && draw < ratio {
            self.refused.push(now);
            if config.counts_refusals {
                self.change();
            }
            return false;
        }
        self.started.push(now);
        true
    }

    fn change(&mut self) {
        if let Some(known) = &mut self.known {
            known.changes -= 1;
        }
    }

    fn end(&mut self, started: u64, end: End, now: u64) {
        let place = self.started.iter().position(|other| *other == started).unwrap();
        self.started.remove(place);
        let is_late = now - started >= nanos(WINDOW) / 2;
        match end {
            End::Accepted => {
                self.ended.push((now, true));
                if !self.known.is_some_and(|known| known.changes >= 0 && known.ratio <= 0.0) {
                    self.change();
                }
            }
            End::NotSent => {}
            End::Cancelled | End::CutOff if !is_late => {}
            End::Cancelled | End::CutOff | End::Rejected => {
                self.ended.push((now, false));
                self.change();
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Call(f64),
    End(usize, End),
}

fn any_step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        1 => Just(End::Accepted),
        4 => Just(End::Rejected),
        1 => Just(End::NotSent),
        1 => Just(End::Cancelled),
    ];
    prop_oneof![
        (0_u64..300_000_000).prop_map(Step::Wait),
        (0_u64..12_000_000_000).prop_map(Step::Wait),
        (0.0..1.0).prop_map(Step::Call),
        (0.0..1.0).prop_map(Step::Call),
        (0.0..1.0).prop_map(Step::Call),
        (any::<usize>(), end.clone()).prop_map(|(which, end)| Step::End(which, end)),
        (any::<usize>(), end).prop_map(|(which, end)| Step::End(which, end)),
    ]
}

proptest! {
    #[test]
    fn it_counts_and_decides_like_a_list(
        steps in prop::collection::vec(any_step(), 1..300),
        headroom in 1.0..3.0,
        counts_refusals: bool,
    ) {
        let config = plain().min_requests(2).headroom(headroom).counts_refusals(counts_refusals);
        let rule = Rule::new(&config);
        let (measures, mut naive, mut now, mut open) = (Measures::new(WINDOW, 0), Naive::default(), 0, vec![]);
        for step in steps {
            let moment = Now::at(Timestamp(now), 0);
            match step {
                Step::Wait(time) => now += time,
                Step::Call(draw) => {
                    let sent = measures.admit(|| rule, &moment, || draw);
                    prop_assert_eq!(sent.is_some(), naive.admits(&config, now, draw));
                    open.extend(sent.map(|sent| (sent, now)));
                }
                Step::End(which, end) if !open.is_empty() => {
                    let (sent, started) = open.swap_remove(which % open.len());
                    measures.end(sent, end, &moment);
                    naive.end(started, end, now);
                }
                Step::End(..) => {}
            }
            prop_assert_eq!(measures.tally(Timestamp(now)), naive.tally(now));
        }
    }
}
