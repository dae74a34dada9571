//! Log records, as a subscriber sees them.

#![cfg(feature = "tracing")]
#![allow(clippy::disallowed_methods, reason = "a test moves the clock")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[path = "tracing/fallback.rs"]
mod fallback;
#[path = "support/fault.rs"]
mod fault;

use std::collections::BTreeMap;
use std::fmt;
use std::future::{pending, ready};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::classify::{Class, Classify, Outcome};
use stanchion::hedge::HedgeDelay;
use stanchion::protocol::{Attempt, Replay, RequestContext};
use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, Backoff, CallAttributes, CircuitBreakerConfig,
    CircuitBreakerHandle, CircuitBreakerLayer, Deadline, Error, HedgeConfig, HedgeLayer, RateLimitConfig,
    RateLimitLayer, RetryConfig, RetryLayer, ThrottleConfig, ThrottleLayer, TimeoutLayer, Window,
};
use tokio::time::advance;
use tower::{Layer as _, ServiceBuilder, ServiceExt, service_fn};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as Values};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

const SECOND: Duration = Duration::from_secs(1);

/// One event, with its fields as text.
#[derive(Clone, Debug)]
struct Record {
    level: Level,
    target: String,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

/// Records all events of this thread.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<Record>>>);

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut record = Record {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            fields: BTreeMap::new(),
        };
        event.record(&mut record);
        self.0.lock().unwrap().push(record);
    }
}

impl Log {
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::registry().with(log.clone());
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Returns this crate's events since the last time.
    fn take(&self) -> Vec<Record> {
        let mut records = std::mem::take(&mut *self.0.lock().unwrap());
        records.retain(|record| record.target.starts_with("stanchion"));
        records
    }
}

