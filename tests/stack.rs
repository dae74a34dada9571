//! All layers together around real clients, over real sockets; what counts is what reached the server.
//!
//! Where a test needs time to pass it moves a clock that stands still otherwise, so nothing here is too slow or too
//! fast on a machine that has other things to do.

#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "a test moves the clock, and callers are tasks")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/client.rs"]
mod client;
#[allow(dead_code, reason = "it serves other tests as well")]
#[path = "support/server.rs"]
mod server;

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use stanchion::circuit_breaker::State;
use stanchion::hedge::HedgeDelay;
use stanchion::http::Idempotent;
use stanchion::telemetry::Action;
use stanchion::timeout::Limit;
use stanchion::{Backoff, CircuitBreakerConfig, HedgeConfig, Reason, Rejected, RetryConfig};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, task};
use tower::BoxError;

use client::{Answer, Bottom, Outgoing, Setup, Stack, budget, by_hyper, by_reqwest};
use server::{Down, Mode, Received, Server, frame};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const BOTTOMS: [fn() -> Bottom; 2] = [by_hyper, by_reqwest];

/// Keeps a paused clock from going on when there is nothing to do but to wait for sockets, as long as this lives.
struct Held {
    _until: mpsc::Sender<()>,
}

impl Held {
    fn still() -> Self {
        let (until, held) = mpsc::channel();
        // Tokio lets the clock stand while such a task runs.
        spawn_blocking(move || held.recv());
        Self { _until: until }
    }
}

fn request(server: &Server, method: Method, body: &'static str) -> Outgoing {
    let request = Request::builder().method(method).uri(format!("http://{}/orders", server.address()));
    request.body(Full::new(Bytes::from(body))).unwrap()
}

fn get(server: &Server) -> Outgoing {
    request(server, Method::GET, "")
}

fn post(server: &Server) -> Outgoing {
    request(server, Method::POST, "one cup")
}

fn start(stack: &Stack, request: Outgoing) -> JoinHandle<Result<(u16, Bytes), BoxError>> {
    let stack = stack.clone();
    tokio::spawn(async move { stack.call(request).await })
}

fn reason(error: &BoxError) -> Reason {
    Rejected::find(&**error).unwrap_or_else(|| panic!("{error:?} is no rejection")).reason()
}

/// The times between the requests that have arrived.
fn gaps(received: &[Received]) -> Vec<Duration> {
    received.iter().zip(received.iter().skip(1)).map(|(before, after)| after.at - before.at).collect()
}

#[tokio::test(start_paused = true)]
async fn another_attempt_is_made_no_sooner_than_the_server_allows() {
    let _held = Held::still();
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Healthy);
        server.plan(|request| if request == 0 { Mode::Asks(2) } else { Mode::Healthy });
        let stack = Stack::new(Setup::default(), bottom());
        let call = start(&stack, get(&server));
        stack.has_retried(1).await;
        advance(2 * SECOND - MILLI).await;
        assert_eq!((server.connections().await, server.requests()), (1, 1), "too early");
        advance(MILLI).await;
        assert_eq!(call.await.unwrap().unwrap(), (200, "hello".into()));
        assert!(gaps(&server.received())[0] >= 2 * SECOND);
    }
}

/// The same without a hand on the clock.
#[tokio::test]
async fn a_server_that_asks_for_a_second_has_it() {
    let mut calls = JoinSet::new();
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Healthy);
        server.plan(|request| if request == 0 { Mode::Asks(1) } else { Mode::Healthy });
        let stack = Stack::new(Setup::default(), bottom());
        calls.spawn(async move {
            assert_eq!(stack.call(get(&server)).await.unwrap(), (200, "hello".into()));
            gaps(&server.received())
        });
    }
    while let Some(gaps) = calls.join_next().await {
        assert!(gaps.unwrap()[0] >= SECOND);
    }
}

