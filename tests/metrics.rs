//! Metrics as Prometheus scrapes them: by their exact names, from the real exporter, over a real
//! socket.

#![cfg(feature = "metrics")]
#![allow(clippy::disallowed_methods, reason = "a test moves the clock, and servers are tasks")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[path = "metrics/budget.rs"]
mod budget;
#[path = "support/fault.rs"]
mod fault;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

use crate::fault::Fault;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use stanchion::adaptive_limit::{Algorithm, Next, Sample};
use stanchion::circuit_breaker::State;
use stanchion::classify::Class;
use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, Budget, BudgetConfig, BulkheadConfig, BulkheadLayer,
    CallAttributes, CircuitBreakerConfig, CircuitBreakerLayer, Deadline, Error, RateLimitConfig,
    RateLimitLayer, RetryConfig, RetryLayer, ThrottleConfig, ThrottleLayer, TimeoutLayer, Window,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::advance;
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

/// Every series of a layer before its first call, with its type. Dashboards and alerts depend on
/// them, and a change here breaks those.
const SERIES: &[(&str, &str, &str)] = &[
    ("counter", "stanchion_circuit_breaker_calls_total", "outcome=success"),
    ("counter", "stanchion_circuit_breaker_calls_total", "outcome=failure"),
    ("counter", "stanchion_circuit_breaker_calls_total", "outcome=ignored"),
    ("counter", "stanchion_circuit_breaker_calls_total", "outcome=cancelled"),
    ("counter", "stanchion_circuit_breaker_slow_calls_total", ""),
    ("counter", "stanchion_circuit_breaker_rejections_total", "reason=circuit_open"),
    ("counter", "stanchion_circuit_breaker_rejections_total", "reason=recovering"),
    ("histogram", "stanchion_circuit_breaker_call_duration_seconds_count", "outcome=success"),
    ("histogram", "stanchion_circuit_breaker_call_duration_seconds_count", "outcome=failure"),
    ("histogram", "stanchion_circuit_breaker_call_duration_seconds_sum", "outcome=success"),
    ("histogram", "stanchion_circuit_breaker_call_duration_seconds_sum", "outcome=failure"),
    ("histogram", "stanchion_circuit_breaker_call_duration_seconds_bucket", "le=0.1 outcome=success"),
    ("histogram", "stanchion_circuit_breaker_call_duration_seconds_bucket", "le=0.1 outcome=failure"),
    ("histogram", "stanchion_circuit_breaker_call_duration_seconds_bucket", "le=1 outcome=success"),
    ("histogram", "stanchion_circuit_breaker_call_duration_seconds_bucket", "le=1 outcome=failure"),
    ("histogram", "stanchion_circuit_breaker_call_duration_seconds_bucket", "le=+Inf outcome=success"),
    ("histogram", "stanchion_circuit_breaker_call_duration_seconds_bucket", "le=+Inf outcome=failure"),
    ("gauge", "stanchion_circuit_breaker_state", "state=closed"),
    ("gauge", "stanchion_circuit_breaker_state", "state=open"),
    ("gauge", "stanchion_circuit_breaker_state", "state=half_open"),
    ("gauge", "stanchion_circuit_breaker_state", "state=recovering"),
    ("gauge", "stanchion_circuit_breaker_state", "state=disabled"),
    ("gauge", "stanchion_circuit_breaker_state", "state=forced_open"),
    ("gauge", "stanchion_circuit_breaker_state", "state=observe_only"),
];

/// The recorder of this process. The tests separate their series by the names of their layers.
fn exporter() -> &'static PrometheusHandle {
    static EXPORTER: OnceLock<PrometheusHandle> = OnceLock::new();
    EXPORTER.get_or_init(|| {
        PrometheusBuilder::new().set_buckets(&[0.1, 1.0]).unwrap().install_recorder().unwrap()
    })
}

/// Opens for a second at the second failure in a row, with three trial calls.
fn layer(name: &'static str) -> CircuitBreakerLayer {
    exporter();
    CircuitBreakerLayer::new(config()).name(name)
}

fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .window(Window::calls(100))
        .consecutive_failures(2)
        .open_for(SECOND)
        .open_jitter(0.0)
}

/// Returns the text that the exporter serves.
async fn scraped() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = service_fn(|_| async { Ok::<_, Infallible>(hyper::Response::new(exporter().render())) });
        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), answer).await.unwrap();
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    server.await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    body.to_owned()
}

/// Returns the series of the layer `name`: `metric label=value label=value`, with sorted labels.
async fn series(name: &str) -> BTreeMap<String, f64> {
    scraped()
        .await
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| parse(line, name))
        .collect()
}

fn parse(line: &str, name: &str) -> Option<(String, f64)> {
    let (metric, value) = line.rsplit_once(' ')?;
    let (metric, labels) = metric.split_once('{')?;
    let mut labels: Vec<_> =
        labels.trim_end_matches('}').split(',').map(|label| label.replace('"', "")).collect();
    let at = labels.iter().position(|label| *label == format!("name={name}"))?;
    labels.remove(at);
    labels.sort();
    Some((format!("{metric} {}", labels.join(" ")), value.parse().unwrap()))
}

/// Returns the series that are not zero, without their common prefix.
async fn counted(name: &str) -> Vec<(String, f64)> {
    let short =
        |series: String| series.trim_start_matches("stanchion_circuit_breaker_").trim_end().to_owned();
    series(name)
        .await
        .into_iter()
        .filter(|(_, value)| *value != 0.0)
        .map(|(key, value)| (short(key), value))
        .collect()
}

#[track_caller]
fn assert_counted(counted: &[(String, f64)], expected: &[(&str, f64)]) {
    let counted: Vec<_> = counted.iter().map(|(series, value)| (series.as_str(), *value)).collect();
    assert_eq!(counted, expected);
}

