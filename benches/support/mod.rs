//! What the benches share: the services, the loop that calls them, and every case that is measured.

#![allow(dead_code, reason = "each bench uses its part")]
#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

pub(crate) mod cases;
mod floors;
mod layers;
mod tower_layers;

use std::hint::black_box;
use std::time::{Duration, Instant};

use stanchion::classify::Class;
use stanchion::{CircuitBreakerHandle, Rejected};
use tokio::runtime::{Builder, Runtime};
use tower::{Service, ServiceExt};

/// What the service says when it fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

pub(crate) type Error = stanchion::Error<Failed>;

/// The service of the cases whose calls succeed: as little as a service can do.
pub(crate) async fn echo(request: u64) -> Result<u64, Error> {
    Ok(request)
}

/// Thirty-one failures, then a success.
pub(crate) async fn mostly_fail(request: u64) -> Result<u64, Error> {
    if request % 32 == 0 { Ok(request) } else { Err(Error::Inner(Failed)) }
}

/// How many of the calls succeed. Checked after each loop: nothing is fast because it tripped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expect {
    Success,
    /// As [`mostly_fail`] has it.
    Failure,
    Refusal,
}

impl Expect {
    fn check(self, name: &str, calls: u64, succeeded: u64) {
        let as_expected = match self {
            Self::Success => succeeded == calls,
            Self::Failure => succeeded.abs_diff(calls / 32) <= 1,
            Self::Refusal => succeeded == 0,
        };
        assert!(as_expected, "{name}: {succeeded} of {calls} calls succeeded");
    }
}

/// Something that is called. A clone shares the circuit.
pub(crate) trait Contestant: Clone + Send + 'static {
    /// Makes a call; whether it succeeded.
    fn call(&mut self, request: u64) -> impl Future<Output = bool>;
}

/// A service, called as tower says: when it is ready.
#[derive(Clone)]
pub(crate) struct Tower<S>(pub(crate) S);

impl<S: Service<u64> + Clone + Send + 'static> Contestant for Tower<S> {
    async fn call(&mut self, request: u64) -> bool {
        match self.0.ready().await {
            // All of the answer is opaque, so that no part of an error is left out.
            Ok(service) => black_box(service.call(request).await).is_ok(),
            Err(_) => false,
        }
    }
}

/// A service called under a permit, without a layer around it.
#[derive(Clone)]
pub(crate) struct ByHand<S>(pub(crate) CircuitBreakerHandle, pub(crate) S);

impl<S: Service<u64, Error = Error> + Clone + Send + 'static> Contestant for ByHand<S> {
    async fn call(&mut self, request: u64) -> bool {
        let Ok(service) = self.1.ready().await else { return false };
        let permit = match self.0.try_acquire() {
            Ok(permit) => permit,
            Err(rejected) => return black_box::<Result<(), Rejected>>(Err(rejected)).is_ok(),
        };
        let answer = black_box(service.call(request).await);
        permit.finish(if answer.is_ok() { Class::Success } else { Class::Failure });
        answer.is_ok()
    }
}

/// A number of calls one after another, by one clone of a contestant; how long they took.
pub(crate) type Lap = Box<dyn FnMut(&Runtime, u64) -> Duration + Send>;

/// A contestant with its name.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The case that does no more than this one must, to be compared with.
    pub(crate) floor: Option<&'static str>,
    lap: Box<dyn Fn() -> Lap>,
}

impl Case {
    pub(crate) fn new(name: &'static str, expect: Expect, contestant: impl Contestant) -> Self {
        let lap = move || lap(name, expect, contestant.clone());
        Self { name, floor: None, lap: Box::new(lap) }
    }

    pub(crate) fn above(self, floor: &'static str) -> Self {
        Self { floor: Some(floor), ..self }
    }

    /// Calls by a clone that shares the circuit with all others of this case.
    pub(crate) fn lap(&self) -> Lap {
        (self.lap)()
    }
}

fn lap(name: &'static str, expect: Expect, mut contestant: impl Contestant) -> Lap {
    let mut next = 0_u64;
    Box::new(move |runtime, calls| {
        let contestant = &mut contestant;
        // A loop that never waits would use up tokio's budget for a task, and be made to yield.
        runtime.block_on(tokio::task::unconstrained(async {
            let mut succeeded = 0;
            let began = Instant::now();
            for request in next..next.wrapping_add(calls) {
                succeeded += u64::from(contestant.call(black_box(request)).await);
            }
            let took = began.elapsed();
            next = next.wrapping_add(calls);
            expect.check(name, calls, succeeded);
            took
        }))
    })
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime for one thread")
}

/// Nanoseconds for each of `calls`.
#[allow(clippy::cast_precision_loss, reason = "a figure to be read")]
pub(crate) fn each(took: Duration, calls: u64) -> f64 {
    took.as_nanos() as f64 / calls as f64
}

/// Whether this run is only to show that everything still works, as `cargo bench -- --test` says; and `cargo test`,
/// by not saying `--bench`.
pub(crate) fn is_test() -> bool {
    has_flag("--test") || !has_flag("--bench")
}

pub(crate) fn has_flag(flag: &str) -> bool {
    std::env::args().any(|arg| arg == flag)
}

/// With the feature `metrics`, a recorder as an application has it, installed before anything is built. To be called
/// now and then, as that application's exporter would: it takes out what has been recorded.
pub(crate) fn record_metrics() -> impl Fn() {
    #[cfg(feature = "metrics")]
    {
        let exporter = metrics_exporter_prometheus::PrometheusBuilder::new()
            .set_buckets(&[0.001, 0.01, 0.1, 1.0])
            .expect("there are buckets")
            .install_recorder()
            .expect("it is the first recorder");
        move || exporter.run_upkeep()
    }
    #[cfg(not(feature = "metrics"))]
    || {}
}

/// The features that make a breaker do more for each call.
pub(crate) const LISTENING: &str = match (cfg!(feature = "metrics"), cfg!(feature = "tracing")) {
    (false, false) => "",
    (true, false) => ", with metrics",
    (false, true) => ", with tracing",
    (true, true) => ", with metrics and tracing",
};