#[tokio::test]
async fn a_server_that_asks_for_more_patience_than_there_is_gets_no_other_attempt() {
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Asks(31));
        let stack = Stack::new(Setup::default(), bottom());
        assert_eq!(stack.call(get(&server)).await.unwrap(), (503, "hello".into()));
        assert_eq!((server.requests(), stack.actions()), (1, vec![Action::PushedBack]));
    }
}

#[tokio::test]
async fn retries_are_a_share_of_the_calls_however_much_fails() {
    const CALLS: usize = 200;
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Unavailable);
        let setup = Setup { budget: budget(0.05, 5.0), ..Setup::default() };
        let stack = Stack::new(setup, bottom());
        let mut calls = JoinSet::new();
        for _ in 0..CALLS {
            let (stack, request) = (stack.clone(), get(&server));
            calls.spawn(async move { stack.call(request).await.unwrap().0 });
            if calls.len() >= 8 {
                assert_eq!(calls.join_next().await.unwrap().unwrap(), 503);
            }
        }
        while let Some(status) = calls.join_next().await {
            assert_eq!(status.unwrap(), 503);
        }
        let retries = server.requests() - CALLS;
        assert!(retries <= CALLS / 10 + 5, "{retries} retries");
        assert!(retries >= CALLS / 10, "{retries} retries");
    }
}

#[tokio::test]
async fn one_lost_answer_in_fifty_is_made_up_for() {
    const CALLS: usize = 100;
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Healthy);
        server.plan(|request| if request % 50 == 49 { Mode::Breaks } else { Mode::Healthy });
        let stack = Stack::new(Setup { budget: budget(0.05, 5.0), ..Setup::default() }, bottom());
        for _ in 0..CALLS {
            assert_eq!(stack.call(get(&server)).await.unwrap(), (200, "hello".into()));
        }
        assert_eq!(server.requests(), CALLS + 2);
    }
}

#[tokio::test(start_paused = true)]
async fn one_late_answer_in_fifty_is_overtaken_by_that_to_a_copy() {
    const CALLS: usize = 100;
    let _held = Held::still();
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Healthy);
        server.plan(|request| if request % 50 == 49 { Mode::Held } else { Mode::Healthy });
        let hedge = HedgeConfig::new().delay(HedgeDelay::Fixed(20 * MILLI));
        let stack = Stack::new(Setup { hedge, budget: budget(0.05, 5.0), ..Setup::default() }, bottom());
        let mut requests = 0;
        for _ in 0..CALLS {
            let call = start(&stack, get(&server));
            requests += 1;
            server.has_requests(requests).await;
            if requests % 50 == 0 {
                advance(20 * MILLI).await;
                requests += 1;
            }
            assert_eq!(call.await.unwrap().unwrap(), (200, "hello".into()));
        }
        assert_eq!((requests, server.requests()), (CALLS + 2, CALLS + 2));
        assert_eq!(stack.actions(), [Action::Hedged, Action::HedgeWon].repeat(2));
        // What was overtaken is not waited for, and counts as nothing.
        server.has_open(1).await;
        assert_eq!(stack.breaker.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_without_a_key_has_no_copy() {
    let _held = Held::still();
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Held);
        let hedge = HedgeConfig::new().delay(HedgeDelay::Fixed(20 * MILLI));
        let stack = Stack::new(Setup { hedge, ..Setup::default() }, bottom());
        let call = start(&stack, post(&server));
        server.has_requests(1).await;
        advance(SECOND).await;
        assert_eq!((server.connections().await, server.requests()), (1, 1));
        server.let_go();
        assert_eq!(call.await.unwrap().unwrap(), (200, "hello".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_reaches_the_server_while_the_circuit_is_open() {
    let _held = Held::still();
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Unavailable);
        let breaker =
            CircuitBreakerConfig::new().consecutive_failures(5).open_for(5 * SECOND).open_jitter(0.0);
        let stack = Stack::new(Setup { breaker, ..Setup::default() }, bottom());
        // Three attempts, and two: each of them counts.
        assert_eq!(stack.call(get(&server)).await.unwrap().0, 503);
        assert_eq!(reason(&stack.call(get(&server)).await.unwrap_err()), Reason::CircuitOpen);
        assert_eq!((stack.breaker.state(), server.requests()), (State::Open, 5));
        let connections = server.connections().await;

        advance(5 * SECOND - MILLI).await;
        let mut calls = JoinSet::new();
        for _ in 0..50 {
            let (stack, request) = (stack.clone(), post(&server));
            calls.spawn(async move { stack.call(request).await });
        }
        while let Some(refused) = calls.join_next().await {
            assert_eq!(reason(&refused.unwrap().unwrap_err()), Reason::CircuitOpen);
        }
        assert_eq!((server.connections().await, server.requests()), (connections, 5));

        server.mode(Mode::Healthy);
        advance(MILLI).await;
        for _ in 0..3 {
            assert_eq!(stack.call(get(&server)).await.unwrap().0, 200);
        }
        assert_eq!(stack.breaker.state(), State::Closed);
    }
}

#[tokio::test]
async fn calls_that_are_refused_are_answered_from_somewhere_else() {
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Unavailable);
        let breaker = CircuitBreakerConfig::new().consecutive_failures(3);
        let stack = Stack::new(Setup { breaker, fallback: Some("tea"), ..Setup::default() }, bottom());
        assert_eq!(stack.call(get(&server)).await.unwrap(), (503, "hello".into()));
        for request in [get(&server), post(&server)] {
            assert_eq!(stack.call(request).await.unwrap(), (200, "tea".into()));
        }
        assert_eq!(server.requests(), 3);
    }
}

