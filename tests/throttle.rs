//! Throttles through the public API, under paused time: what counts as what, and who shares it.

#![allow(clippy::disallowed_methods, reason = "a test moves the clock")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/fault.rs"]
mod fault;
#[path = "throttle/impatient.rs"]
mod impatient;

use std::future::pending;
use std::time::Duration;

use crate::fault::Fault;
use stanchion::classify::{Class, Outcome};
use stanchion::{
    CircuitBreakerConfig, CircuitBreakerLayer, Error, Reason, ThrottleConfig, ThrottleHandle, ThrottleLayer,
    TimeoutLayer,
};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready_err, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

type Failure = Error<Fault>;
type Answer = Result<u32, Failure>;

fn config() -> ThrottleConfig {
    ThrottleConfig::new()
}

/// Ends as it is asked to.
async fn answer(result: Answer) -> Answer {
    result
}

async fn call<S: Service<Req>, Req>(service: &mut S, request: Req) -> Result<S::Response, S::Error> {
    service.ready().await?.call(request).await
}

const FAILED: Answer = Err(Error::Inner(Fault("failed")));

/// So many calls, which all fail; how many of them were refused.
async fn fail<S>(service: &mut S, calls: u32) -> u64
where
    S: Service<Answer, Response = u32, Error = Failure>,
{
    let mut refused = 0;
    for _ in 0..calls {
        let error = call(service, FAILED).await.unwrap_err();
        refused += u64::from(error.rejected().is_some());
    }
    refused
}

fn counts(handle: &ThrottleHandle) -> (u64, u64, u64) {
    let snapshot = handle.snapshot();
    (snapshot.sent, snapshot.accepted, snapshot.refused)
}

