//! Retries of work that is not a `Service`.

use std::cell::Cell;
use std::rc::Rc;

use stanchion::classify::Retryable;
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::*;

#[tokio::test(start_paused = true)]
async fn run_retries_like_a_call() {
    let heard = Heard::default();
    let budget = two_tokens();
    let handle = heard.by(layer().budget(budget.clone())).handle();
    let starts = Starts::new();
    let answer = handle
        .run(|| {
            let attempt = starts.begin();
            async move { if attempt < 3 { FAILED } else { Ok(attempt) } }
        })
        .await;
    assert_eq!(answer, Ok(3));
    starts.assert_at(&[0, 100, 300]);
    assert_eq!(budget.balance(), 0.0);
    assert_eq!(
        heard.take(),
        [
            "1 failure",
            "budget",
            "retried after 1 in 100ms",
            "2 failure",
            "budget",
            "retried after 2 in 200ms",
            "3 success"
        ]
    );
    assert_eq!(handle.run(|| async { FAILED }).await, FAILED);
    assert_eq!(heard.take(), ["1 failure", "budget", "budget_spent after 1"]);
}

#[tokio::test(start_paused = true)]
async fn each_run_pays_into_the_budget_once() {
    let budget = Budget::new(BudgetConfig::new().ratio(0.5).per_second(0.0).cap(2.0));
    assert!(budget.withdraw() && budget.withdraw());
    let handle = layer().budget(budget.clone()).handle();
    let starts = Starts::new();
    for _ in 0..10 {
        let failed = handle.run(|| {
            starts.begin();
            async { FAILED }
        });
        assert_eq!(failed.await, FAILED);
    }
    assert_eq!((starts.count(), budget.balance()), (15, 0.0));
}

#[tokio::test(start_paused = true)]
async fn the_layers_classifier_is_used() {
    let handle = layer()
        .classify(|result: Result<&u32, &Failure>| match result {
            Ok(503) => Outcome::failure(),
            Ok(_) => Outcome::success(),
            Err(_) => Outcome::failure().retryable(Retryable::Never),
        })
        .handle();
    let starts = Starts::new();
    let unavailable = handle.run(|| {
        starts.begin();
        async { Ok(503) }
    });
    assert_eq!(unavailable.await, Ok(503), "the last one");
    starts.assert_at(&[0, 100, 300]);
    let wrong = handle.run(|| {
        starts.begin();
        async { Err(Error::Inner(Fault("wrong"))) }
    });
    assert_eq!(wrong.await, Err(Error::Inner(Fault("wrong"))));
    assert_eq!(starts.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_discarded_is_dropped_before_the_wait() {
    let alive = Arc::new(());
    let handle = layer().classify(|_: Result<&Arc<()>, &Failure>| Class::Failure).handle();
    let mut run = task::spawn(handle.run(|| {
        let held = Arc::clone(&alive);
        async move { Ok(Arc::clone(&held)) }
    }));
    assert_pending!(run.poll());
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_makes_no_other_attempt() {
    for stage in [50, 150, 250] {
        let (alive, starts) = (Arc::new(()), Starts::new());
        let handle = layer().handle();
        let run = handle.run(|| {
            starts.begin();
            let held = Arc::clone(&alive);
            async move {
                sleep(100 * MS).await;
                drop(held);
                FAILED
            }
        });
        assert!(tokio::time::timeout(stage * MS, run).await.is_err());
        assert_eq!(Arc::strong_count(&alive), 1);
        let begun = starts.count();
        sleep(SECOND).await;
        assert_eq!(starts.count(), begun);
    }
}

#[tokio::test(start_paused = true)]
async fn an_inner_rejection_is_returned_and_costs_nothing() {
    let budget = two_tokens();
    let handle = layer().budget(budget.clone()).handle();
    let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new()).handle();
    breaker.force_open();
    let starts = Starts::new();
    let refused = handle.run(|| {
        starts.begin();
        breaker.run(async { Ok::<_, Failure>(1) })
    });
    assert!(matches!(refused.await, Err(Error::Rejected(_))));
    assert_eq!((starts.count(), budget.balance()), (1, 2.0));
}

/// Rejections in other tasks of the thread do not count.
#[tokio::test(start_paused = true)]
async fn rejections_in_other_tasks_do_not_affect_a_run() {
    let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new()).handle();
    breaker.force_open();
    let tasks = LocalSet::new();
    let is_over = Rc::new(Cell::new(false));
    let noise = Rc::clone(&is_over);
    let refused = breaker.clone();
    tasks.spawn_local(async move {
        while !noise.get() {
            let answer = refused.run(async { Ok::<_, Failure>(1) }).await;
            assert!(answer.is_err());
            yield_now().await;
        }
    });
    tasks
        .run_until(async {
            let handle = RetryLayer::new(config().backoff(Backoff::constant(Duration::ZERO))).handle();
            for polls in 0..4 {
                let starts = Starts::new();
                let failed = handle.run(|| {
                    starts.begin();
                    async {
                        for _ in 0..polls {
                            yield_now().await;
                        }
                        FAILED
                    }
                });
                assert_eq!(failed.await, FAILED);
                assert_eq!(starts.count(), 3, "its own failures, after {polls} polls");
            }
            is_over.set(true);
        })
        .await;
    // Conversely, a failure elsewhere does not hide a stored rejection.
    let starts = Starts::new();
    let handle = layer().handle();
    tasks
        .run_until(async {
            let other = spawn_local(async { layer().handle().run(|| async { FAILED }).await });
            let refused = handle.run(|| {
                starts.begin();
                async {
                    let answer = breaker.run(async { Ok::<_, Failure>(1) }).await;
                    sleep(SECOND).await;
                    answer
                }
            });
            assert!(refused.await.is_err());
            assert_eq!(other.await.unwrap(), FAILED);
        })
        .await;
    assert_eq!(starts.count(), 1);
}

/// A rejection or a timeout before the last attempt does not count as its result.
#[tokio::test(start_paused = true)]
async fn an_outer_layer_sees_the_result_of_the_last_attempt() {
    let inside = CircuitBreakerLayer::new(CircuitBreakerConfig::new()).handle();
    inside.force_open();
    let outside = CircuitBreakerLayer::new(CircuitBreakerConfig::new().consecutive_failures(1)).handle();
    let handle = RetryLayer::new(config().retry_refusals(true).max_attempts(2)).handle();
    let mut attempts = 0;
    let answer = outside
        .run(handle.run(|| {
            attempts += 1;
            let (attempt, inside) = (attempts, inside.clone());
            async move { if attempt == 1 { inside.run(async { Ok::<_, Failure>(1) }).await } else { FAILED } }
        }))
        .await;
    assert_eq!((answer, attempts), (FAILED, 2));
    assert_eq!(outside.state(), State::Open, "it was a failure");
}

#[test]
fn a_retry_without_a_wait_needs_no_timer() {
    let handle = RetryLayer::new(config().backoff(Backoff::constant(Duration::ZERO))).handle();
    let mut attempts = 0;
    let mut run = task::spawn(handle.run(|| {
        attempts += 1;
        async { FAILED }
    }));
    assert_eq!(run.poll(), Poll::Ready(FAILED));
    drop(run);
    assert_eq!(attempts, 3);
}
