//! What a hedge layer does, through the public interface and under paused time.

#![allow(clippy::disallowed_methods, reason = "a test moves the clock")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use stanchion::hedge::HedgeDelay;
use stanchion::protocol::{Attempt, Carry, Hint, Judge, Judgement, Replay};
use stanchion::telemetry::{Event, Source};
use stanchion::{
    Budget, BudgetConfig, CircuitBreakerConfig, CircuitBreakerLayer, Deadline, Error, HedgeConfig,
    HedgeLayer, RetryConfig, RetryLayer,
};
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_test::{assert_pending, assert_ready, task};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceExt};

const MS: Duration = Duration::from_millis(1);
const DELAY: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(10);

type Answer = Result<&'static str, Error<&'static str>>;

/// An inner service whose attempts take so long and end so, one after another.
#[derive(Clone, Debug, Default)]
struct Script {
    steps: Arc<Mutex<VecDeque<(Duration, Answer)>>>,
    attempts: Arc<Mutex<Vec<(Duration, Request)>>>,
    start: Arc<Mutex<Option<Instant>>>,
    /// Futures that are alive.
    alive: Arc<()>,
}

fn after(time: Duration, answer: Answer) -> (Duration, Answer) {
    (time, answer)
}

fn failed(error: &'static str) -> Answer {
    Err(Error::Inner(error))
}

impl Script {
    fn new(steps: impl IntoIterator<Item = (Duration, Answer)>) -> Self {
        let script = Self::default();
        script.add(steps);
        *script.start.lock().unwrap() = Some(Instant::now());
        script
    }

    fn add(&self, steps: impl IntoIterator<Item = (Duration, Answer)>) {
        self.steps.lock().unwrap().extend(steps);
    }

    /// When the attempts were made.
    fn times(&self) -> Vec<Duration> {
        self.attempts.lock().unwrap().iter().map(|(time, _)| *time).collect()
    }

    fn requests(&self) -> Vec<Request> {
        self.attempts.lock().unwrap().iter().map(|(_, request)| *request).collect()
    }

    fn alive(&self) -> usize {
        // One is held by each instance of the script itself, and those are not counted here.
        Arc::weak_count(&self.alive)
    }
}

impl Service<Request> for Script {
    type Response = &'static str;
    type Error = Error<&'static str>;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send + Sync>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let start = self.start.lock().unwrap().unwrap();
        self.attempts.lock().unwrap().push((start.elapsed(), request));
        let (time, answer) = self.steps.lock().unwrap().pop_front().expect("one attempt too many");
        let alive = Arc::downgrade(&self.alive);
        Box::pin(async move {
            let _alive = alive;
            if !time.is_zero() {
                sleep(time).await;
            }
            answer
        })
    }
}

/// A request that carries everything.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Request {
    writes: bool,
    once: bool,
    deadline: Option<Deadline>,
    attempt: Option<Attempt>,
}

#[derive(Clone, Copy, Debug)]
struct Protocol;

impl Carry<Request> for Protocol {
    fn deadline(&self, request: &Request) -> Option<Deadline> {
        request.deadline
    }

    fn attempt(&self, request: &Request) -> Option<Attempt> {
        request.attempt
    }

    fn set_attempt(&self, request: &mut Request, attempt: Attempt) {
        request.attempt = Some(attempt);
    }

    fn is_idempotent(&self, request: &Request) -> bool {
        !request.writes
    }
}

impl Replay<Request> for Protocol {
    type Request = Request;
    type Kept = Request;

    fn keep(&self, request: Request, is_wanted: bool) -> (Request, Option<Request>) {
        (request, (is_wanted && !request.once).then_some(request))
    }

    fn again(&self, kept: &mut Request) -> Option<Request> {
        Some(*kept)
    }
}

/// `Ok("503")` is a failure, and errors say what they want.
impl Judge<&'static str, Error<&'static str>> for Protocol {
    fn judge(&self, result: Result<&&'static str, &Error<&'static str>>) -> Judgement {
        match result {
            Ok(&"503") => Judgement::failed(),
            Ok(_) => Judgement::good(),
            Err(Error::Inner("not found")) => stanchion::classify::Class::Ignored.into(),
            Err(Error::Inner("fatal")) => Judgement::failed().never(),
            Err(Error::Inner("stop")) => Judgement::failed().hint(Hint::Stop),
            Err(Error::Inner("later")) => Judgement::failed().hint(Hint::AtLeast(4 * DELAY)),
            Err(_) => Judgement::failed(),
        }
    }
}