#[track_caller]
fn assert_logged(record: &Record, level: Level, fields: &[(&'static str, &str)]) {
    assert_eq!(record.level, level);
    assert_eq!(record.target, "stanchion");
    let expected: BTreeMap<_, _> = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    assert_eq!(record.fields, expected);
}

fn breaker() -> CircuitBreakerHandle {
    let config = CircuitBreakerConfig::new()
        .window(Window::calls(4))
        .min_calls(4)
        .open_for(SECOND)
        .open_jitter(0.0)
        .probes(1);
    CircuitBreakerLayer::new(config).name("payments").handle()
}

fn end(handle: &CircuitBreakerHandle, classes: &[Class]) {
    for class in classes {
        handle.try_acquire().unwrap().finish(*class);
    }
}

#[tokio::test(start_paused = true)]
async fn opening_is_logged_as_a_warning_with_value_and_threshold() {
    let (log, _guard) = Log::start();
    let handle = breaker();
    end(&handle, &[Class::Success, Class::Failure, Class::Failure, Class::Failure]);
    let records = log.take();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_logged(
        &records[0],
        Level::WARN,
        &[
            ("message", "state changed"),
            ("module", "circuit_breaker"),
            ("name", "payments"),
            ("from", "closed"),
            ("to", "open"),
            ("cause", "75% of 4 calls failed, threshold 50%"),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn closing_is_logged_at_info() {
    let (log, _guard) = Log::start();
    let handle = breaker();
    end(&handle, &[Class::Failure; 4]);
    log.take();
    advance(SECOND).await;
    end(&handle, &[Class::Success]);
    let said: Vec<_> = log
        .take()
        .iter()
        .map(|record| {
            assert_eq!(record.level, Level::INFO);
            format!("{} -> {}: {}", record.fields["from"], record.fields["to"], record.fields["cause"])
        })
        .collect();
    assert_eq!(
        said,
        ["open -> half_open: the wait of 1s is over", "half_open -> closed: the trial call succeeded"]
    );
}

#[tokio::test(start_paused = true)]
async fn calls_are_not_logged_and_rejections_are_logged_at_debug() {
    let (log, _guard) = Log::start();
    let handle = breaker();
    end(&handle, &[Class::Success, Class::Ignored, Class::Failure]);
    drop(handle.try_acquire());
    assert!(log.take().is_empty());
    handle.force_open();
    let records = log.take();
    assert_eq!(records.len(), 1);
    assert_eq!(
        (records[0].level, records[0].fields["cause"].as_str()),
        (Level::WARN, "asked for by an operator")
    );
    handle.try_acquire().unwrap_err();
    let records = log.take();
    assert_eq!(records.len(), 1);
    assert_logged(
        &records[0],
        Level::DEBUG,
        &[
            ("message", "call rejected"),
            ("module", "circuit_breaker"),
            ("name", "payments"),
            ("reason", "circuit is open"),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn an_observe_only_circuit_warns_instead_of_opening() {
    let (log, _guard) = Log::start();
    let handle = breaker();
    handle.observe_only();
    log.take();
    end(&handle, &[Class::Failure; 6]);
    let records = log.take();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_logged(
        &records[0],
        Level::WARN,
        &[
            ("message", "state would change"),
            ("module", "circuit_breaker"),
            ("name", "payments"),
            ("to", "open"),
            ("cause", "100% of 4 calls failed, threshold 50%"),
        ],
    );
}

/// Names are part of the source. Causes and reasons must not contain line breaks either.
#[tokio::test(start_paused = true)]
async fn every_field_is_one_line() {
    let (log, _guard) = Log::start();
    let handle = breaker();
    end(&handle, &[Class::Failure; 4]);
    handle.try_acquire().unwrap_err();
    handle.reset();
    for record in log.take() {
        for (name, value) in record.fields {
            assert!(!value.contains(char::is_control), "{name}: {value:?}");
        }
    }
}

/// Records all spans with their fields, and the names of the spans around each event.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

/// The fields in order.
struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        assert_eq!(*attributes.metadata().level(), Level::DEBUG);
        let mut line = attributes.metadata().name().to_owned();
        attributes.record(&mut Line(&mut line));
        self.0.lock().unwrap().push(line);
    }

    fn on_record(&self, _: &Id, values: &Values<'_>, _: Context<'_, S>) {
        values.record(&mut Line(self.0.lock().unwrap().last_mut().unwrap()));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != "stanchion" {
            let span = context.event_span(event).expect("in a span");
            self.0.lock().unwrap().push(format!("in {}", span.name()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_at_a_hedged_call_has_a_span_with_its_number_and_runs_in_it() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let config = HedgeConfig::new().delay(HedgeDelay::Fixed(SECOND));
    let attempts = AtomicU32::new(0);
    let service = HedgeLayer::new(config).name("inventory").layer(tower::service_fn(|()| {
        tracing::info!("called");
        let time = if attempts.fetch_add(1, Ordering::Relaxed) == 0 { 10 * SECOND } else { SECOND };
        async move {
            tokio::time::sleep(time).await;
            tracing::info!("answered");
            Ok::<_, Error<Fault>>(())
        }
    }));
    service.oneshot(()).await.unwrap();
    let fields = r#"module="hedge" name="inventory" attempt=1"#;
    assert_eq!(
        *spans.0.lock().unwrap(),
        [
            &format!(r#"attempt {fields} otel.kind="client""#),
            "in attempt",
            &format!(r#"attempt {fields} otel.kind="client" hedge=1 http.request.resend_count=1"#),
            "in attempt",
            "in attempt",
        ]
    );
}

/// A request that carries the number of its attempt, and cannot be replayed if it is too long.
#[derive(Clone, Debug)]
struct Letter {
    number: Option<Attempt>,
    is_long: bool,
}

#[derive(Clone, Copy, Debug)]
struct Letters;

impl RequestContext<Letter> for Letters {
    fn attempt(&self, letter: &Letter) -> Option<Attempt> {
        letter.number
    }

    fn set_attempt(&self, letter: &mut Letter, attempt: Attempt) {
        letter.number = Some(attempt);
    }
}

impl Replay<Letter> for Letters {
    type Request = Letter;
    type Saved = Letter;

    fn save(&self, letter: Letter, _: bool) -> (Letter, Option<Letter>) {
        (letter.clone(), Some(letter))
    }

    fn replay(&self, kept: &mut Letter) -> Option<Letter> {
        (!kept.is_long).then(|| kept.clone())
    }
}

impl Classify<(), Error<Fault>> for Letters {
    fn classify(&self, result: Result<&(), &Error<Fault>>) -> Outcome {
        if result.is_ok() { Outcome::success() } else { Outcome::failure() }
    }
}

fn post() -> RetryLayer<stanchion::retry::Standard<Letters>> {
    let config = RetryConfig::new().max_attempts(2).backoff(Backoff::constant(SECOND));
    RetryLayer::new(config).name("post").protocol(Letters)
}

async fn lost(_: Letter) -> Result<(), Error<Fault>> {
    Err(Error::Inner(Fault("lost")))
}

#[tokio::test(start_paused = true)]
async fn a_wrong_setup_is_a_warning_once_and_then_logged_at_debug() {
    let (log, _guard) = Log::start();
    let services = ServiceBuilder::new().layer(post()).layer(post().name("inner")).service_fn(lost);
    for (is_long, action, times) in [(true, "not_replayable", 1), (false, "nested", 4)] {
        for turn in 0..2 {
            let letter = Letter { number: None, is_long };
            services.clone().oneshot(letter).await.unwrap_err();
            let records = log.take();
            let told: Vec<_> = records
                .iter()
                .filter(|record| record.fields.get("action").is_some_and(|it| it.contains(action)))
                .collect();
            let warnings: Vec<_> = records.iter().filter(|record| record.level == Level::WARN).collect();
            let by = if is_long { ["inner", "post"].len() } else { 1 };
            assert_eq!(warnings.len(), if turn == 0 { by } else { 0 }, "{records:?}");
            assert_eq!(told.len(), if is_long { by } else { times / 2 }, "{records:?}");
            if let Some(warning) = warnings.first() {
                assert_logged(
                    warning,
                    Level::WARN,
                    &[
                        ("message", "this is logged once and will recur"),
                        ("module", "retry"),
                        ("name", "inner"),
                        ("action", action),
                        ("attempt", "1"),
                    ],
                );
            }
            assert!(
                told.iter().filter(|record| record.level != Level::WARN).all(|it| it.level == Level::DEBUG)
            );
        }
    }
}

/// Records the start and the end of spans.
#[derive(Clone, Debug, Default)]
struct Lives(Arc<Mutex<Vec<String>>>);

struct Number(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lives {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut record = Record { level: Level::DEBUG, target: String::new(), fields: BTreeMap::new() };
        attributes.record(&mut record);
        let number = record.fields["attempt"].clone();
        self.0.lock().unwrap().push(format!("begin {number}"));
        context.span(id).unwrap().extensions_mut().insert(Number(number));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target().starts_with("service") {
            let number =
                context.event_span(event).map(|span| span.extensions().get::<Number>().unwrap().0.clone());
            self.0.lock().unwrap().push(format!("in {}", number.unwrap_or_default()));
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let number = context.span(&id).unwrap().extensions().get::<Number>().unwrap().0.clone();
        self.0.lock().unwrap().push(format!("end {number}"));
    }
}

async fn lost_after_a_second(letter: Letter) -> Result<(), Error<Fault>> {
    tracing::info!(target: "service", "called");
    tokio::time::sleep(SECOND).await;
    tracing::info!(target: "service", "gone on");
    lost(letter).await
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_a_span_that_ends_before_the_wait() {
    let spans = Lives::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let letter = Letter { number: None, is_long: false };
    let service = post().layer(service_fn(lost_after_a_second));
    let mut call = tokio_test::task::spawn(service.oneshot(letter));
    for _ in 0..2 {
        assert!(call.poll().is_pending());
        advance(SECOND).await;
    }
    let first = ["begin 1", "in 1", "in 1", "end 1"];
    assert_eq!(*spans.0.lock().unwrap(), first, "in the wait");
    call.await.unwrap_err();
    let second = ["begin 2", "in 2", "in 2", "end 2"];
    assert_eq!(*spans.0.lock().unwrap(), [first, second].concat());

    let spans = Lives::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let handle = post().handle();
    let letter = Letter { number: None, is_long: false };
    handle.run(|| lost_after_a_second(letter.clone())).await.unwrap_err();
    assert_eq!(*spans.0.lock().unwrap(), [first, second].concat(), "of a run as well");
}
#[tokio::test(start_paused = true)]
async fn a_timeout_is_logged_at_debug() {
    let (log, _guard) = Log::start();
    let handle = TimeoutLayer::after(SECOND).name("payments").handle();
    handle.run(ready(Ok::<_, Error<Fault>>(()))).await.unwrap();
    drop(handle.run(pending::<Result<(), Error<Fault>>>()));
    assert!(log.take().is_empty());
    handle.run(pending::<Result<(), Error<Fault>>>()).await.unwrap_err();
    let records = log.take();
    assert_eq!(records.len(), 1);
    assert_logged(
        &records[0],
        Level::DEBUG,
        &[
            ("message", "call given up"),
            ("module", "timeout"),
            ("name", "payments"),
            ("reason", "total timeout"),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_is_logged_at_debug() {
    let (log, _guard) = Log::start();
    let layer = ThrottleLayer::new(ThrottleConfig::new()).name("payments");
    let fails = service_fn(|()| ready(Err::<(), _>(Error::Inner(Fault("failed")))));
    while layer.handle().snapshot().refused == 0 {
        layer.layer(fails).oneshot(()).await.unwrap_err();
    }
    let records = log.take();
    assert_eq!(records.len(), 1);
    assert_logged(
        &records[0],
        Level::DEBUG,
        &[
            ("message", "call rejected"),
            ("module", "throttle"),
            ("name", "payments"),
            ("reason", "service accepts too few requests"),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn waits_and_rejections_of_an_adaptive_limit_are_logged_at_debug() {
    let config = AdaptiveLimitConfig::new().min_limit(1).initial_limit(1).max_queued(1);
    let handle = AdaptiveLimitLayer::waiting(config).name("search").handle();
    let (log, _guard) = Log::start();
    let run = |deadline| {
        let claim = CallAttributes::new().deadline(Deadline::after(deadline));
        handle.run_for(&claim, pending::<Result<(), Error<Fault>>>())
    };
    let _held = handle.try_acquire().unwrap();
    let waits = run(60 * SECOND);
    assert!(handle.try_acquire().is_err());
    assert!(waits.await.is_err());
    assert!(run(Duration::ZERO).await.is_err());
    let of = [("module", "adaptive_limit"), ("name", "search")];
    let queued = [("action", "queued"), ("attempt", "0"), ("wait", "0ns"), ("message", "queued")];
    let refused = ["limit is reached", "no room within the limit", "deadline exceeded"]
        .map(|reason| vec![("reason", reason), ("message", "call rejected")]);
    let records = log.take();
    assert_eq!(records.len(), 4, "{records:?}");
    for (record, expected) in records.iter().zip([vec![queued.to_vec()], refused.to_vec()].concat()) {
        assert_logged(record, Level::DEBUG, &[&of[..], &expected].concat());
    }
}

#[tokio::test(start_paused = true)]
async fn waits_and_rejections_of_a_rate_limit_are_logged_at_debug() {
    use tower::Service;

    let quota = stanchion::rate_limit::Quota::per_second(10).burst(1);
    let config = RateLimitConfig::new(quota).max_wait(Duration::from_millis(100));
    let layer = RateLimitLayer::new(config).waits().name("quota");
    let mut service = layer.layer(service_fn(|(): ()| ready(Ok::<_, Error<Fault>>(()))));
    let (log, _guard) = Log::start();
    assert!(service.call(()).await.is_ok());
    let waits = service.call(());
    assert!(service.call(()).await.is_err());
    drop(waits);
    let records = log.take();
    assert_eq!(records.len(), 2, "{records:?}");
    let of = [("module", "rate_limit"), ("name", "quota")];
    let waited = [("action", "waited"), ("attempt", "0"), ("wait", "100ms"), ("message", "waited")];
    let refused = [("reason", "rate limit reached"), ("message", "call rejected")];
    assert_logged(&records[0], Level::DEBUG, &[&of[..], &waited].concat());
    assert_logged(&records[1], Level::DEBUG, &[&of[..], &refused].concat());
}
