//! All that uses stanchion, so that the rest can be measured without compiling it.

use std::hint::black_box;
use std::time::Duration;

use stanchion::classify::Class;
use stanchion::{CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer, Window};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::measure::{Contestant, Tower};
use crate::row::{Expect::*, OURS_COUNT, OURS_OPEN, OURS_TIME, Row};
use crate::service::{Failed, echo, fragile, opened};

pub type Error = stanchion::Error<Failed>;

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        Self::Inner(failed)
    }
}

const OURS_FAILED: &str = "**stanchion**, failed, 100 calls";

fn config(window: Window) -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .window(window)
        .min_calls(100)
        .failure_ratio(0.5)
        .open_for(Duration::from_secs(3_600))
}

pub fn by_count() -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(config(Window::calls(100)))
}

/// With slow calls if `slow_in_flight` says whether those that still run count.
pub fn by_time(slow_in_flight: Option<bool>) -> CircuitBreakerLayer {
    let config = config(Window::time(Duration::from_secs(60)).buckets(10));
    CircuitBreakerLayer::new(match slow_in_flight {
        Some(in_flight) => {
            config.slow_after(Duration::from_secs(1)).slow_ratio(0.5).slow_in_flight(in_flight)
        }
        None => config,
    })
}

/// Its breakers share all but their state, as those of the peers do.
fn succeeding(name: &'static str, layer: CircuitBreakerLayer) -> Row {
    Row::with_heap(name, Success, move || Tower(layer.with_new_state().layer(service_fn(echo::<Error>))))
}

pub fn successes() -> Vec<Row> {
    vec![
        succeeding(OURS_COUNT, by_count()),
        Row::new(
            "**stanchion**, 100 calls, permit by hand",
            Success,
            ByHand(by_count().handle(), service_fn(echo::<Error>)),
        )
        .against(OURS_COUNT),
        succeeding(OURS_TIME, by_time(Some(true))),
        succeeding("**stanchion**, the same, slow calls only when ended", by_time(Some(false)))
            .against(OURS_TIME),
    ]
}

/// Recording a failure must not cost more when the window holds more of them.
pub fn failures() -> Vec<Row> {
    vec![
        failing(OURS_FAILED, 100),
        failing("**stanchion**, failed, 1,000 calls", 1_000),
        failing("**stanchion**, failed, 10,000 calls", 10_000),
    ]
}

/// A threshold of 100 % and one success in 32 calls: as full of failures as the window of a closed
/// breaker can be when two threads count in turns (any 100 calls hold at least 32 of one of them).
fn failing(name: &'static str, calls: u32) -> Row {
    let layer = CircuitBreakerLayer::new(config(Window::calls(calls)).failure_ratio(1.0));
    let make = move || {
        Tower(layer.with_new_state().layer(service_fn(|req: u64| async move {
            if req.is_multiple_of(32) { Ok(req) } else { Err(Error::Inner(Failed)) }
        })))
    };
    Row::with_heap(name, Failure, make).against(OURS_FAILED)
}

pub fn refusals() -> Vec<Row> {
    vec![
        Row::new(
            OURS_OPEN,
            Refusal,
            opened(|failing| Tower(by_count().layer(service_fn(move |req| fragile::<Error>(failing, req))))),
        ),
        Row::new(
            "**stanchion**, open, permit by hand",
            Refusal,
            opened(|failing| {
                ByHand(by_count().handle(), service_fn(move |req| fragile::<Error>(failing, req)))
            }),
        )
        .against(OURS_OPEN),
    ]
}

/// The breaker without its layer: a permit taken and finished around the call.
#[derive(Clone)]
struct ByHand<S>(CircuitBreakerHandle, S);

impl<S> Contestant for ByHand<S>
where
    S: Service<u64, Response = u64, Error = Error> + Clone + Send + 'static,
{
    async fn call(&mut self, req: u64) -> bool {
        let Ok(service) = self.1.ready().await else { return false };
        let permit = match self.0.try_acquire() {
            Ok(permit) => permit,
            Err(rejected) => {
                black_box(rejected);
                return false;
            }
        };
        let answer = black_box(service.call(req).await);
        permit.finish(if answer.is_ok() { Class::Success } else { Class::Failure });
        answer.is_ok()
    }
}
