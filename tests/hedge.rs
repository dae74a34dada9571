//! The copies that a hedge layer sends, the response that wins, and the cost, under paused time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/fault.rs"]
mod fault;
#[path = "support/script.rs"]
mod script;

use std::time::Duration;

use script::{
    DELAY, LONG, MS, NOW, Protocol, Request, SOME, Script, after, call, config, copy, failed, hedged, layer,
    tokens, with,
};
use stanchion::hedge::HedgeDelay;
use stanchion::{Budget, BudgetConfig, Deadline, RetryConfig, RetryLayer};
use tower::Layer;

// The delay.

#[tokio::test(start_paused = true)]
async fn a_fast_call_is_not_hedged() {
    assert_eq!(hedged(&layer(), [after(DELAY - MS, Ok("a"))]).await, (Ok("a"), DELAY - MS, vec![NOW]));
}

#[tokio::test(start_paused = true)]
async fn a_late_call_is_hedged_and_the_first_good_response_wins() {
    let steps = [after(LONG, Ok("slow")), after(SOME, Ok("fast"))];
    assert_eq!(hedged(&layer(), steps).await, (Ok("fast"), DELAY + SOME, vec![NOW, DELAY]));
    let steps = [after(DELAY + SOME, Ok("slow")), after(LONG, Ok("slower"))];
    assert_eq!(hedged(&layer(), steps).await, (Ok("slow"), DELAY + SOME, vec![NOW, DELAY]));
}

#[tokio::test(start_paused = true)]
async fn further_copies_follow_one_delay_after_another_up_to_the_limit() {
    let steps = [LONG, LONG, LONG, LONG].map(|time| after(time, Ok("a")));
    let answered = hedged(&with(config().max_hedges(3)), steps).await;
    assert_eq!(answered, (Ok("a"), LONG, vec![NOW, DELAY, 2 * DELAY, 3 * DELAY]));
}

#[tokio::test(start_paused = true)]
async fn without_a_delay_all_copies_are_sent_at_once() {
    let none = config().delay(HedgeDelay::Fixed(Duration::ZERO)).max_hedges(2);
    let steps = [LONG, LONG, SOME].map(|time| after(time, Ok("a")));
    assert_eq!(hedged(&with(none), steps).await, (Ok("a"), SOME, vec![NOW; 3]));
}

#[tokio::test(start_paused = true)]
async fn no_copies_are_sent_if_none_are_allowed_or_the_delay_never_ends() {
    for config in [config().max_hedges(0), config().delay(HedgeDelay::Fixed(Duration::MAX))] {
        assert_eq!(hedged(&with(config), [after(LONG, Ok("a"))]).await, (Ok("a"), LONG, vec![NOW]));
    }
}

// Failures.

#[tokio::test(start_paused = true)]
async fn a_failed_hedge_never_beats_a_later_good_original() {
    let steps = [after(LONG, Ok("good")), after(SOME, failed("fast"))];
    assert_eq!(hedged(&layer(), steps).await, (Ok("good"), LONG, vec![NOW, DELAY]));
    let steps = [after(LONG, Ok("good")), after(SOME, Ok("503"))];
    assert_eq!(hedged(&layer(), steps).await, (Ok("good"), LONG, vec![NOW, DELAY]));
}

