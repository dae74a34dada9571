//! Algorithms that users write, and what they may get wrong.

use super::*;

/// Says what it is given, one after another, and then a NaN.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Says(Vec<f64>);

impl Says {
    pub(super) fn these(limits: &[f64]) -> Self {
        Self(limits.to_vec())
    }
}

impl Algorithm for Says {
    fn next(&mut self, limit: f64, sample: &Sample) -> Next {
        assert!((1.0..=1_000.0).contains(&limit) && sample.calls > 0);
        if self.0.is_empty() { Next::limit(f64::NAN) } else { Next::limit(self.0.remove(0)) }
    }
}

/// The limit after each window in which an algorithm says one of these.
async fn limits_said(said: &[f64]) -> Vec<u32> {
    let config = AdaptiveLimitConfig::new().window(10 * MS).min_calls(1).algorithm(Says(said.to_vec()));
    let handle = AdaptiveLimitLayer::new(config).handle();
    let mut limits = Vec::new();
    for _ in said {
        end_window(&handle).await;
        limits.push(handle.snapshot().max_in_flight);
    }
    limits
}

#[tokio::test(start_paused = true)]
async fn what_an_algorithm_says_is_the_limit() {
    assert_eq!(limits_said(&[30.0, 30.9, 17.999, 1_000.0, 3.0]).await, [30, 30, 17, 1_000, 3]);
}

#[tokio::test(start_paused = true)]
async fn whatever_an_algorithm_says_the_limit_stays_in_its_range() {
    let said = [f64::NAN, f64::INFINITY, 0.0, f64::NAN, -1.0, f64::MAX, f64::NEG_INFINITY, -0.0, 1e308];
    assert_eq!(limits_said(&said).await, [20, 1_000, 1, 1, 1, 1_000, 1, 1, 1_000]);
}

#[derive(Clone, Debug, PartialEq)]
struct Panics(u32);

impl Algorithm for Panics {
    fn next(&mut self, _: f64, _: &Sample) -> Next {
        self.0 -= 1;
        assert!(self.0 == 0, "an algorithm");
        self.0 = 3;
        Next::limit(30.0)
    }
}

fn panicking() -> AdaptiveLimitHandle<Panics> {
    let config = AdaptiveLimitConfig::new().window(10 * MS).min_calls(1).algorithm(Panics(3));
    AdaptiveLimitLayer::new(config).handle()
}

#[tokio::test(start_paused = true)]
async fn an_algorithm_that_panics_harms_no_call_and_is_asked_again_after_the_next_window() {
    let handle = panicking();
    let mut limits = Vec::new();
    for _ in 0..3 {
        end_window(&handle).await;
        // Not asked again by each call.
        for _ in 0..10 {
            assert_eq!(handle.run(async { Ok::<_, Failure>(()) }).await, Ok(()));
        }
        limits.push(handle.snapshot().max_in_flight);
    }
    assert_eq!(limits, [20, 20, 30]);
    assert_eq!(handle.snapshot().in_flight, 0);
}

/// Two panics at a time would end the program.
#[tokio::test(start_paused = true)]
async fn an_algorithm_that_panics_at_the_end_of_a_call_that_panics_is_survived() {
    let handle = panicking();
    let call = tokio::spawn({
        let handle = handle.clone();
        async move {
            let call = handle.run(async {
                sleep(20 * MS).await;
                panic!("a call")
            });
            call.await.unwrap_or_else(|error: Failure| panic!("{error}"));
        }
    });
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(handle.snapshot().in_flight, 0);
    for _ in 0..2 {
        end_window(&handle).await;
    }
    assert_eq!(handle.snapshot().max_in_flight, 30);
}

#[tokio::test(start_paused = true)]
async fn a_window_tells_an_algorithm_what_it_was_like() {
    let notes = Notes::new();
    let layer = AdaptiveLimitLayer::new(notes.config().window(SECOND));
    let mut limited = Limited { handle: layer.handle(), layer, lowest: u32::MAX, highest: 0 };
    limited.rounds(9, 8, Ask::Answer(100 * MS)).await;
    limited.rounds(1, 2, Ask::Fail(50 * MS)).await;
    limited.rounds(1, 1, Ask::Answer(60 * MS)).await;
    let samples = notes.samples.lock().unwrap();
    let Sample { latency, fastest, in_flight, calls, failures, length, .. } = samples[0];
    assert_eq!((in_flight, calls, failures), (8, 75, 2));
    let is_about = |found: Option<Duration>, exact: Duration| {
        found.is_some_and(|found| found.abs_diff(exact) < exact / 8)
    };
    assert!(is_about(latency, 100 * MS) && is_about(fastest, 60 * MS), "{samples:?}");
    assert!(length >= SECOND && length < SECOND + 50 * MS, "{samples:?}");
}

#[tokio::test(start_paused = true)]
async fn each_limit_is_found_by_an_algorithm_of_its_own() {
    let config = AdaptiveLimitConfig::new().window(10 * MS).min_calls(1).algorithm(Says(vec![30.0]));
    for name in ["one", "another", "third"] {
        let layer = AdaptiveLimitLayer::new(config.clone()).name(name);
        end_window(&layer.handle()).await;
        assert_eq!(layer.handle().snapshot().max_in_flight, 30);
    }
}
