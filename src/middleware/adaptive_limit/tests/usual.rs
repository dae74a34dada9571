//! The windows that tell how long calls usually take: a call that is given up has failed if it took two and a half times as
//! long.

use std::sync::{Arc, Mutex};

use super::*;
use crate::middleware::adaptive_limit::algorithm::{Next, Sample};

/// Takes notes of its windows, and answers what it is told to.
#[derive(Debug)]
struct Notes {
    samples: Arc<Mutex<Vec<Sample>>>,
    answers: Vec<Next>,
}

impl Algorithm for Notes {
    fn next(&mut self, limit: f64, sample: &Sample) -> Next {
        self.samples.lock().unwrap().push(*sample);
        self.answers.pop().unwrap_or(Next::limit(limit))
    }
}

/// A window of calls of these many milliseconds, with this many in flight.
type Window = (u32, u32);

/// Returns the milliseconds after which a call that is given up has failed, after these windows.
fn patience(windows: &[Window], first_answer: Next) -> u64 {
    const LONGEST: u32 = 100;
    let samples = Arc::default();
    let notes = Notes { samples: Arc::clone(&samples), answers: vec![first_answer] };
    let mut metered = Metered::new(40, notes);
    let end_window = |metered: &mut Metered, (takes, in_flight)| {
        let before = samples.lock().unwrap().len();
        while samples.lock().unwrap().len() == before {
            metered.succeed(1, in_flight, takes * MS);
        }
        samples.lock().unwrap()[before]
    };
    for window in windows {
        end_window(&mut metered, *window);
    }
    for took in 1..=LONGEST {
        metered.ends(took * MS, 1, None);
    }
    let sample = end_window(&mut metered, (1, 20));
    assert_eq!(sample.failures + sample.cancelled, u64::from(LONGEST));
    sample.cancelled
}

#[test]
fn windows_that_do_not_use_the_limit_tell_what_is_usual() {
    let same = Next::limit(40.0);
    assert_eq!(patience(&[(11, 10)], same), 27);
    assert_eq!(patience(&[(11, 10), (22, 10)], same), 35, "by three tenths");
    assert_eq!(patience(&[(11, 10), (6, 10)], same), 23);
}

#[test]
fn windows_that_use_the_limit_tell_what_is_usual_only_if_calls_are_faster() {
    let same = Next::limit(40.0);
    assert_eq!(patience(&[(11, 10), (22, 40)], same), 27, "they may have waited for one another");
    assert_eq!(patience(&[(11, 10), (6, 40)], same), 23);
}

#[test]
fn windows_that_are_measured_afresh_tell_what_is_usual_although_they_use_the_limit() {
    let afresh = Next::limit(30.0).reset_window();
    assert_eq!(patience(&[(11, 10), (22, 30)], afresh), 35);
    assert_eq!(patience(&[(11, 10), (6, 30)], afresh), 23);
}
