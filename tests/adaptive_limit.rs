//! Limits that find themselves, through the public API: what those of other libraries get wrong comes first.

#![allow(clippy::disallowed_methods, reason = "a test moves the clock, and spawns")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

#[cfg(feature = "http")]
#[path = "adaptive_limit/bodies.rs"]
mod bodies;
#[path = "support/fault.rs"]
mod fault;
#[path = "adaptive_limit/inside.rs"]
mod inside;
#[path = "adaptive_limit/own.rs"]
mod own;
#[path = "adaptive_limit/partitions.rs"]
mod partitions;
#[path = "adaptive_limit/queue.rs"]
mod queue;
#[path = "adaptive_limit/reconfigured.rs"]
mod reconfigured;
#[path = "adaptive_limit/stuck.rs"]
mod stuck;
#[path = "adaptive_limit/told.rs"]
mod told;

use std::fmt::Debug;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::adaptive_limit::{Aimd, Algorithm, Gradient, Gradient2, Next, Sample, Vegas};
use stanchion::classify::Class;
use stanchion::{
    AdaptiveLimit, AdaptiveLimitConfig, AdaptiveLimitHandle, AdaptiveLimitLayer, Error, PriorityShares,
    Reason, TimeoutLayer,
};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_test::task;
use tower::{Layer, Service, ServiceExt};

type Failure = Error<Fault>;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A call, and how it ends after how long.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Answer(Duration),
    Fail(Duration),
    Panic,
    PanicInCall,
    Hang,
}

/// A service that does as it is asked to, however many ask.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Backend;

impl Service<Ask> for Backend {
    type Response = ();
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        assert!(!matches!(ask, Ask::PanicInCall), "asked to");
        Box::pin(async move {
            match ask {
                Ask::Answer(took) => sleep(took).await,
                Ask::Fail(took) => {
                    sleep(took).await;
                    return Err(Error::Inner(Fault("failed")));
                }
                Ask::Panic | Ask::PanicInCall => panic!("asked to"),
                Ask::Hang => pending().await,
            }
            Ok(())
        })
    }
}

/// What an adaptive limit asks of an algorithm.
trait Finds: Algorithm + Clone + PartialEq + Sync {}
impl<A: Algorithm + Clone + PartialEq + Sync> Finds for A {}

/// A service behind a limit.
struct Limited<A: Finds> {
    layer: AdaptiveLimitLayer<A>,
    handle: AdaptiveLimitHandle<A>,
    /// Of what the limit was whenever calls began or ended.
    lowest: u32,
    highest: u32,
}

impl<A: Finds> Limited<A> {
    fn new(config: AdaptiveLimitConfig<A>) -> Self {
        fastrand::seed(7);
        let layer = AdaptiveLimitLayer::new(config);
        let handle = layer.handle();
        Self { layer, handle, lowest: u32::MAX, highest: 0 }
    }

    fn limit(&self) -> u32 {
        self.handle.snapshot().max_in_flight
    }

    /// So many rounds of as many calls at the same time; how many were refused.
    async fn rounds(&mut self, rounds: u32, at_a_time: u32, ask: Ask) -> usize {
        let service = self.layer.layer(Backend);
        self.rounds_of(&service, rounds, at_a_time, ask).await
    }

    /// The same, of a service that is not the limit alone.
    async fn rounds_of<S>(&mut self, service: &S, rounds: u32, at_a_time: u32, ask: Ask) -> usize
    where
        S: Service<Ask, Response = (), Error = Failure, Future: Send> + Clone + Send + 'static,
    {
        let mut refused = 0;
        for _ in 0..rounds {
            let mut calls: JoinSet<_> = (0..at_a_time).map(|_| service.clone().oneshot(ask)).collect();
            while let Some(call) = calls.join_next().await {
                let is_refusal = |error: &Failure| {
                    error.rejected().is_some_and(|rejected| rejected.reason() == Reason::LimitReached)
                };
                refused += usize::from(call.is_ok_and(|answer| answer.is_err_and(|it| is_refusal(&it))));
                self.lowest = self.lowest.min(self.limit());
                self.highest = self.highest.max(self.limit());
            }
        }
        assert_eq!(self.handle.snapshot().in_flight, 0);
        refused
    }

    #[track_caller]
    fn assert_was_always(&self, limit: u32) {
        assert_eq!((self.lowest, self.highest), (limit, limit), "{:?}", self.layer);
    }
}

fn from<A: Finds>(limit: u32, algorithm: A) -> Limited<A> {
    Limited::new(AdaptiveLimitConfig::new().initial_limit(limit).algorithm(algorithm))
}

/// Runs a check with each algorithm there is.
macro_rules! with_each {
    ($check:ident) => {
        $check(Gradient::new()).await;
        $check(Aimd::new()).await;
        $check(Vegas::new()).await;
        $check(Gradient2::new()).await;
    };
}

/// Makes of each window what it is told to, and takes notes of it.
#[derive(Clone, Debug)]
struct Notes {
    samples: Arc<Mutex<Vec<Sample>>>,
    limit: Arc<Mutex<f64>>,
}