#[tokio::test(start_paused = true)]
async fn a_share_of_the_calls_is_refused_once_enough_have_failed() {
    let layer = ThrottleLayer::new(config()).name("orders");
    let (mut service, handle) = (layer.layer(service_fn(answer)), layer.handle());
    assert_eq!(fail(&mut service, 10).await, 0);
    let share = handle.snapshot().ratio;
    assert!((share - 10.0 / 11.0).abs() < 1e-9, "{share}");
    let refused = fail(&mut service, 1_000).await;
    assert!((900..980).contains(&refused), "{refused}");
    assert_eq!(counts(&handle), (1_010 - refused, 0, refused));
    assert!((handle.snapshot().ratio - 0.95).abs() < 1e-9);

    let error = loop {
        if let Err(Error::Rejected(error)) = call(&mut service, FAILED).await {
            break error;
        }
    };
    assert_eq!(error.reason(), Reason::Throttled);
    assert_eq!((error.retry_after(), error.limit(), error.reached_service()), (None, None, false));
    assert_eq!(error.to_string(), "rejected by orders: service accepts too few requests");
    assert_eq!(error.layer(), "orders");
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_window_is_forgotten() {
    let layer = ThrottleLayer::new(config());
    let mut service = layer.layer(service_fn(answer));
    assert!(fail(&mut service, 100).await > 0);
    advance(9 * SECOND).await;
    assert!(layer.handle().snapshot().ratio > 0.9);
    advance(SECOND).await;
    assert_eq!(counts(&layer.handle()), (0, 0, 0));
    assert_eq!(fail(&mut service, 10).await, 0);
}

#[tokio::test(start_paused = true)]
async fn with_a_seed_the_same_calls_are_refused_again() {
    let run = async |seed| {
        fastrand::seed(seed);
        let mut service = ThrottleLayer::new(config()).layer(service_fn(answer));
        let mut refused = Vec::new();
        for _ in 0..200 {
            refused.push(fail(&mut service, 1).await);
        }
        refused
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}

#[tokio::test(start_paused = true)]
async fn all_services_of_all_clones_share_the_counts() {
    let layer = ThrottleLayer::new(config());
    let mut services = [
        layer.layer(service_fn(answer)),
        layer.clone().layer(service_fn(answer)),
        layer.layer(service_fn(answer)).clone(),
    ];
    for service in &mut services {
        fail(service, 3).await;
    }
    assert_eq!(counts(&layer.handle()), (9, 0, 0));
    let other = ThrottleLayer::new(config()).name("other");
    assert_eq!(counts(&other.handle()), (0, 0, 0), "another layer");
}

#[tokio::test(start_paused = true)]
async fn a_judge_says_what_was_accepted() {
    let layer = ThrottleLayer::new(config()).classify(|result: Result<&u32, &Failure>| match result {
        Ok(503) => Outcome::failure(),
        Ok(_) => Outcome::success(),
        Err(Error::Inner(Fault("no such item"))) => Outcome::failure().overload(false),
        Err(_) => Class::Failure.into(),
    });
    let (mut service, handle) = (layer.layer(service_fn(answer)), layer.handle());
    for (result, expected) in [
        (Ok(200), (1, 1, 0)),
        (Ok(503), (2, 1, 0)),
        (Err(Error::Inner(Fault("no such item"))), (3, 2, 0)),
        (FAILED, (4, 2, 0)),
    ] {
        assert_eq!(call(&mut service, result.clone()).await, result, "it passes unchanged");
        assert_eq!(counts(&handle), expected, "{result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_further_in_was_not_sent_and_is_one_further_out() {
    let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
    let outer = CircuitBreakerLayer::new(CircuitBreakerConfig::new().consecutive_failures(1));
    let throttle = ThrottleLayer::new(config());
    let mut service =
        ServiceBuilder::new().layer(&outer).layer(&throttle).layer(&breaker).service(service_fn(answer));
    breaker.handle().force_open();
    for _ in 0..20 {
        let error = call(&mut service, Ok(1)).await.unwrap_err();
        assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::CircuitOpen));
    }
    assert_eq!(counts(&throttle.handle()), (0, 0, 0));
    assert_eq!(outer.handle().snapshot().failures, 0);
}

#[tokio::test(start_paused = true)]
async fn its_own_refusal_is_no_failure_for_a_breaker_further_out() {
    let outer = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
    outer.handle().observe_only();
    let throttle = ThrottleLayer::new(config());
    let mut service = ServiceBuilder::new().layer(&outer).layer(&throttle).service(service_fn(answer));
    let refused = fail(&mut service, 80).await;
    assert!(refused > 0);
    assert_eq!(outer.handle().snapshot().failures, 80 - refused);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_further_in_is_no_accepted_request_unless_the_classifier_says_so() {
    let timed_out = |result: Result<&u32, &Failure>| {
        let rejected = result.unwrap_err().rejected().unwrap();
        assert_eq!(rejected.reason(), Reason::AttemptTimeout);
        Outcome::success()
    };
    let (plain, lenient) = (ThrottleLayer::new(config()), ThrottleLayer::new(config()).classify(timed_out));
    let hangs = TimeoutLayer::per_attempt(SECOND).layer(service_fn(|()| pending::<Answer>()));
    for error in [
        call(&mut plain.layer(hangs.clone()), ()).await.unwrap_err(),
        call(&mut lenient.layer(hangs), ()).await.unwrap_err(),
    ] {
        assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::AttemptTimeout));
    }
    assert_eq!((counts(&plain.handle()), counts(&lenient.handle())), ((1, 0, 0), (1, 1, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_early_throttles_nobody() {
    let layer = ThrottleLayer::new(config());
    let (mut service, handle) = (layer.layer(service_fn(|()| pending::<Answer>())), layer.handle());
    for _ in 0..100 {
        let mut call = task::spawn(service.call(()));
        assert_pending!(call.poll());
        advance(SECOND / 100).await;
    }
    assert_eq!(counts(&handle), (0, 0, 0));
    drop(service.call(()));
    assert_eq!(counts(&handle), (0, 0, 0), "a call that was never polled");

    let patient = service.call(());
    advance(6 * SECOND).await;
    assert_eq!(counts(&handle), (1, 0, 0), "one that waits is counted");
    drop(patient);
    assert_eq!(counts(&handle), (1, 0, 0), "and stays so");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_throttled_while_its_calls_wait() {
    let layer = ThrottleLayer::new(config());
    let mut service = layer.layer(service_fn(|()| pending::<Answer>()));
    let _calls: Vec<_> = (0..100).map(|_| service.call(())).collect();
    assert!(layer.handle().snapshot().ratio <= 0.0);
    advance(6 * SECOND).await;
    let refused = (0..100).filter(|_| task::spawn(service.call(())).poll().is_ready()).count();
    assert!(refused > 80, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_running_throttle_can_be_changed() {
    let layer = ThrottleLayer::new(config());
    let (mut service, handle) = (layer.layer(service_fn(answer)), layer.handle());
    fail(&mut service, 50).await;
    let lenient = config().max_ratio(0.25);
    handle.reconfigure(lenient.clone()).unwrap();
    assert_eq!(handle.config(), lenient);
    assert!((handle.snapshot().ratio - 0.25).abs() < 1e-9);
    assert_eq!(handle.reconfigure(config().headroom(0.0)).unwrap_err().field(), "headroom");
    assert_eq!(handle.config(), lenient, "the old one stays");
    handle.reconfigure(config().min_requests(u32::MAX)).unwrap();
    assert_eq!(fail(&mut service, 50).await, 0, "the next call feels it");
    handle.reconfigure(lenient).unwrap();
    assert!(fail(&mut service, 50).await > 0);
    let (sent, ..) = counts(&handle);

    advance(5 * SECOND).await;
    let open = service.call(Ok(1));
    handle.reconfigure(config().window(20 * SECOND).min_requests(u32::MAX)).unwrap();
    assert_eq!(handle.snapshot().sent, sent, "the counts stay");
    assert_eq!(fail(&mut service, 50).await, 0);
    drop(open);
    advance(20 * SECOND).await;
    assert_eq!(counts(&handle), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_ready_at_its_first_poll() {
    let layer = ThrottleLayer::new(config());
    let mut service = layer.layer(service_fn(answer));
    while fail(&mut service, 1).await == 0 {}
    fail(&mut service, 1_000).await;
    let refused = (0..1_000).filter(|_| {
        let mut call = task::spawn(service.call(FAILED));
        assert_ready_err!(call.poll()).rejected().is_some()
    });
    assert!(refused.count() > 900);
}

#[test]
#[should_panic(expected = "invalid value for `max_ratio`")]
fn a_mistake_in_the_source_panics() {
    let _ = ThrottleLayer::new(config().max_ratio(f64::NAN));
}

#[tokio::test(start_paused = true)]
async fn its_parts_can_be_printed() {
    let layer = ThrottleLayer::new(config()).name("orders");
    let shown = format!("{layer:?} {:?} {:?}", layer.layer("inner"), layer.handle());
    for part in
        ["ThrottleLayer", "Throttle {", "ThrottleHandle", "Snapshot", "orders", "inner", "max_ratio: 0.95"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[cfg(feature = "http")]
mod http {
    use ::http::{Response, StatusCode};
    use stanchion::http::Http;

    use super::{Error, Fault, ThrottleLayer, call, config, counts, service_fn};
    use tower::Layer;

    #[tokio::test(start_paused = true)]
    async fn answers_that_speak_of_load_were_not_accepted() {
        let layer = ThrottleLayer::new(config().min_requests(u32::MAX)).protocol(Http::new());
        let mut service = layer.layer(service_fn(|(status, grpc): (u16, Option<u32>)| async move {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some(grpc) = grpc {
                response.headers_mut().insert("grpc-status", grpc.into());
            }
            Ok::<_, Error<Fault>>(response)
        }));
        let mut is_accepted = async |answer| {
            let (_, before, _) = counts(&layer.handle());
            call(&mut service, answer).await.unwrap();
            counts(&layer.handle()).1 > before
        };
        for status in [200, 302, 400, 404, 425, 500, 501, 505] {
            assert!(is_accepted((status, None)).await, "{status}");
        }
        for status in [408, 429, 502, 503, 504] {
            assert!(!is_accepted((status, None)).await, "{status}");
        }
        for status in 0..=16 {
            // Deadline exceeded, resource exhausted, unavailable.
            assert_eq!(
                is_accepted((200, Some(status))).await,
                ![4, 8, 14].contains(&status),
                "{status} of gRPC"
            );
        }
    }
}