#[tokio::test]
async fn a_post_arrives_once() {
    for bottom in BOTTOMS {
        for mode in [Mode::Unavailable, Mode::Asks(0), Mode::Breaks] {
            let server = Server::start(mode);
            let stack = Stack::new(Setup::default(), bottom());
            let result = stack.call(post(&server)).await;
            assert_eq!(result.is_ok(), mode != Mode::Breaks, "{mode:?}");
            assert_eq!((server.requests(), stack.actions()), (1, vec![Action::NotIdempotent]), "{mode:?}");
            assert_eq!(server.received()[0].body, "one cup");
        }
    }
}

#[tokio::test]
async fn a_post_with_a_key_arrives_again_as_it_was() {
    for bottom in BOTTOMS {
        for mode in [Mode::Unavailable, Mode::Asks(0), Mode::Breaks] {
            let server = Server::start(Mode::Healthy);
            server.plan(move |request| if request < 2 { mode } else { Mode::Healthy });
            let stack = Stack::new(Setup::default(), bottom());
            let mut request = post(&server);
            request.headers_mut().insert("idempotency-key", "\"8e03978e\"".parse().unwrap());
            assert_eq!(stack.call(request).await.unwrap(), (200, "hello".into()), "{mode:?}");
            let received = server.received();
            assert_eq!(received.len(), 3, "{mode:?}");
            for Received { method, headers, body, .. } in &received {
                assert_eq!(
                    (method, headers, &body[..]),
                    (&Method::POST, &received[0].headers, &b"one cup"[..])
                );
                assert_eq!(headers["idempotency-key"], "\"8e03978e\"");
            }
        }
    }
}

/// Nobody was there to do anything with it.
#[tokio::test(start_paused = true)]
async fn a_post_that_was_refused_a_connection_arrives_when_the_server_is_up() {
    let _held = Held::still();
    for bottom in BOTTOMS {
        let down = Down::new();
        let retry = RetryConfig::new().backoff(Backoff::constant(SECOND));
        let stack = Stack::new(Setup { retry, ..Setup::default() }, bottom());
        let request = Request::post(format!("http://{}/", down.address()));
        let call = start(&stack, request.body(Full::new(Bytes::from("one cup"))).unwrap());
        stack.has_retried(1).await;
        let server = down.up(Mode::Healthy);
        advance(SECOND).await;
        assert_eq!(call.await.unwrap().unwrap(), (200, "hello".into()));
        assert_eq!(server.requests(), 1);
        assert_eq!(server.received()[0].body, "one cup");
    }
}