#[tokio::test(start_paused = true)]
async fn a_failed_original_does_not_beat_a_later_good_hedge() {
    for failure in [failed("original"), Ok("503"), failed("fatal")] {
        let steps = [after(DELAY + SOME, failure), after(LONG, Ok("good"))];
        assert_eq!(hedged(&layer(), steps).await, (Ok("good"), DELAY + LONG, vec![NOW, DELAY]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_original_starts_the_hedge_at_once() {
    for failure in [failed("original"), Ok("503")] {
        let steps = [after(SOME, failure.clone()), after(SOME, Ok("good"))];
        assert_eq!(hedged(&layer(), steps).await, (Ok("good"), 2 * SOME, vec![NOW, SOME]));
        let steps = [after(NOW, failure), after(NOW, Ok("good"))];
        assert_eq!(hedged(&layer(), steps).await, (Ok("good"), NOW, vec![NOW; 2]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_fails_last_starts_the_next_one_at_once() {
    let steps = [after(SOME, failed("a")), after(SOME, failed("b")), after(SOME, Ok("good"))];
    let answered = hedged(&with(config().max_hedges(2)), steps).await;
    assert_eq!(answered, (Ok("good"), 3 * SOME, vec![NOW, SOME, 2 * SOME]));
}

#[tokio::test(start_paused = true)]
async fn a_failure_with_others_in_flight_does_not_hasten_the_next_copy() {
    let steps = [after(LONG, Ok("good")), after(SOME, failed("b")), after(LONG, Ok("good"))];
    let answered = hedged(&with(config().max_hedges(2)), steps).await;
    assert_eq!(answered, (Ok("good"), LONG, vec![NOW, DELAY, 2 * DELAY]));
}

#[tokio::test(start_paused = true)]
async fn the_first_error_is_returned_if_all_attempts_fail() {
    let steps = [after(DELAY + SOME, failed("original")), after(LONG, failed("hedge"))];
    assert_eq!(hedged(&layer(), steps).await, (failed("original"), DELAY + LONG, vec![NOW, DELAY]));
    let steps = [after(LONG, failed("original")), after(SOME, failed("hedge"))];
    assert_eq!(hedged(&layer(), steps).await, (failed("hedge"), LONG, vec![NOW, DELAY]));
    let steps = [after(LONG, failed("original")), after(SOME, Ok("503"))];
    assert_eq!(hedged(&layer(), steps).await, (failed("original"), LONG, vec![NOW, DELAY]));
}

#[tokio::test(start_paused = true)]
async fn a_failed_response_is_returned_if_it_came_last() {
    let steps = [after(SOME, Ok("503")), after(SOME, Ok("503"))];
    assert_eq!(hedged(&layer(), steps).await, (Ok("503"), 2 * SOME, vec![NOW, SOME]));
    let steps = [after(SOME, Ok("503")), after(SOME, failed("hedge"))];
    assert_eq!(hedged(&layer(), steps).await, (failed("hedge"), 2 * SOME, vec![NOW, SOME]));
}

#[tokio::test(start_paused = true)]
async fn a_good_error_wins() {
    let steps = [after(LONG, Ok("good")), after(SOME, failed("not found"))];
    assert_eq!(hedged(&layer(), steps).await, (failed("not found"), DELAY + SOME, vec![NOW, DELAY]));
    let steps = [after(SOME, failed("not found"))];
    assert_eq!(hedged(&layer(), steps).await, (failed("not found"), SOME, vec![NOW]));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_not_retryable_is_not_hedged() {
    assert_eq!(hedged(&layer(), [after(SOME, failed("fatal"))]).await, (failed("fatal"), SOME, vec![NOW]));
    let steps = [after(LONG, Ok("good")), after(SOME, failed("fatal"))];
    let answered = hedged(&with(config().max_hedges(2)), steps).await;
    assert_eq!(answered, (Ok("good"), LONG, vec![NOW, DELAY]));
}

// Hints of the server.

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_no_retry_gets_no_copy() {
    assert_eq!(hedged(&layer(), [after(SOME, failed("stop"))]).await, (failed("stop"), SOME, vec![NOW]));
    let steps = [after(LONG, Ok("good")), after(SOME, failed("stop"))];
    let answered = hedged(&with(config().max_hedges(2)), steps).await;
    assert_eq!(answered, (Ok("good"), LONG, vec![NOW, DELAY]));
}

#[tokio::test(start_paused = true)]
async fn no_copy_is_sent_before_the_servers_wait_is_over() {
    let steps = [after(LONG, Ok("good")), after(SOME, failed("later")), after(LONG, Ok("good"))];
    let answered = hedged(&with(config().max_hedges(2)), steps).await;
    assert_eq!(answered, (Ok("good"), LONG, vec![NOW, DELAY, DELAY + SOME + 4 * DELAY]));
    let answered = hedged(&layer(), [after(SOME, failed("later"))]).await;
    assert_eq!(answered, (failed("later"), SOME, vec![NOW]), "waits with nothing under way");
}

// Requests that may be hedged.

#[tokio::test(start_paused = true)]
async fn only_what_is_idempotent_can_be_sent_twice_and_is_no_copy_is_hedged() {
    let requests = [
        Request { writes: true, ..Request::default() },
        Request { once: true, ..Request::default() },
        Request { attempt: Some(copy(1, 1)), ..Request::default() },
    ];
    for request in requests {
        for (time, answer) in [(LONG, Ok("good")), (SOME, failed("original"))] {
            let script = Script::new([after(time, answer.clone())]);
            assert_eq!(
                call(&mut layer().layer(script.clone()), request).await,
                (answer, time),
                "{request:?}"
            );
            assert_eq!(script.times(), [NOW], "{request:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn copies_carry_their_number_and_that_of_the_attempt() {
    for number in [None, Some(1), Some(3)] {
        let script = Script::new([LONG, LONG, SOME].map(|time| after(time, Ok("a"))));
        let attempt = number.map(|number| copy(number, 0));
        let mut service = with(config().max_hedges(2)).layer(script.clone());
        call(&mut service, Request { attempt, ..Request::default() }).await.0.unwrap();
        let sent: Vec<_> = script.requests().iter().map(|request| request.attempt).collect();
        let copy = |hedge| Some(copy(number.unwrap_or(0), hedge));
        assert_eq!(sent, [attempt, copy(1), copy(2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn no_copy_is_sent_that_cannot_be_answered_before_the_deadline() {
    for (left, copies) in [(DELAY, 0), (DELAY + SOME, 0), (DELAY + SOME + MS, 1), (LONG, 1)] {
        let script = Script::new([after(LONG, Ok("a")), after(MS, Ok("b"))]);
        let mut service = with(config().min_remaining(SOME)).layer(script.clone());
        let request = Request { deadline: Some(Deadline::after(left)), ..Request::default() };
        call(&mut service, request).await.0.unwrap();
        assert_eq!(script.times().len(), 1 + copies, "{left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_copy_is_sent_only_if_there_is_time_for_it() {
    let script = Script::new([LONG, LONG, LONG].map(|time| after(time, Ok("a"))));
    let mut service = with(config().max_hedges(2).min_remaining(SOME)).layer(script.clone());
    let deadline = Some(Deadline::after(2 * DELAY + SOME));
    call(&mut service, Request { deadline, ..Request::default() }).await.0.unwrap();
    assert_eq!(script.times(), [NOW, DELAY]);
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_told_what_is_left_until_the_deadline() {
    let script = Script::new([LONG, LONG].map(|time| after(time, Ok("a"))));
    let request = Request { deadline: Some(Deadline::after(2 * LONG)), ..Request::default() };
    call(&mut layer().layer(script.clone()), request).await.0.unwrap();
    let left: Vec<_> = script.requests().iter().map(|request| request.left).collect();
    assert_eq!(left, [None, Some(2 * LONG - DELAY)]);
}

// The budget.

#[tokio::test(start_paused = true)]
async fn each_copy_costs_a_token_and_without_one_none_is_sent() {
    let budget = tokens(3.0);
    let layer = with(config().max_hedges(2)).budget(budget.clone());
    let steps = || [LONG, LONG, LONG].map(|time| after(time, Ok("a")));
    assert_eq!(hedged(&layer, steps()).await.2.len(), 3);
    assert_eq!(budget.balance(), 1.0);
    assert_eq!(hedged(&layer, steps()).await.2.len(), 2);
    assert_eq!(hedged(&layer, steps()).await.2.len(), 1);
    let answered = hedged(&layer, [after(SOME, failed("original"))]).await;
    assert_eq!(answered, (failed("original"), SOME, vec![NOW]), "a failed original is free");
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_does_not_affect_hedges_in_flight() {
    let budget = tokens(1.0);
    let steps = [after(LONG, failed("original")), after(4 * DELAY, Ok("hedge"))];
    let answered = hedged(&with(config().max_hedges(2)).budget(budget.clone()), steps).await;
    assert_eq!(answered, (Ok("hedge"), 5 * DELAY, vec![NOW, DELAY]));
    assert_eq!(budget.balance(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_hedged_costs_nothing() {
    let budget = tokens(1.0);
    let layer = layer().budget(budget.clone());
    hedged(&layer, [after(SOME, Ok("a"))]).await.0.unwrap();
    for request in [
        Request { writes: true, ..Request::default() },
        Request { deadline: Some(Deadline::after(DELAY)), ..Request::default() },
    ] {
        call(&mut layer.layer(Script::new([after(LONG, Ok("a"))])), request).await.0.unwrap();
    }
    assert_eq!(budget.balance(), 1.0);
}

#[tokio::test(start_paused = true)]
async fn first_attempts_deposit_and_retries_and_copies_do_not() {
    let budget = Budget::new(BudgetConfig::new().ratio(0.5).per_second(0.0).cap(100.0));
    assert!((0..100).all(|_| budget.withdraw()));
    let layer = layer().budget(budget.clone());
    let attempts = [(None, 0.5), (Some(copy(1, 0)), 1.0), (Some(copy(2, 0)), 1.0), (Some(copy(1, 1)), 1.0)];
    for (attempt, balance) in attempts {
        let request = Request { attempt, ..Request::default() };
        call(&mut layer.layer(Script::new([after(SOME, Ok("a"))])), request).await.0.unwrap();
        assert_eq!(budget.balance(), balance, "{attempt:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn hedges_of_a_layer_by_itself_are_a_share_of_the_calls() {
    for delay in [DELAY, Duration::ZERO] {
        let script = Script::new([]);
        let mut service = with(config().delay(HedgeDelay::Fixed(delay))).layer(script.clone());
        for _ in 0..2_000 {
            script.steps.lock().unwrap().clear();
            script.add([after(2 * DELAY, Ok("a")), after(2 * DELAY, Ok("b"))]);
            call(&mut service, Request::default()).await.0.unwrap();
        }
        // Ten at first, and a twentieth of the calls except the first, for which the budget was
        // full.
        assert_eq!(script.times().len(), 2_000 + 109);
    }
}

#[tokio::test(start_paused = true)]
async fn one_budget_for_retries_and_hedges_bounds_both_together() {
    let budget = Budget::new(BudgetConfig::new().ratio(0.05).per_second(0.0));
    let script = Script::new([]);
    let retry = RetryLayer::new(RetryConfig::new()).protocol(Protocol).budget(budget.clone());
    let mut service = retry.layer(layer().budget(budget).layer(script.clone()));
    let calls = 2_000_usize;
    for _ in 0..calls {
        script.steps.lock().unwrap().clear();
        script.add([(); 10].map(|()| after(2 * DELAY, failed("down"))));
        let _ = call(&mut service, Request::default()).await;
    }
    let extra = script.times().len() - calls;
    // Each of the two layers deposits a twentieth for each call.
    assert!((calls / 10..=calls / 10 + 10).contains(&extra), "{extra}");
}
