//! A minute of outage in a moment: breakers around a virtual dependency, under paused time.
//!
//! Beside each run goes a naive one that must fail it, so that it is known to bite.

#![allow(clippy::disallowed_methods, reason = "time is paused")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use stanchion::circuit_breaker::State;
use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Error, Window};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

type Failed = Error<&'static str>;

const SECOND: Duration = Duration::from_secs(1);

/// A dependency that answers, fails or hangs, and notes when it was called.
#[derive(Clone)]
struct Dependency {
    start: Instant,
    mode: Rc<Cell<Mode>>,
    calls: Rc<RefCell<Vec<Duration>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Well,
    Fails,
    Hangs(Duration),
}

impl Dependency {
    fn new() -> Self {
        Self { start: Instant::now(), mode: Rc::new(Cell::new(Mode::Well)), calls: Rc::default() }
    }

    fn service(&self) -> impl Service<(), Response = (), Error = Failed> + Clone + use<> {
        let this = self.clone();
        service_fn(move |()| {
            let this = this.clone();
            async move {
                this.calls.borrow_mut().push(this.start.elapsed());
                match this.mode.get() {
                    Mode::Well => {
                        sleep(Duration::from_millis(5)).await;
                        Ok(())
                    }
                    Mode::Fails => {
                        sleep(Duration::from_millis(5)).await;
                        Err(Error::Inner("503"))
                    }
                    Mode::Hangs(timeout) => {
                        sleep(timeout).await;
                        Err(Error::Inner("timed out"))
                    }
                }
            }
        })
    }

    fn calls_between(&self, from: Duration, to: Duration) -> usize {
        self.calls.borrow().iter().filter(|at| (from..to).contains(at)).count()
    }
}

/// Sends requests at a steady rate, whether or not the ones before have come back.
async fn drive<S>(service: S, rate: u32, time: Duration)
where
    S: Service<(), Response = (), Error = Failed> + Clone + 'static,
{
    let end = Instant::now() + time;
    while Instant::now() < end {
        let mut service = service.clone();
        tokio::task::spawn_local(async move {
            if let Ok(ready) = service.ready().await {
                let _ = ready.call(()).await;
            }
        });
        sleep(SECOND / rate).await;
    }
}

fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .window(Window::calls(10))
        .min_calls(5)
        .failure_ratio(0.5)
        .open_for(SECOND)
        .max_open_for(30 * SECOND)
        .open_jitter(0.0)
        .probes(1)
}

/// A minute of failures in the middle of two, at 200 calls per second; what reached the dependency meanwhile.
async fn outage(wrap: Option<CircuitBreakerLayer>) -> (Dependency, usize) {
    let dependency = Dependency::new();
    let sick = dependency.clone();
    let traffic = async {
        match &wrap {
            Some(layer) => drive(layer.layer(dependency.service()), 200, 90 * SECOND).await,
            None => drive(dependency.service(), 200, 90 * SECOND).await,
        }
    };
    let weather = async {
        sleep(10 * SECOND).await;
        sick.mode.set(Mode::Fails);
        sleep(60 * SECOND).await;
        sick.mode.set(Mode::Well);
    };
    LocalSet::new().run_until(async { tokio::join!(traffic, weather) }).await;
    let reached = dependency.calls_between(10 * SECOND, 70 * SECOND);
    (dependency, reached)
}

#[tokio::test(start_paused = true)]
async fn a_minute_of_outage_costs_the_dependency_a_dozen_calls() {
    let layer = CircuitBreakerLayer::new(config());
    let handle = layer.handle();
    let (dependency, reached) = outage(Some(layer)).await;
    // Five of ten have to fail, one or two are in flight by then, and it probes after 1, 3, 7, 15 and 31 s.
    assert!(reached <= 5 + 2 + 5, "{reached} calls reached it");
    // The wait that was going on ends 61 s after the opening, one second after the recovery.
    assert_eq!(dependency.calls_between(70 * SECOND, 71 * SECOND), 0);
    assert!(dependency.calls_between(72 * SECOND, 73 * SECOND) >= 199, "it is back");
    assert_eq!(handle.state(), State::Closed);

    let (_, reached) = outage(None).await;
    assert_eq!(reached, 12_000, "without a breaker");
}

/// A backend that never answers, and callers who wait for 30 s, at 1,000 calls per second.
async fn hang(config: CircuitBreakerConfig) -> usize {
    let dependency = Dependency::new();
    dependency.mode.set(Mode::Hangs(30 * SECOND));
    let layer = CircuitBreakerLayer::new(config.open_for(60 * SECOND));
    let handle = layer.handle();
    let traffic = drive(layer.layer(dependency.service()), 1_000, 31 * SECOND);
    LocalSet::new().run_until(traffic).await;
    assert_eq!(handle.state(), State::Open);
    dependency.calls.borrow().len()
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_is_cut_off_after_its_first_quarter_of_a_second() {
    let slow = CircuitBreakerConfig::new().slow_after(Duration::from_millis(200));
    let admitted = hang(slow.clone()).await;
    assert!(admitted <= 250, "{admitted} calls were admitted");
    let admitted = hang(slow.slow_in_flight(false)).await;
    assert!(admitted >= 29_000, "{admitted}: this is what happens if only calls count that have ended");
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_callers_at_the_end_of_the_wait_only_the_probes_pass() {
    for probes in [1, 3] {
        let dependency = Dependency::new();
        let layer = CircuitBreakerLayer::new(config().probes(probes));
        layer.handle().trip();
        sleep(SECOND).await;
        let service = layer.layer(dependency.service());
        let callers = (0..1_000).map(|_| {
            let mut service = service.clone();
            async move { service.ready().await?.call(()).await }
        });
        let local = LocalSet::new();
        let callers: Vec<_> = callers.map(|caller| local.spawn_local(caller)).collect();
        local.await;
        let mut passed = 0;
        for caller in callers {
            passed += u32::from(caller.await.unwrap().is_ok());
        }
        assert_eq!(passed, probes);
        assert_eq!(dependency.calls.borrow().len(), probes as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn a_million_idle_breakers_need_no_task_and_no_timer() {
    let layer = CircuitBreakerLayer::new(config().window(Window::calls(100)));
    let breakers: Vec<_> = (0..1_000_000).map(|_| layer.fresh()).collect();
    let handles = breakers.iter().map(CircuitBreakerLayer::handle);
    assert!(handles.step_by(100_000).all(|handle| handle.state() == State::Closed));
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}