impl Notes {
    /// The limit stays at what it is, until another is set.
    fn new() -> Self {
        Self { samples: Arc::default(), limit: Arc::new(Mutex::new(f64::NAN)) }
    }

    fn set(&self, limit: f64) {
        *self.limit.lock().unwrap() = limit;
    }

    /// How many calls there were in all windows, and how many of them failed.
    fn calls(&self) -> (u64, u64) {
        let samples = self.samples.lock().unwrap();
        samples
            .iter()
            .fold((0, 0), |(calls, failures), sample| (calls + sample.calls, failures + sample.failures))
    }

    /// A window ends with the first call after 10 ms.
    fn config(&self) -> AdaptiveLimitConfig<Self> {
        AdaptiveLimitConfig::new().window(10 * MS).min_calls(1).algorithm(self.clone())
    }
}

impl PartialEq for Notes {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.samples, &other.samples)
    }
}

impl Algorithm for Notes {
    fn next(&mut self, _: f64, sample: &Sample) -> Next {
        self.samples.lock().unwrap().push(*sample);
        Next::limit(*self.limit.lock().unwrap())
    }
}

/// One call that ends a window, of those that [`Notes`] has, and succeeds. A window is twice as long as calls take.
async fn end_window<A: Finds>(handle: &AdaptiveLimitHandle<A>) {
    sleep(SECOND).await;
    let call = async {
        sleep(MS).await;
        Ok::<_, Failure>(())
    };
    handle.run(call).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_one_after_another_do_not_raise_the_limit() {
    async fn check<A: Finds>(algorithm: A) {
        let mut limited = from(10, algorithm);
        limited.rounds(2_000, 1, Ask::Answer(10 * MS)).await;
        limited.assert_was_always(10);
    }
    with_each!(check);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_failures_shrinks_the_limit_once() {
    async fn check<A: Finds>(algorithm: A) {
        let mut limited = from(64, algorithm);
        limited.rounds(100, 3, Ask::Answer(10 * MS)).await;
        limited.assert_was_always(64);
        limited.rounds(1, 20, Ask::Fail(MS)).await;
        limited.rounds(1_000, 3, Ask::Answer(10 * MS)).await;
        assert!((57..64).contains(&limited.lowest), "{} by {:?}", limited.lowest, limited.layer);
        assert_eq!(limited.limit(), limited.lowest);
    }
    with_each!(check);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_calls_given_up_on_a_backend_that_hangs_shrink_the_limit() {
    async fn check<A: Finds>(algorithm: A) {
        let mut limited = from(64, algorithm);
        let patient = TimeoutLayer::after(SECOND).layer(limited.layer.layer(Backend));
        limited.rounds_of(&patient, 100, 5, Ask::Answer(10 * MS)).await;
        limited.assert_was_always(64);
        let refused = limited.rounds_of(&patient, 2, 50, Ask::Hang).await;
        assert_eq!(refused, 0);
        assert!(limited.limit() < 64, "{:?}", limited.layer);
    }
    with_each!(check);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hung_gets_its_calls_back_soon() {
    let mut limited = from(64, Gradient::new());
    let patient = TimeoutLayer::after(SECOND).layer(limited.layer.layer(Backend));
    limited.rounds_of(&patient, 100, 20, Ask::Answer(10 * MS)).await;
    limited.rounds_of(&patient, 60, 64, Ask::Hang).await;
    assert_eq!(limited.limit(), 3);
    limited.rounds_of(&patient, 500, 20, Ask::Answer(10 * MS)).await;
    assert!(limited.limit() >= 20, "{:?}", limited.limit());
}

#[tokio::test(start_paused = true)]
async fn a_lucky_call_does_not_starve_the_service() {
    async fn check<A: Finds>(algorithm: A) {
        let mut limited = from(20, algorithm);
        limited.rounds(1, 1, Ask::Answer(MS)).await;
        limited.rounds(1_000, 20, Ask::Answer(20 * MS)).await;
        assert!(limited.lowest >= 4 && limited.limit() >= 20, "{} by {:?}", limited.lowest, limited.layer);
    }
    with_each!(check);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_became_slower_for_good_is_not_starved() {
    let mut limited = from(40, Gradient::new());
    limited.rounds(500, 40, Ask::Answer(10 * MS)).await;
    let before = limited.limit();
    assert!(before >= 40);
    for slower in [20 * MS, SECOND] {
        limited.rounds(300, 40, Ask::Answer(slower)).await;
        assert!(limited.limit() >= 40, "{} at {slower:?}", limited.limit());
    }
}

#[tokio::test(start_paused = true)]
async fn two_services_of_a_layer_share_one_limit() {
    let layer = AdaptiveLimitLayer::new(AdaptiveLimitConfig::new().initial_limit(5));
    let made = layer.clone().layer(Backend);
    let services = [layer.layer(Backend), layer.layer(Backend), made.clone(), made];
    let mut calls = Vec::new();
    for turn in 0..20 {
        let mut call = task::spawn(services[turn % 4].clone().oneshot(Ask::Hang));
        assert_eq!(call.poll().is_pending(), turn < 5);
        calls.push(call);
    }
    assert_eq!(layer.handle().snapshot().in_flight, 5);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_clones_share_one_limit() {
    let layer = AdaptiveLimitLayer::new(AdaptiveLimitConfig::new().initial_limit(1_000));
    let service = layer.layer(Backend);
    let clones = vec![service; 10_000];
    let mut calls: Vec<_> = clones.into_iter().map(|clone| task::spawn(clone.oneshot(Ask::Hang))).collect();
    let refused = calls.iter_mut().map(|call| call.poll().is_ready()).filter(|refused| *refused).count();
    assert_eq!((refused, layer.handle().snapshot().in_flight), (9_000, 1_000));
    drop(calls);
    assert_eq!(layer.handle().snapshot().in_flight, 0);
}

#[test]
fn a_configuration_that_makes_no_sense_is_an_error_that_names_the_field() {
    /// What is wrong with `bad`, however it is put to use.
    fn field<A: Finds>(bad: &AdaptiveLimitConfig<A>, good: A) -> &'static str {
        let good = AdaptiveLimitConfig::new().algorithm(good);
        let handle = AdaptiveLimitLayer::new(good.clone()).handle();
        let errors = [
            AdaptiveLimitLayer::try_new(bad.clone()).map(drop),
            AdaptiveLimitLayer::try_backpressure(bad.clone()).map(drop),
            AdaptiveLimitLayer::try_waiting(bad.clone()).map(drop),
            handle.reconfigure(bad.clone()),
        ];
        let fields = errors.map(|error| error.unwrap_err().field());
        assert_eq!(fields, [fields[0]; 4]);
        assert_eq!((handle.config(), handle.snapshot().max_in_flight), (good, 20), "something changed");
        fields[0]
    }
    let config = AdaptiveLimitConfig::new();
    let found = |bad| field(&bad, Gradient::new());
    assert_eq!(found(config.clone().min_limit(0)), "min_limit");
    assert_eq!(found(config.clone().min_limit(0).initial_limit(0).max_limit(0)), "min_limit");
    assert_eq!(found(config.clone().min_limit(3).max_limit(2)), "max_limit");
    assert_eq!(found(config.clone().max_limit(u32::MAX)), "max_limit");
    assert_eq!(found(config.clone().initial_limit(1_001)), "initial_limit");
    assert_eq!(found(config.clone().window(Duration::ZERO)), "window");
    assert_eq!(found(config.clone().window(Duration::MAX)), "window");
    assert_eq!(found(config.clone().min_calls(0)), "min_calls");
    assert_eq!(found(config.clone().min_calls(u32::MAX)), "min_calls");
    assert_eq!(found(config.clone().max_wait(Duration::ZERO)), "max_wait");
    assert_eq!(
        found(config.clone().headroom(PriorityShares::RECOMMENDED.default(f64::NAN))),
        "headroom.default"
    );
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, f64::MAX] {
        assert_eq!(found(config.clone().algorithm(Gradient::new().tolerance(value))), "tolerance");
        let bad = config.clone().algorithm(Aimd::new().max_failure_ratio(value));
        assert_eq!(field(&bad, Aimd::new()), "max_failure_ratio");
        let bad = config.clone().algorithm(Gradient2::new().smoothing(value));
        assert_eq!(field(&bad, Gradient2::new()), "smoothing");
    }
    let queue = AdaptiveLimitLayer::try_new(config.clone().max_queued(1));
    assert_eq!(queue.unwrap_err().field(), "max_queued");
    let extreme = config.max_limit(1_000_000).window(60 * SECOND).min_calls(100_000).max_wait(Duration::MAX);
    assert!(AdaptiveLimitLayer::try_waiting(extreme.max_queued(usize::MAX)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_classifier_decides_what_a_failure_is() {
    let (notes, by_notes) = (Notes::new(), Notes::new());
    let not_found = |answer: Result<&(), &Failure>| match answer {
        Err(Error::Inner(Fault("failed"))) => Class::Success,
        Err(_) => Class::Ignored,
        Ok(()) => Class::Failure,
    };
    let layer = AdaptiveLimitLayer::new(by_notes.config()).classify(not_found);
    let plain = AdaptiveLimitLayer::new(notes.config());
    for turn in 0..10 {
        let ask = if turn < 7 { Ask::Fail(20 * MS) } else { Ask::Answer(20 * MS) };
        let _ = layer.layer(Backend).oneshot(ask).await;
        let _ = plain.layer(Backend).oneshot(ask).await;
    }
    assert_eq!(by_notes.calls(), (10, 3));
    assert_eq!(notes.calls(), (10, 7));
}

#[test]
fn the_service_inside_can_be_had() {
    let layer = AdaptiveLimitLayer::new(AdaptiveLimitConfig::new());
    let mut service: AdaptiveLimit<Backend> = layer.layer(Backend);
    assert_eq!((*service.get_ref(), *service.get_mut()), (Backend, Backend));
    assert_eq!(service.into_inner(), Backend);
}