/// Asserts that exactly one of the gauges is 1, that of `state`.
async fn assert_shows(name: &str, state: State) {
    let series = series(name).await;
    for each in State::ALL {
        let shown = series[&format!("stanchion_circuit_breaker_state state={each}")];
        assert_eq!(shown, if *each == state { 1.0 } else { 0.0 }, "{each} while the state is {state}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_series_exists_before_the_first_call_under_its_stable_name() {
    let _layer = layer("names").handle();
    let series = series("names").await;
    let mut expected: Vec<_> =
        SERIES.iter().map(|(_, metric, labels)| format!("{metric} {labels}")).collect();
    expected.sort();
    assert_eq!(series.keys().cloned().collect::<Vec<_>>(), expected);
    for (name, value) in &series {
        let present = name == "stanchion_circuit_breaker_state state=closed";
        assert_eq!(*value, if present { 1.0 } else { 0.0 }, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_metric_is_explained_and_has_the_type_that_its_name_promises() {
    let handle = layer("types").handle();
    handle.force_open();
    let text = scraped().await;
    for (kind, metric, _) in SERIES {
        let metric = ["_count", "_sum", "_bucket"].iter().fold(*metric, |metric, part| {
            if *kind == "histogram" { metric.trim_end_matches(part) } else { metric }
        });
        assert!(text.contains(&format!("# TYPE {metric} {kind}\n")), "{kind} {metric} in\n{text}");
        assert!(text.contains(&format!("# HELP {metric} ")), "{metric} is not explained in\n{text}");
    }
    assert!(text.contains("# TYPE stanchion_circuit_breaker_transitions_total counter\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn the_life_of_a_circuit_can_be_read_from_its_metrics() {
    const NAME: &str = "life";
    let layer = layer(NAME);
    let handle = layer.handle();
    let mut service = layer.layer(tower::service_fn(|end: Option<bool>| async move {
        match end {
            Some(true) => Ok(()),
            Some(false) => Err(Error::Inner(Fault("failed"))),
            None => std::future::pending().await,
        }
    }));
    let mut call = async |end| service.ready().await.unwrap().call(end).await;

    // Closed.
    for _ in 0..3 {
        call(Some(true)).await.unwrap();
    }
    for _ in 0..4 {
        let mut given_up = task::spawn(call(None));
        assert_pending!(given_up.poll());
    }
    assert_shows(NAME, State::Closed).await;

    // Open.
    for _ in 0..2 {
        call(Some(false)).await.unwrap_err();
    }
    for _ in 0..5 {
        call(Some(true)).await.unwrap_err();
    }
    assert_shows(NAME, State::Open).await;

    // Half-open: one trial call is cancelled, and does not count.
    advance(SECOND).await;
    {
        let mut given_up = task::spawn(call(None));
        assert_pending!(given_up.poll());
        assert_shows(NAME, State::HalfOpen).await;
    }
    call(Some(true)).await.unwrap();
    assert_shows(NAME, State::HalfOpen).await;

    // Closed again.
    for _ in 0..2 {
        call(Some(true)).await.unwrap();
    }
    assert_shows(NAME, State::Closed).await;
    assert_eq!(handle.state(), State::Closed);

    assert_counted(
        &counted(NAME).await,
        &[
            ("call_duration_seconds_bucket le=+Inf outcome=failure", 2.0),
            ("call_duration_seconds_bucket le=+Inf outcome=success", 6.0),
            ("call_duration_seconds_bucket le=0.1 outcome=failure", 2.0),
            ("call_duration_seconds_bucket le=0.1 outcome=success", 6.0),
            ("call_duration_seconds_bucket le=1 outcome=failure", 2.0),
            ("call_duration_seconds_bucket le=1 outcome=success", 6.0),
            ("call_duration_seconds_count outcome=failure", 2.0),
            ("call_duration_seconds_count outcome=success", 6.0),
            ("calls_total outcome=cancelled", 5.0),
            ("calls_total outcome=failure", 2.0),
            ("calls_total outcome=success", 6.0),
            ("rejections_total reason=circuit_open", 5.0),
            ("state state=closed", 1.0),
            ("transitions_total from=closed to=open", 1.0),
            ("transitions_total from=half_open to=closed", 1.0),
            ("transitions_total from=open to=half_open", 1.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn durations_exclude_ignored_and_cancelled_calls() {
    exporter();
    let handle = CircuitBreakerLayer::new(config().slow_after(SECOND)).name("durations").handle();
    for (seconds, class) in
        [(0.5, Some(Class::Success)), (2.0, Some(Class::Failure)), (4.0, Some(Class::Ignored)), (8.0, None)]
    {
        let permit = handle.try_acquire().unwrap();
        advance(SECOND.mul_f64(seconds)).await;
        match class {
            Some(class) => permit.finish(class),
            None => drop(permit),
        }
    }
    assert_counted(
        &counted("durations").await,
        &[
            ("call_duration_seconds_bucket le=+Inf outcome=failure", 1.0),
            ("call_duration_seconds_bucket le=+Inf outcome=success", 1.0),
            ("call_duration_seconds_bucket le=1 outcome=success", 1.0),
            ("call_duration_seconds_count outcome=failure", 1.0),
            ("call_duration_seconds_count outcome=success", 1.0),
            ("call_duration_seconds_sum outcome=failure", 2.0),
            ("call_duration_seconds_sum outcome=success", 0.5),
            ("calls_total outcome=cancelled", 1.0),
            ("calls_total outcome=failure", 1.0),
            ("calls_total outcome=ignored", 1.0),
            ("calls_total outcome=success", 1.0),
            ("slow_calls_total", 3.0),
            ("state state=closed", 1.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn rejections_are_counted_by_their_reason() {
    exporter();
    let handle = CircuitBreakerLayer::new(config().ramp(1_000 * SECOND).probes(1)).name("reasons").handle();
    handle.trip();
    for _ in 0..3 {
        handle.try_acquire().unwrap_err();
    }
    handle.probe();
    handle.try_acquire().unwrap().finish(Class::Success);
    assert_shows("reasons", State::Recovering).await;
    let refused = (0..20).filter_map(|_| handle.try_acquire().map(drop).err()).count();
    assert!(refused > 0);
    let series = series("reasons").await;
    let rejections = |reason| series[&format!("stanchion_circuit_breaker_rejections_total reason={reason}")];
    assert_eq!(rejections("circuit_open"), 3.0);
    assert_eq!(rejections("recovering"), u32::try_from(refused).unwrap().into());
}

#[tokio::test(start_paused = true)]
async fn the_gauge_follows_every_state_that_an_operator_can_order() {
    let handle = layer("orders").handle();
    for order in [
        State::ForcedOpen,
        State::Disabled,
        State::ObserveOnly,
        State::ForcedOpen,
        State::HalfOpen,
        State::Open,
        State::Closed,
    ] {
        match order {
            State::ForcedOpen => handle.force_open(),
            State::Disabled => handle.disable(),
            State::ObserveOnly => handle.observe_only(),
            State::HalfOpen => assert!(handle.probe()),
            State::Open => assert!(handle.trip()),
            _ => handle.reset(),
        }
        assert_shows("orders", order).await;
    }
}

/// One circuit per endpoint, with one name for all.
#[tokio::test(start_paused = true)]
async fn circuits_under_one_name_count_together() {
    let first = layer("together");
    for layer in [&first, &first.with_new_state(), &first.with_new_state()] {
        layer.handle().try_acquire().unwrap().finish(Class::Success);
    }
    let series = series("together").await;
    assert_eq!(series["stanchion_circuit_breaker_calls_total outcome=success"], 3.0);
}

#[tokio::test(start_paused = true)]
async fn the_gauge_counts_the_circuits_of_a_name_for_as_long_as_they_exist() {
    let first = layer("gone");
    let second = first.with_new_state();
    first.handle().force_open();
    let shown = |state| async move {
        series("gone").await[&format!("stanchion_circuit_breaker_state state={state}")]
    };
    assert_eq!((shown("closed").await, shown("forced_open").await), (1.0, 1.0));
    drop(first);
    assert_eq!((shown("closed").await, shown("forced_open").await), (1.0, 0.0));
    drop(second);
    assert_eq!((shown("closed").await, shown("forced_open").await), (0.0, 0.0));
}

/// A layer that is created again, as after a reload, continues where the first one stopped.
#[tokio::test(start_paused = true)]
async fn a_second_layer_of_the_same_name_does_not_reset_the_counters() {
    layer("again").handle().try_acquire().unwrap().finish(Class::Success);
    layer("again").handle().try_acquire().unwrap().finish(Class::Success);
    assert_eq!(series("again").await["stanchion_circuit_breaker_calls_total outcome=success"], 2.0);
}

// Retries.

const RETRY_SERIES: &[&str] = &[
    "stanchion_retry_actions_total action=budget_spent",
    "stanchion_retry_actions_total action=exhausted",
    "stanchion_retry_actions_total action=nested",
    "stanchion_retry_actions_total action=no_time",
    "stanchion_retry_actions_total action=not_idempotent",
    "stanchion_retry_actions_total action=not_ready",
    "stanchion_retry_actions_total action=not_replayable",
    "stanchion_retry_actions_total action=pushed_back",
    "stanchion_retry_actions_total action=retried",
    "stanchion_retry_attempts_total outcome=cancelled",
    "stanchion_retry_attempts_total outcome=failure",
    "stanchion_retry_attempts_total outcome=ignored",
    "stanchion_retry_attempts_total outcome=success",
    "stanchion_retry_budget_cap ",
    "stanchion_retry_budget_tokens ",
    "stanchion_retry_rejections_total reason=not_ready",
];

fn retry(name: &'static str) -> RetryLayer {
    exporter();
    let budget = Budget::new(BudgetConfig::new().ratio(0.0).per_second(0.0).cap(4.0));
    RetryLayer::new(RetryConfig::new()).name(name).budget(budget)
}

#[tokio::test(start_paused = true)]
async fn every_series_of_a_retry_layer_exists_before_the_first_call() {
    let _layer = retry("retry names").handle();
    let series = series("retry names").await;
    assert_eq!(series.keys().map(String::as_str).collect::<Vec<_>>(), RETRY_SERIES);
    for (name, value) in &series {
        assert_eq!(*value, if name.ends_with(' ') { 4.0 } else { 0.0 }, "{name}");
    }
    let text = scraped().await;
    for name in RETRY_SERIES {
        let (metric, _) = name.split_once(' ').unwrap();
        let kind = if metric.ends_with("total") { "counter" } else { "gauge" };
        assert!(text.contains(&format!("# TYPE {metric} {kind}\n")), "{metric} in\n{text}");
        assert!(text.contains(&format!("# HELP {metric} ")), "{metric} is not explained in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_retries_do_can_be_read_from_their_metrics() {
    const NAME: &str = "retry life";
    let handle = retry(NAME).handle();
    let run = async |failures: u32| {
        let mut attempts = 0;
        let attempt = || {
            attempts += 1;
            std::future::ready(if attempts <= failures { Err(Error::Inner(Fault("failed"))) } else { Ok(()) })
        };
        handle.run(attempt).await
    };
    assert_eq!(run(0).await, Ok(()));
    assert_eq!(run(1).await, Ok(()));
    assert!(run(3).await.is_err());
    // Four tokens in all: this uses up the last one.
    assert!(run(3).await.is_err());

    let breaker = CircuitBreakerLayer::new(config());
    breaker.handle().force_open();
    let refused = handle.run(|| breaker.handle().run(async { Ok::<(), Error<Fault>>(()) })).await;
    assert!(refused.is_err());

    let counted = counted(NAME).await;
    assert_counted(
        &counted,
        &[
            ("stanchion_retry_actions_total action=budget_spent", 1.0),
            ("stanchion_retry_actions_total action=exhausted", 1.0),
            ("stanchion_retry_actions_total action=retried", 4.0),
            ("stanchion_retry_attempts_total outcome=failure", 6.0),
            ("stanchion_retry_attempts_total outcome=ignored", 1.0),
            ("stanchion_retry_attempts_total outcome=success", 2.0),
            ("stanchion_retry_budget_cap", 4.0),
        ],
    );
}

/// Otherwise these rejections would be missing in dashboards.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_between_two_attempts_is_counted_by_its_reason() {
    const NAME: &str = "retry given up";
    let layer = retry(NAME).classify(|_: Result<&u32, &Error<Fault>>| Class::Failure);
    let inner = tower::limit::ConcurrencyLimit::new(tower::service_fn(|_: ()| async { Ok(503) }), 1);
    let mut occupied = inner.clone();
    let mut call = task::spawn(layer.layer(inner).oneshot(()));
    assert_pending!(call.poll());
    occupied.ready().await.unwrap();
    assert!(matches!(call.await, Err(Error::Rejected(_))));
    let series = series(NAME).await;
    assert_eq!(series["stanchion_retry_rejections_total reason=not_ready"], 1.0);
    assert_eq!(series["stanchion_retry_actions_total action=not_ready"], 1.0);
    assert_eq!(series["stanchion_retry_budget_tokens "], 3.0);
}

#[tokio::test(start_paused = true)]
async fn timeouts_are_counted_by_their_reason() {
    exporter();
    let service = service_fn_that_hangs();
    let layer = TimeoutLayer::after(SECOND).name("late");
    let _handle = layer.handle();
    let reasons = ["attempt_timeout", "deadline_exceeded", "idle_timeout", "total_timeout"];
    let all = reasons.map(|reason| format!("stanchion_timeout_rejections_total reason={reason}"));
    assert_eq!(series("late").await, all.iter().cloned().map(|key| (key, 0.0)).collect());
    for _ in 0..3 {
        layer.layer(service.clone()).oneshot(()).await.unwrap_err();
    }
    TimeoutLayer::per_attempt(SECOND).name("late").layer(service).oneshot(()).await.unwrap_err();
    let counted = all.into_iter().zip([1.0, 0.0, 0.0, 3.0]).collect();
    assert_eq!(series("late").await, counted);
}

#[tokio::test(start_paused = true)]
async fn throttled_calls_are_counted() {
    exporter();
    let layer = ThrottleLayer::new(ThrottleConfig::new()).name("thrifty");
    let handle = layer.handle();
    let throttled = "stanchion_throttle_rejections_total reason=throttled";
    assert_eq!(series("thrifty").await, [(throttled.to_owned(), 0.0)].into());
    let fails = tower::service_fn(|()| std::future::ready(Err::<(), _>(Error::Inner(Fault("failed")))));
    while handle.snapshot().refused < 3 {
        layer.layer(fails).oneshot(()).await.unwrap_err();
    }
    assert_eq!(series("thrifty").await, [(throttled.to_owned(), 3.0)].into());
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_reports_its_gauges_and_counts_waits_and_rejections() {
    exporter();
    let config = BulkheadConfig::new().max_in_flight(1);
    let layer = BulkheadLayer::waiting(config.clone().max_queued(1)).name("narrow");
    let handle = layer.handle();
    let keys = [
        "stanchion_bulkhead_actions_total action=queued",
        "stanchion_bulkhead_in_flight ",
        "stanchion_bulkhead_limit ",
        "stanchion_bulkhead_queued ",
        "stanchion_bulkhead_rejections_total reason=bulkhead_full",
        "stanchion_bulkhead_rejections_total reason=bulkhead_timeout",
        "stanchion_bulkhead_rejections_total reason=deadline_exceeded",
    ];
    let expected = |values: [f64; 7]| keys.map(str::to_owned).into_iter().zip(values).collect();
    assert_eq!(series("narrow").await, expected([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]));
    let held = handle.try_acquire().unwrap();
    assert!(handle.try_acquire().is_err());
    let mut waits = Box::pin(layer.layer(service_fn_that_hangs()).oneshot(()));
    assert!(tokio_test::task::spawn(&mut waits).poll().is_pending());
    assert_eq!(series("narrow").await, expected([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]));
    waits.await.unwrap_err();
    handle.resize(7).unwrap();
    assert_eq!(series("narrow").await, expected([1.0, 1.0, 7.0, 0.0, 1.0, 1.0, 0.0]));
    let late = CallAttributes::new().deadline(Deadline::after(Duration::ZERO));
    assert!(handle.try_acquire_for(&late).is_err());
    drop((held, layer, handle));
    assert_eq!(series("narrow").await, expected([1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]));

    let _refusing = BulkheadLayer::new(config).name("never_waits").handle();
    let series: Vec<String> = series("never_waits").await.into_keys().collect();
    assert_eq!(series, [keys[1], keys[2], keys[3], keys[4], keys[6]]);
}

/// The limit falls by one after each window.
#[derive(Clone, Debug, PartialEq)]
struct Falls;

impl Algorithm for Falls {
    fn next(&mut self, limit: f64, _: &Sample) -> Next {
        Next::limit(limit - 1.0)
    }
}

/// The gauge follows the limit, and returns to zero with the layer.
#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_reports_its_gauges_and_counts_waits_and_rejections() {
    exporter();
    let config = AdaptiveLimitConfig::new().min_limit(1).initial_limit(4).algorithm(Falls);
    let config = config.window(Duration::from_millis(10)).min_calls(1).max_queued(1);
    let layer = AdaptiveLimitLayer::waiting(config.clone()).name("tidal");
    let handle = layer.handle();
    let keys = [
        "stanchion_adaptive_limit_actions_total action=queued",
        "stanchion_adaptive_limit_in_flight ",
        "stanchion_adaptive_limit_limit ",
        "stanchion_adaptive_limit_queued ",
        "stanchion_adaptive_limit_rejections_total reason=deadline_exceeded",
        "stanchion_adaptive_limit_rejections_total reason=limit_reached",
        "stanchion_adaptive_limit_rejections_total reason=limit_timeout",
    ];
    let expected = |values: [f64; 7]| keys.map(str::to_owned).into_iter().zip(values).collect();
    assert_eq!(series("tidal").await, expected([0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]));
    for limit in [3.0, 2.0, 1.0, 1.0] {
        advance(SECOND).await;
        handle.run(async { Ok::<_, Error<Fault>>(()) }).await.unwrap();
        assert_eq!(series("tidal").await, expected([0.0, 0.0, limit, 0.0, 0.0, 0.0, 0.0]));
    }
    let held = handle.try_acquire().unwrap();
    assert!(handle.try_acquire().is_err());
    let mut waits = Box::pin(layer.layer(service_fn_that_hangs()).oneshot(()));
    assert_pending!(task::spawn(&mut waits).poll());
    assert_eq!(series("tidal").await, expected([1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0]));
    waits.await.unwrap_err();
    let late = CallAttributes::new().deadline(Deadline::after(Duration::ZERO));
    assert!(handle.try_acquire_for(&late).is_err());
    handle.reconfigure(config.clone().min_limit(3)).unwrap();
    assert_eq!(series("tidal").await, expected([1.0, 1.0, 3.0, 0.0, 1.0, 1.0, 1.0]));
    let other = AdaptiveLimitLayer::waiting(config.clone()).name("tidal").handle();
    assert_eq!(series("tidal").await[keys[2]], 7.0, "that of both");
    drop((held, layer, handle));
    assert_eq!(series("tidal").await, expected([1.0, 0.0, 4.0, 0.0, 1.0, 1.0, 1.0]));
    drop(other);
    assert_eq!(series("tidal").await[keys[2]], 0.0);

    let _refusing = AdaptiveLimitLayer::new(config.max_queued(0)).name("tidal_refusing").handle();
    let series: Vec<String> = series("tidal_refusing").await.into_keys().collect();
    assert_eq!(series, [keys[1], keys[2], keys[3], keys[4], keys[5]]);
}

fn service_fn_that_hangs() -> impl Service<(), Response = (), Error = Error<Fault>> + Clone {
    tower::service_fn(|()| std::future::pending())
}

/// The gauge returns to zero with the layer that owns the keys.
#[tokio::test(start_paused = true)]
async fn what_a_rate_limit_does_can_be_read_from_its_metrics() {
    exporter();
    let quota = stanchion::rate_limit::Quota::per_second(10).burst(1);
    let config = RateLimitConfig::new(quota).max_keys(2).max_wait(Duration::from_millis(100));
    let new = || RateLimitLayer::keyed(config.clone(), |key: &u32| Some(*key)).waits().name("quotas");
    let (layer, other) = (new(), new());
    let _ = (layer.handle(), other.handle());
    let name = |rest: &str| format!("stanchion_rate_limit_{rest}");
    let expect = |reading: &BTreeMap<String, f64>, expected: [f64; 5]| {
        let names = [
            name("rejections_total reason=rate_limited"),
            name("rejections_total reason=too_many_keys"),
            name("rejections_total reason=deadline_exceeded"),
            name("actions_total action=waited"),
            name("keys "),
        ];
        assert_eq!(reading.keys().collect::<std::collections::BTreeSet<_>>(), names.iter().collect());
        assert_eq!(names.map(|name| reading[&name]), expected);
    };
    expect(&series("quotas").await, [0.0; 5]);
    let mut service = layer.layer(tower::service_fn(|_: u32| std::future::ready(Ok::<_, Error<Fault>>(()))));
    assert!(other.handle().try_take_for(&5_u32, 1).is_ok());
    for (key, is_answered) in [(1, true), (2, true), (3, false)] {
        assert_eq!(service.call(key).await.is_ok(), is_answered);
    }
    let waits = service.call(1);
    assert!(service.call(1).await.is_err());
    expect(&series("quotas").await, [1.0, 1.0, 0.0, 1.0, 3.0]);
    drop((waits, service, layer));
    expect(&series("quotas").await, [1.0, 1.0, 0.0, 1.0, 1.0]);

    let refuses = RateLimitLayer::new(config).name("sold");
    let _ = refuses.handle();
    let keys: Vec<String> = series("sold").await.into_keys().collect();
    assert_eq!(keys, [name("rejections_total reason=rate_limited")]);
}