fn config() -> HedgeConfig {
    HedgeConfig::new().delay(HedgeDelay::Fixed(DELAY))
}

fn layer() -> HedgeLayer<Protocol> {
    with(config())
}

fn with(config: HedgeConfig) -> HedgeLayer<Protocol> {
    HedgeLayer::new(config).over(Protocol)
}

/// The answer, and after how long it came.
async fn call<S>(service: &mut S, request: Request) -> (Answer, Duration)
where
    S: Service<Request, Response = &'static str, Error = Error<&'static str>>,
{
    let start = Instant::now();
    let answer = service.ready().await.unwrap().call(request).await;
    (answer, start.elapsed())
}

/// Of a new layer around what answers so.
async fn hedged(
    layer: &HedgeLayer<Protocol>,
    steps: impl IntoIterator<Item = (Duration, Answer)>,
) -> (Answer, Duration, Vec<Duration>) {
    let script = Script::new(steps);
    let (answer, time) = call(&mut layer.layer(script.clone()), Request::default()).await;
    assert_eq!(script.alive(), 0, "an attempt outlives the answer");
    (answer, time, script.times())
}

const SOME: Duration = Duration::from_millis(20);
const NOW: Duration = Duration::ZERO;

// When a copy is sent.

#[tokio::test(start_paused = true)]
async fn a_call_that_is_answered_in_time_is_not_hedged() {
    assert_eq!(hedged(&layer(), [after(DELAY - MS, Ok("a"))]).await, (Ok("a"), DELAY - MS, vec![NOW]));
}