/// It is not to be trusted twice.
#[tokio::test]
async fn a_post_that_is_refused_a_connection_twice_is_given_up() {
    for bottom in BOTTOMS {
        let down = Down::new();
        let stack = Stack::new(Setup::default(), bottom());
        let request = Request::post(format!("http://{}/", down.address()));
        stack.call(request.body(Full::new(Bytes::from("one cup"))).unwrap()).await.unwrap_err();
        assert_eq!(stack.actions(), [Action::Retried, Action::NotIdempotent]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up() {
    let _held = Held::still();
    for bottom in BOTTOMS {
        let server = Server::start(Mode::StallsBodies);
        let mut setup = Setup::default();
        setup.total = setup.total.idle(SECOND);
        let stack = Stack::new(setup, bottom());
        let mut body = stack.send(get(&server)).await.unwrap().into_body();
        assert_eq!(frame(&mut body).await.unwrap().unwrap().into_data().unwrap(), "hel");
        let mut reader = task::spawn(body.frame());
        assert_pending!(reader.poll());
        advance(SECOND - MILLI).await;
        assert_pending!(reader.poll());
        advance(MILLI).await;
        let error = assert_ready!(reader.poll()).unwrap().unwrap_err();
        assert_eq!(reason(&error), Reason::IdleTimeout);
        // Long before the reader lets go of the body.
        server.has_open(0).await;
    }
}

fn limits(total: Duration, attempt: Duration) -> Setup {
    let mut setup = Setup::default();
    setup.total = setup.total.limit(Limit::Fixed(total));
    setup.attempt = setup.attempt.limit(Limit::Fixed(attempt));
    setup.retry = setup.retry.max_attempts(1_000);
    setup
}

#[tokio::test(start_paused = true)]
async fn all_attempts_share_the_time_that_the_call_has() {
    let _held = Held::still();
    for bottom in BOTTOMS {
        let server = Server::start(Mode::StallsHeads);
        let stack = Stack::new(limits(1_000 * MILLI, 300 * MILLI), bottom());
        let began = Instant::now();
        let call = start(&stack, get(&server));
        for attempt in 1..=4 {
            server.has_requests(attempt).await;
            assert!(!call.is_finished());
            advance(300 * MILLI).await;
        }
        // The fourth had 100 ms left, and both layers give up then: the limit is the outer one's.
        assert_eq!(reason(&call.await.unwrap().unwrap_err()), Reason::TotalTimeout);
        assert_eq!(server.requests(), 4);
        assert_eq!(gaps(&server.received()), [300 * MILLI; 3]);
        assert!(began.elapsed() >= SECOND);
        server.has_open(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_made_that_could_not_end_in_time() {
    let _held = Held::still();
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Asks(10));
        let stack = Stack::new(limits(10 * SECOND, SECOND), bottom());
        assert_eq!(stack.call(get(&server)).await.unwrap().0, 503);
        assert_eq!((server.requests(), stack.actions()), (1, vec![Action::NoTime]));
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_that_time_out_open_the_circuit() {
    let _held = Held::still();
    for bottom in BOTTOMS {
        let server = Server::start(Mode::StallsHeads);
        let mut setup = limits(3_600 * SECOND, SECOND);
        setup.breaker = CircuitBreakerConfig::new().consecutive_failures(3).open_for(SECOND);
        let stack = Stack::new(setup, bottom());
        let call = start(&stack, get(&server));
        for attempt in 1..=3 {
            assert_eq!(stack.breaker.state(), State::Closed);
            server.has_requests(attempt).await;
            advance(SECOND).await;
        }
        assert_eq!(reason(&call.await.unwrap().unwrap_err()), Reason::CircuitOpen);
        assert_eq!((stack.breaker.state(), server.requests()), (State::Open, 3));
        assert_eq!(stack.actions(), [Action::Retried; 3]);
        server.has_open(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_waits_for_frees_its_connection_and_says_nothing() {
    let _held = Held::still();
    for bottom in BOTTOMS {
        let server = Server::start(Mode::StallsHeads);
        let stack = Stack::new(Setup::default(), bottom());
        let calls: Vec<_> = (0..5).map(|_| start(&stack, post(&server))).collect();
        server.has_requests(5).await;
        server.has_open(5).await;
        calls.iter().for_each(JoinHandle::abort);
        server.has_open(0).await;
        assert_eq!((stack.breaker.snapshot().calls, stack.breaker.state()), (0, State::Closed));
        assert_eq!((server.requests(), stack.actions()), (5, vec![]));

        server.mode(Mode::StallsBodies);
        let answer: Answer = stack.send(get(&server)).await.unwrap();
        server.has_open(1).await;
        drop(answer);
        server.has_open(0).await;
        assert_eq!(stack.breaker.snapshot().calls, 0);
    }
}

/// A call of gRPC, as far as layers can tell.
fn rpc(server: &Server) -> Outgoing {
    let mut request = post(server);
    request.headers_mut().insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
    request.extensions_mut().insert(Idempotent(true));
    request
}

fn timeouts(received: &[Received]) -> Vec<&str> {
    received.iter().map(|request| request.header("grpc-timeout")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_server_of_grpc_is_told_what_time_is_left_and_heeded_in_when_to_call_again() {
    const UNAVAILABLE: Mode = Mode::Grpc(14, Some(500));
    let _held = Held::still();
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Healthy);
        server.plan(|request| if request < 2 { UNAVAILABLE } else { Mode::Grpc(0, None) });
        let mut setup = limits(10 * SECOND, 9 * SECOND + 250 * MILLI);
        // It would be longer than the pushback.
        setup.retry = setup.retry.backoff(Backoff::constant(SECOND));
        let stack = Stack::new(setup, bottom());
        let call = start(&stack, rpc(&server));
        for attempt in 1..=2 {
            stack.has_retried(attempt).await;
            advance(500 * MILLI - MILLI).await;
            assert_eq!((server.connections().await, server.requests()), (1, attempt), "too early");
            advance(MILLI).await;
        }
        assert_eq!(call.await.unwrap().unwrap().0, 200);
        let received = server.received();
        assert_eq!(gaps(&received), [500 * MILLI; 2]);
        assert_eq!(timeouts(&received), ["9250000u", "9250000u", "9000000u"]);
        let before = received.iter().map(|request| request.header("grpc-previous-rpc-attempts"));
        assert_eq!(before.collect::<Vec<_>>(), ["", "1", "2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_timeout_that_a_caller_sent_gets_smaller_with_each_attempt() {
    let _held = Held::still();
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Healthy);
        server.plan(|request| if request < 2 { Mode::Grpc(14, None) } else { Mode::Grpc(0, None) });
        let retry = RetryConfig::new().backoff(Backoff::constant(SECOND));
        let stack = Stack::new(Setup { retry, ..Setup::default() }, bottom());
        let mut request = rpc(&server);
        request.headers_mut().insert("grpc-timeout", "10S".parse().unwrap());
        let call = start(&stack, request);
        for attempt in 1..=2 {
            stack.has_retried(attempt).await;
            advance(SECOND).await;
        }
        assert_eq!(call.await.unwrap().unwrap().0, 200);
        assert_eq!(timeouts(&server.received()), ["10000000u", "9000000u", "8000000u"]);
    }
}

#[tokio::test]
async fn a_server_of_grpc_that_wants_no_other_call_gets_none() {
    for bottom in BOTTOMS {
        let server = Server::start(Mode::Grpc(14, Some(-1)));
        let stack = Stack::new(Setup::default(), bottom());
        assert_eq!(stack.call(rpc(&server)).await.unwrap().0, 200);
        assert_eq!((server.requests(), stack.actions()), (1, vec![Action::PushedBack]));
    }
}
