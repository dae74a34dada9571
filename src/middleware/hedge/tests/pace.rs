//! The detection of a general slowdown, and concurrent reconfigurations.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use super::super::pace::Pace;
use super::super::shared::Shared;
use super::super::state::{Next, Plan, Race, Verdict};
use super::super::{HedgeConfig, HedgeLayer};
use super::{at, ms};
use crate::classify::{Outcome, RetryHint};
use crate::primitives::budget::{Budget, BudgetConfig};
use crate::telemetry::{MetricSet, Telemetry};

fn pace(calls: impl IntoIterator<Item = Duration>) -> Pace {
    let pace = Pace::new();
    calls.into_iter().for_each(|latency| pace.record(latency));
    pace
}

fn times(calls: usize, latency: Duration) -> impl Iterator<Item = Duration> {
    std::iter::repeat_n(latency, calls)
}

#[test]
fn nothing_is_slow_before_it_is_known_nor_while_latencies_are_as_usual() {
    assert!(!pace([]).is_slow(1.0));
    assert!(!pace(times(1, ms(10))).is_slow(1.0));
    assert!(!pace(times(100_000, ms(10))).is_slow(1.0));
}

#[test]
fn a_fifth_of_stragglers_does_not_make_all_calls_slow() {
    let calls = (0..10_000).map(|call| if call % 5 == 0 { ms(1_000) } else { ms(10) });
    assert!(!pace(calls).is_slow(1.5));
}

#[test]
fn all_calls_are_slow_after_some_tens_and_as_usual_after_some_tens_of_thousands() {
    let slow = |calls| pace(times(1_000, ms(10)).chain(times(calls, ms(100)))).is_slow(2.0);
    assert!(!slow(10));
    assert!(slow(20) && slow(30_000));
    assert!(!slow(60_000));
    // They are no longer slow soon after they have become fast again.
    assert!(!pace(times(1_000, ms(10)).chain(times(100, ms(100))).chain(times(50, ms(10)))).is_slow(2.0));
}

#[test]
fn latencies_at_the_end_of_the_scale_do_no_harm() {
    for latency in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let pace = pace(times(10_000, latency).chain([ms(1), Duration::MAX, Duration::ZERO]));
        let _ = pace.is_slow(f64::INFINITY);
        assert!(!pace.is_slow(f64::MAX));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_hedged_while_all_calls_are_slower_than_usual() {
    for (most, is_hedged) in [(2.0, false), (f64::INFINITY, true)] {
        let config = HedgeConfig::new().min_samples(1).max_slowdown(most);
        let layer = HedgeLayer::new(config);
        let service = tower::Layer::layer(
            &layer,
            tower::service_fn(|took: Duration| async move {
                tokio::time::sleep(took).await;
                Ok::<_, crate::error::Rejected>(())
            }),
        );
        for took in times(100, ms(10)).chain(times(40, ms(50))) {
            assert!(tower::ServiceExt::oneshot(service.clone(), took).await.is_ok());
        }
        tokio::time::advance(ms(4_000)).await;
        assert_eq!(layer.handle().delay().is_some(), is_hedged, "{most}");
    }
}

#[test]
fn a_slowdown_below_one_or_not_a_number_is_rejected() {
    for most in [0.0, 0.99, -1.0, f64::NAN, f64::NEG_INFINITY] {
        let error =
            HedgeConfig::new().max_slowdown(most).validate().map_err(|error| error.field().to_owned());
        assert_eq!(error, Err("max_slowdown".to_owned()), "{most}");
    }
    assert_eq!(HedgeConfig::default().max_slowdown(1.0).validate(), Ok(()));
}

/// If both threads read the old settings, the second replaces those of the first, with their
/// latencies.
#[test]
fn two_configurations_at_the_same_time_do_not_lose_latencies() {
    let telemetry = Telemetry::new(&MetricSet::new("hedge", &[]), "hedge", &[]);
    let shared = Shared::new(HedgeConfig::new(), Budget::new(BudgetConfig::new()), telemetry);
    let barrier = Barrier::new(2);
    for round in 1..=2_000_u32 {
        let config = HedgeConfig::new().min_samples(round);
        let change = |max_hedges| {
            barrier.wait();
            assert_eq!(shared.reconfigure(config.clone().max_hedges(max_hedges)), Ok(()));
            // Measured from now on.
            shared.originals().map(|originals| Arc::as_ptr(&originals).addr())
        };
        let [one, other] = thread::scope(|scope| {
            let threads = [scope.spawn(|| change(1)), scope.spawn(|| change(2))];
            threads.map(|thread| thread.join().ok())
        });
        assert_eq!(one, other, "round {round}");
    }
}

#[test]
fn a_server_that_asks_for_time_until_just_now_gets_the_copy_at_once() {
    let failed = Outcome::failure().retry_hint(RetryHint::AtLeast(ms(30)));
    for (second, expected) in
        [(129, Verdict::Lost(Some(crate::telemetry::Action::PushedBack))), (130, Verdict::Waits)]
    {
        let mut race = Race::new(Plan { delay: ms(50), max_hedges: 2 });
        race.begin(at(0));
        race.hedged(at(50));
        assert_eq!(race.failed(failed, at(100)), Verdict::Waits);
        assert_eq!(race.next(), Next::At(at(130)));
        assert_eq!(race.failed(Outcome::failure(), at(second)), expected, "{second}");
    }
}

#[test]
fn a_copy_that_waits_for_the_service_is_sent_if_the_server_asks_for_no_more_time() {
    let mut race = Race::new(Plan { delay: ms(50), max_hedges: 2 });
    race.begin(at(0));
    race.hedged(at(50));
    race.is_due();
    let asks_for_none = Outcome::failure().retry_hint(RetryHint::AtLeast(Duration::ZERO));
    assert_eq!(race.failed(asks_for_none, at(100)), Verdict::Waits);
    assert_eq!(race.next(), Next::Now);
}