#[tokio::test(start_paused = true)]
async fn a_late_call_is_hedged_and_the_first_good_answer_wins() {
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
async fn a_failure_with_others_under_way_does_not_hasten_the_next_copy() {
    let steps = [after(LONG, Ok("good")), after(SOME, failed("b")), after(LONG, Ok("good"))];
    let answered = hedged(&with(config().max_hedges(2)), steps).await;
    assert_eq!(answered, (Ok("good"), LONG, vec![NOW, DELAY, 2 * DELAY]));
}

#[tokio::test(start_paused = true)]
async fn when_all_have_failed_the_first_error_is_handed_out() {
    let steps = [after(DELAY + SOME, failed("original")), after(LONG, failed("hedge"))];
    assert_eq!(hedged(&layer(), steps).await, (failed("original"), DELAY + LONG, vec![NOW, DELAY]));
    let steps = [after(LONG, failed("original")), after(SOME, failed("hedge"))];
    assert_eq!(hedged(&layer(), steps).await, (failed("hedge"), LONG, vec![NOW, DELAY]));
    let steps = [after(LONG, failed("original")), after(SOME, Ok("503"))];
    assert_eq!(hedged(&layer(), steps).await, (failed("original"), LONG, vec![NOW, DELAY]));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_a_failure_is_handed_out_if_it_came_last() {
    let steps = [after(SOME, Ok("503")), after(SOME, Ok("503"))];
    assert_eq!(hedged(&layer(), steps).await, (Ok("503"), 2 * SOME, vec![NOW, SOME]));
    let steps = [after(SOME, Ok("503")), after(SOME, failed("hedge"))];
    assert_eq!(hedged(&layer(), steps).await, (failed("hedge"), 2 * SOME, vec![NOW, SOME]));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_an_answer_wins() {
    let steps = [after(LONG, Ok("good")), after(SOME, failed("not found"))];
    assert_eq!(hedged(&layer(), steps).await, (failed("not found"), DELAY + SOME, vec![NOW, DELAY]));
    let steps = [after(SOME, failed("not found"))];
    assert_eq!(hedged(&layer(), steps).await, (failed("not found"), SOME, vec![NOW]));
}

#[tokio::test(start_paused = true)]
async fn what_would_fail_again_is_not_hedged() {
    assert_eq!(hedged(&layer(), [after(SOME, failed("fatal"))]).await, (failed("fatal"), SOME, vec![NOW]));
    let steps = [after(LONG, Ok("good")), after(SOME, failed("fatal"))];
    let answered = hedged(&with(config().max_hedges(2)), steps).await;
    assert_eq!(answered, (Ok("good"), LONG, vec![NOW, DELAY]));
}

// What the server says.

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_no_more_gets_no_more() {
    assert_eq!(hedged(&layer(), [after(SOME, failed("stop"))]).await, (failed("stop"), SOME, vec![NOW]));
    let steps = [after(LONG, Ok("good")), after(SOME, failed("stop"))];
    let answered = hedged(&with(config().max_hedges(2)), steps).await;
    assert_eq!(answered, (Ok("good"), LONG, vec![NOW, DELAY]));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_to_be_left_alone_is_left_alone_for_so_long() {
    let steps = [after(LONG, Ok("good")), after(SOME, failed("later")), after(LONG, Ok("good"))];
    let answered = hedged(&with(config().max_hedges(2)), steps).await;
    assert_eq!(answered, (Ok("good"), LONG, vec![NOW, DELAY, DELAY + SOME + 4 * DELAY]));
    let answered = hedged(&layer(), [after(SOME, failed("later"))]).await;
    assert_eq!(answered, (failed("later"), SOME, vec![NOW]), "waits with nothing under way");
}

// What may be hedged.

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

fn copy(number: u32, hedge: u32) -> Attempt {
    let mut attempt = Attempt::default();
    attempt.number = number;
    attempt.hedge = hedge;
    attempt
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

// The budget.

fn tokens(tokens: f64) -> Budget {
    Budget::new(BudgetConfig::new().ratio(0.0).per_second(0.0).cap(tokens).timeout_cost(1.0))
}

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
async fn budget_spent_leaves_hedges_under_way_alone() {
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
        // The ten at first, and a twentieth of the calls, but the first, for which there was no room.
        assert_eq!(script.times().len(), 2_000 + 109);
    }
}

#[tokio::test(start_paused = true)]
async fn one_budget_for_retries_and_hedges_bounds_both_together() {
    let budget = Budget::new(BudgetConfig::new().ratio(0.05).per_second(0.0));
    let script = Script::new([]);
    let retry = RetryLayer::new(RetryConfig::new()).over(Protocol).budget(budget.clone());
    let mut service = retry.layer(layer().budget(budget).layer(script.clone()));
    let calls = 2_000_usize;
    for _ in 0..calls {
        script.steps.lock().unwrap().clear();
        script.add([(); 10].map(|()| after(2 * DELAY, failed("down"))));
        let _ = call(&mut service, Request::default()).await;
    }
    let extra = script.times().len() - calls;
    // Each of the two pays a twentieth in for each call.
    assert!((calls / 10..=calls / 10 + 10).contains(&extra), "{extra}");
}

// The quantile.

fn quantile(quantile: f64) -> HedgeConfig {
    HedgeConfig::new().delay(HedgeDelay::quantile(quantile))
}

/// Makes as many calls, whose originals take so long, and all copies the same.
async fn calls(service: &mut Hedged, script: &Script, number: u32, original: Duration, copy: Duration) {
    for _ in 0..number {
        script.steps.lock().unwrap().clear();
        script.add([after(original, Ok("a")), after(copy, Ok("b"))]);
        call(service, Request::default()).await.0.unwrap();
    }
}

type Hedged = stanchion::Hedge<Script, Protocol>;

#[tokio::test(start_paused = true)]
async fn nothing_is_hedged_until_the_quantile_is_known() {
    let layer = with(quantile(0.95).min_samples(20));
    let script = Script::new([]);
    let mut service = layer.layer(script.clone());
    calls(&mut service, &script, 19, SOME, MS).await;
    assert_eq!(layer.handle().delay(), None);
    script.steps.lock().unwrap().clear();
    script.add([after(LONG, failed("original"))]);
    assert_eq!(call(&mut service, Request::default()).await.0, failed("original"));
    assert_eq!(layer.handle().delay(), None, "an original that failed says nothing");
    calls(&mut service, &script, 1, SOME, MS).await;
    advance(4 * 1_000 * MS).await;
    let delay = layer.handle().delay().unwrap();
    assert!((SOME..SOME + MS).contains(&delay), "{delay:?}");
    assert_eq!(script.times().len(), 21);
    calls(&mut service, &script, 1, LONG, MS).await;
    assert_eq!(script.times().len(), 23);
}

#[tokio::test(start_paused = true)]
async fn the_delay_is_not_below_the_minimum_and_nothing_is_hedged_from_the_maximum_on() {
    for (latency, expected) in [(MS, Some(10 * MS)), (20 * MS, Some(20 * MS)), (99 * MS, None)] {
        let delay = HedgeDelay::Quantile { quantile: 0.5, min: 10 * MS, max: 99 * MS };
        let layer = with(HedgeConfig::new().delay(delay).min_samples(1));
        let script = Script::new([]);
        let mut service = layer.layer(script.clone());
        calls(&mut service, &script, 10, latency, MS).await;
        advance(4 * 1_000 * MS).await;
        let delay = layer.handle().delay();
        assert_eq!(delay.is_some(), expected.is_some());
        assert!(delay.unwrap_or_default().abs_diff(expected.unwrap_or_default()) <= MS, "{delay:?}");
        let before = script.times().len();
        calls(&mut service, &script, 1, LONG, MS).await;
        assert_eq!(script.times().len() - before, 1 + usize::from(expected.is_some()));
    }
}

/// Nine calls of ten are fast. If the slow ones did not count, for having lost to their copies, or for having been given
/// up, the quantile would become that of the fast calls.
#[tokio::test(start_paused = true)]
async fn superseded_originals_count() {
    let layer = with(quantile(0.8).window(LONG).min_samples(10)).budget(Budget::unlimited());
    let script = Script::new([]);
    let mut service = layer.layer(script.clone());
    for _ in 0..300 {
        calls(&mut service, &script, 6, 10 * MS, MS).await;
        calls(&mut service, &script, 4, 100 * MS, 30 * MS).await;
    }
    let delay = layer.handle().delay().unwrap();
    assert!(delay > 30 * MS, "the slow calls, 40 of 100, are not among the slowest 20 any more: {delay:?}");
    let hedged = script.times().len() - 3_000;
    assert!(hedged < 1_300, "{hedged}");
}

#[tokio::test(start_paused = true)]
async fn late_calls_that_are_given_up_count() {
    let layer = with(quantile(0.8).window(LONG).min_samples(10).max_hedges(1)).budget(tokens(1.0));
    let script = Script::new([]);
    let mut service = layer.layer(script.clone());
    calls(&mut service, &script, 20, 10 * MS, MS).await;
    advance(1_000 * MS).await;
    assert!(layer.handle().delay().unwrap() < 12 * MS);
    for _ in 0..100 {
        calls(&mut service, &script, 6, 10 * MS, MS).await;
        for given_up in [2 * MS, 50 * MS, 50 * MS, 50 * MS, 50 * MS] {
            script.steps.lock().unwrap().clear();
            script.add([after(LONG, Ok("a")), after(LONG, Ok("b"))]);
            assert!(timeout(given_up, call(&mut service, Request::default())).await.is_err());
        }
    }
    let delay = layer.handle().delay().unwrap();
    assert!((50 * MS..55 * MS).contains(&delay), "{delay:?}");
}

#[tokio::test(start_paused = true)]
async fn the_configuration_changes_for_calls_that_begin_later() {
    let layer = layer();
    let handle = layer.handle();
    let script = Script::new([LONG, LONG, SOME].map(|time| after(time, Ok("a"))));
    let mut service = layer.layer(script.clone());
    let mut first = task::spawn(service.call(Request::default()));
    assert_pending!(first.poll());
    handle.reconfigure(config().max_hedges(0)).unwrap();
    assert_eq!(handle.config(), config().max_hedges(0));
    let mut second = task::spawn(service.call(Request::default()));
    assert_pending!(second.poll());
    advance(DELAY).await;
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_eq!(script.times(), [NOW, NOW, DELAY]);
    assert_eq!(handle.reconfigure(config().max_hedges(11)).unwrap_err().field(), "max_hedges");
    assert_eq!(handle.config(), config().max_hedges(0));
}

#[tokio::test(start_paused = true)]
async fn the_latencies_stay_when_the_quantile_does() {
    let layer = with(quantile(0.9).min_samples(10));
    let handle = layer.handle();
    let script = Script::new([]);
    calls(&mut layer.layer(script.clone()), &script, 10, SOME, MS).await;
    advance(4 * 1_000 * MS).await;
    handle.reconfigure(quantile(0.9).min_samples(10).max_hedges(2)).unwrap();
    assert!(handle.delay().is_some());
    handle.reconfigure(quantile(0.8).min_samples(10)).unwrap();
    assert_eq!(handle.delay(), None);
    handle.reconfigure(config()).unwrap();
    assert_eq!(handle.delay(), Some(DELAY));
}

#[test]
fn what_cannot_be_configured_is_refused_and_said_so() {
    let range = |min, max| HedgeDelay::Quantile { quantile: 0.5, min, max };
    let bad = [
        (quantile(0.0), "quantile"),
        (quantile(1.0), "quantile"),
        (quantile(-1.0), "quantile"),
        (quantile(95.0), "quantile"),
        (quantile(f64::NAN), "quantile"),
        (quantile(f64::INFINITY), "quantile"),
        (config().delay(range(MS, MS)), "max"),
        (config().delay(range(Duration::MAX, MS)), "max"),
        (config().window(29 * MS), "window"),
        (config().max_hedges(11), "max_hedges"),
    ];
    for (config, field) in bad {
        let error = HedgeLayer::try_new(config.clone()).unwrap_err();
        assert_eq!(error.field(), field);
        assert_eq!(layer().handle().reconfigure(config).unwrap_err(), error);
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_can_be_configured_works() {
    let most = Duration::MAX;
    for delay in [
        HedgeDelay::Quantile { quantile: 1e-300, min: Duration::ZERO, max: most },
        HedgeDelay::Quantile {
            quantile: 1.0 - f64::EPSILON,
            min: Duration::ZERO,
            max: Duration::from_nanos(1),
        },
        HedgeDelay::Fixed(most),
        HedgeDelay::Fixed(Duration::from_nanos(1)),
    ] {
        for (window, min_samples) in [(30 * MS, 0), (most, u32::MAX), (most, 1)] {
            let config = HedgeConfig::new().delay(delay).window(window).min_samples(min_samples);
            for config in [
                config.clone().max_hedges(10),
                config.clone().min_remaining(most).ready_within(most),
                config.ready_within(Duration::ZERO),
            ] {
                let layer = HedgeLayer::try_new(config).unwrap().over(Protocol);
                let script = Script::new([]);
                let mut service = layer.layer(script.clone());
                for _ in 0..4 {
                    script.add([LONG; 11].map(|time| after(time, Ok("a"))));
                    assert_eq!(call(&mut service, Request::default()).await, (Ok("a"), LONG));
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "invalid `max_hedges`: 11 given, allowed: 0 to 10")]
async fn a_mistake_in_the_source_panics() {
    let _ = HedgeLayer::new(config().max_hedges(11));
}

// Readiness, and what stands around.

#[tokio::test(start_paused = true)]
async fn a_copy_waits_for_the_service_only_so_long_and_the_original_goes_on() {
    let budget = tokens(5.0);
    let layer = with(config().max_hedges(3).ready_within(SOME)).budget(budget.clone());
    let script = Script::new([after(LONG, Ok("a"))]);
    let mut service = layer.layer(ConcurrencyLimit::new(script.clone(), 1));
    assert_eq!(call(&mut service, Request::default()).await, (Ok("a"), LONG));
    assert_eq!((script.times(), budget.balance()), (vec![NOW], 5.0));

    let script = Script::new([after(LONG, Ok("a")), after(SOME, failed("a"))]);
    let (mut one, mut other) = {
        let limit = ConcurrencyLimit::new(script.clone(), 2);
        (layer.layer(limit.clone()), limit)
    };
    let place = other.ready().await.unwrap().clone();
    drop(place);
    let mut call = task::spawn(one.ready().await.unwrap().call(Request::default()));
    assert_pending!(call.poll());
    advance(DELAY + SOME / 2).await;
    assert_pending!(call.poll());
    assert_eq!(script.times(), [NOW]);
    // The place that the other had is free in time.
    drop(other);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_eq!(script.times(), [NOW, DELAY + SOME / 2]);
    assert_eq!(budget.balance(), 4.0);
}

#[tokio::test(start_paused = true)]
async fn a_copy_does_not_wait_for_the_service_beyond_the_deadline() {
    let script = Script::new([after(LONG, failed("late")), after(MS, Ok("b"))]);
    let mut limit = ConcurrencyLimit::new(script.clone(), 2);
    let mut service = with(config().ready_within(LONG).min_remaining(SOME)).layer(limit.clone());
    limit.ready().await.unwrap();
    let deadline = Some(Deadline::after(DELAY + 2 * SOME));
    let mut call =
        task::spawn(service.ready().await.unwrap().call(Request { deadline, ..Request::default() }));
    assert_pending!(call.poll());
    advance(DELAY).await;
    assert_pending!(call.poll());
    advance(SOME + MS).await;
    assert_pending!(call.poll());
    drop(limit);
    assert_pending!(call.poll());
    assert_eq!(script.times(), [NOW], "a copy was sent too late");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_not_sent_takes_no_place_in_the_service() {
    let script = Script::new([after(LONG, Ok("a"))]);
    let limit = ConcurrencyLimit::new(script.clone(), 2);
    let mut other = limit.clone();
    let spent = tokens(1.0);
    assert!(spent.withdraw());
    let mut service = layer().budget(spent).layer(limit);
    let mut call = task::spawn(service.ready().await.unwrap().call(Request::default()));
    assert_pending!(call.poll());
    advance(DELAY).await;
    assert_pending!(call.poll());
    assert_ready!(task::spawn(()).enter(|cx, _| Service::<Request>::poll_ready(&mut other, cx))).unwrap();
}

#[tokio::test(start_paused = true)]
async fn losers_are_dropped_before_the_winner_is_returned() {
    for (original, copy) in [(LONG, SOME), (DELAY + SOME, LONG)] {
        let script = Script::new([after(original, Ok("a")), after(copy, Ok("b")), after(LONG, Ok("c"))]);
        let mut service = with(config().max_hedges(2)).layer(script.clone());
        let mut call = task::spawn(service.call(Request::default()));
        assert_pending!(call.poll());
        advance(DELAY).await;
        assert_pending!(call.poll());
        advance(SOME).await;
        assert_eq!(script.alive(), 2);
        let _winner = assert_ready!(call.poll());
        assert_eq!(script.alive(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_drops_all_attempts_and_makes_no_more() {
    for waited in [NOW, DELAY, 2 * DELAY] {
        let script = Script::new([LONG; 3].map(|time| after(time, Ok("a"))));
        let mut service = with(config().max_hedges(2)).layer(script.clone());
        let mut call = task::spawn(service.call(Request::default()));
        assert_pending!(call.poll());
        advance(waited).await;
        assert_pending!(call.poll());
        drop(call);
        assert_eq!(script.alive(), 0);
        let made = script.times().len();
        advance(LONG).await;
        assert_eq!(script.times().len(), made);
    }
}

/// A circuit breaker around one instance of a script, and what its state is.
fn circuit() -> CircuitBreakerLayer {
    let config = CircuitBreakerConfig::new().without_failure_ratio().consecutive_failures(1).open_for(LONG);
    CircuitBreakerLayer::new(config)
}

#[tokio::test(start_paused = true)]
async fn a_refused_original_is_handed_out_at_once() {
    let budget = tokens(5.0);
    let circuit = circuit();
    circuit.handle().trip();
    let mut service = layer().budget(budget.clone()).layer(circuit.layer(Script::new([])));
    let (answer, time) = call(&mut service, Request::default()).await;
    assert!(answer.unwrap_err().rejected().is_some());
    assert_eq!((time, budget.balance()), (NOW, 5.0));
}

#[tokio::test(start_paused = true)]
async fn a_refused_hedge_never_wins_and_is_the_last() {
    for (original, expected) in [(Ok("good"), Ok("good")), (failed("slow"), failed("slow"))] {
        let circuit = circuit();
        let script = Script::new([after(LONG, original)]);
        let mut service = with(config().max_hedges(3)).layer(circuit.layer(script.clone()));
        let mut call = task::spawn(service.call(Request::default()));
        assert_pending!(call.poll());
        circuit.handle().trip();
        advance(DELAY).await;
        assert_pending!(call.poll());
        assert_eq!(call.await, expected);
        assert_eq!(script.times(), [NOW]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_beats_a_refusal_that_follows_it() {
    let circuit = circuit();
    let script = Script::new([after(SOME, failed("original"))]);
    let mut service = layer().layer(circuit.layer(script.clone()));
    // The failure opens the circuit, so that the copy is refused.
    assert_eq!(call(&mut service, Request::default()).await, (failed("original"), SOME));
}

/// What comes out of the hedge is to a layer further out what it was further in, whatever was seen in between.
#[tokio::test(start_paused = true)]
async fn a_refused_copy_does_not_make_a_refusal_of_a_failure() {
    for failure in [Ok("503"), failed("slow")] {
        let circuit = circuit();
        let script = Script::new([after(LONG, failure), after(SOME, Ok("good"))]);
        let retry = RetryLayer::new(RetryConfig::new().max_attempts(2)).over(Protocol);
        let mut service = retry.layer(layer().layer(circuit.layer(script.clone())));
        let mut call = task::spawn(service.call(Request::default()));
        assert_pending!(call.poll());
        circuit.handle().trip();
        advance(DELAY).await;
        assert_pending!(call.poll());
        circuit.handle().close();
        circuit.handle().disable();
        assert_eq!(call.await, Ok("good"), "not retried");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outer_breaker_counts_one_failure_of_a_call_and_no_refusal_of_a_copy() {
    let inner = circuit();
    let outer =
        CircuitBreakerLayer::new(CircuitBreakerConfig::new().without_failure_ratio().consecutive_failures(2));
    let script = Script::new([after(DELAY + SOME, failed("a")), after(DELAY, failed("b"))]);
    let mut service = outer.layer(layer().layer(script));
    let _ = call(&mut service, Request::default()).await;
    assert!(outer.handle().try_acquire().is_ok(), "two failures of one call");
    inner.handle().trip();
    let mut service = outer.layer(layer().layer(inner.layer(Script::new([]))));
    let _ = call(&mut service, Request::default()).await;
    assert_eq!(outer.handle().state(), stanchion::circuit_breaker::State::Closed);
}

#[tokio::test(start_paused = true)]
async fn services_of_one_layer_share_latencies_and_budget_and_two_layers_do_not() {
    let layer = with(quantile(0.9).min_samples(1));
    let script = Script::new([]);
    calls(&mut layer.clone().layer(script.clone()), &script, 1, SOME, MS).await;
    advance(4 * 1_000 * MS).await;
    assert!(layer.handle().delay().is_some());
    calls(&mut layer.layer(script.clone()).clone(), &script, 1, LONG, MS).await;
    assert_eq!(layer.handle().budget().balance(), 9.1 - 0.1);
    let named = layer.clone().name("other");
    assert_eq!(named.handle().delay(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_called_may_borrow_and_stay_on_its_thread() {
    #[derive(Clone)]
    struct Trim<'a>(std::rc::Rc<std::cell::Cell<u32>>, &'a str);

    impl<'a> Service<&'a str> for Trim<'_> {
        type Response = &'a str;
        type Error = std::rc::Rc<str>;
        type Future = Pin<Box<dyn Future<Output = Result<&'a str, std::rc::Rc<str>>> + 'a>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: &'a str) -> Self::Future {
            self.0.set(self.0.get() + 1);
            let (calls, mark) = (std::rc::Rc::clone(&self.0), self.1.len());
            Box::pin(async move {
                if calls.get() == 1 {
                    sleep(LONG).await;
                }
                Ok(request.get(mark..).unwrap())
            })
        }
    }

    let (mark, text) = (String::from("> "), String::from("> short-lived"));
    let service = HedgeLayer::new(config()).layer(Trim(std::rc::Rc::default(), &mark));
    assert_eq!(service.oneshot(text.as_str()).await, Ok("short-lived"));
}

// What is told.

/// What observers hear, one word or line for each event.
fn heard(layer: HedgeLayer<Protocol>) -> (HedgeLayer<Protocol>, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(vec![]));
    let lines = Arc::clone(&heard);
    let layer = layer.name("inventory").observer(move |source: &Source, event: &Event<'_>| {
        assert_eq!((source.module, source.name), ("hedge", "inventory"));
        lines.lock().unwrap().push(match event {
            Event::Attempt { number, outcome } => format!("{number} {}", outcome.as_str()),
            Event::Action { action, attempt, .. } => format!("{} {attempt}", action.as_str()),
            Event::Budget { share } => format!("budget {share}"),
            other => panic!("{other:?}"),
        });
    });
    (layer, heard)
}

async fn told(
    layer: HedgeLayer<Protocol>,
    request: Request,
    steps: impl IntoIterator<Item = (Duration, Answer)>,
) -> Vec<String> {
    let (layer, heard) = heard(layer.budget(tokens(2.0)));
    let _ = call(&mut layer.layer(Script::new(steps)), request).await;
    std::mem::take(&mut *heard.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn observers_hear_who_won_and_who_lost() {
    let late = || [after(LONG, Ok("a")), after(SOME, Ok("b"))];
    let plain = Request::default;
    assert_eq!(told(layer(), plain(), [after(SOME, Ok("a"))]).await, ["1 success"]);
    assert_eq!(
        told(layer(), plain(), late()).await,
        ["budget 0.5", "hedged 1", "2 success", "1 cancelled", "hedge_won 2"]
    );
    assert_eq!(
        told(layer(), plain(), [after(DELAY + SOME, Ok("a")), after(LONG, Ok("b"))]).await,
        ["budget 0.5", "hedged 1", "1 success", "2 cancelled", "original_won 1"]
    );
    assert_eq!(
        told(layer(), plain(), [after(SOME, failed("a")), after(SOME, Ok("b"))]).await,
        ["1 failure", "budget 0.5", "hedged 1", "2 success", "hedge_won 2"]
    );
    assert_eq!(
        told(layer(), plain(), [after(LONG, failed("not found")), after(SOME, failed("b"))]).await,
        ["budget 0.5", "hedged 1", "2 failure", "1 ignored"]
    );
    let two = with(config().max_hedges(2));
    assert_eq!(
        told(two, plain(), [LONG; 3].map(|time| after(time, Ok("a")))).await,
        [
            "budget 0.5",
            "hedged 1",
            "budget 0",
            "hedged 2",
            "1 success",
            "2 cancelled",
            "3 cancelled",
            "original_won 1"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn observers_hear_what_keeps_a_copy_that_is_due_from_being_sent() {
    let late = || [after(LONG, Ok("a"))];
    let request = Request::default;
    let writes = || Request { writes: true, ..request() };
    assert_eq!(told(layer(), writes(), late()).await, ["not_idempotent 1", "1 success"]);
    assert_eq!(told(layer(), writes(), [after(SOME, Ok("a"))]).await, ["1 success"], "none was due");
    let once = Request { once: true, ..request() };
    assert_eq!(told(layer(), once, late()).await, ["not_replayable 1", "1 success"]);
    let deadline = Some(Deadline::after(DELAY));
    assert_eq!(told(layer(), Request { deadline, ..request() }, late()).await, ["no_time 1", "1 success"]);
    let stop = [after(SOME, failed("stop"))];
    assert_eq!(told(layer(), request(), stop).await, ["1 failure", "pushed_back 1"]);
    let spent =
        told(with(config().max_hedges(5)), request(), [LONG; 3].map(|time| after(time, Ok("a")))).await;
    assert_eq!(spent[4..6], ["budget 0", "budget_spent 3"]);

    let (layer, heard) = heard(with(config().ready_within(SOME)));
    let mut service = layer.layer(ConcurrencyLimit::new(Script::new(late()), 1));
    call(&mut service, request()).await.0.unwrap();
    assert_eq!(*heard.lock().unwrap(), ["not_ready 1", "1 success"]);
}
