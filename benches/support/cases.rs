//! The cases, by name. Their names are stable: baselines and tables refer to them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use stanchion::telemetry::{Event, LayerId, Observer};
use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Window};
use tower::{Layer, service_fn};

use super::floors::{Clocks, Line, Striped, leaked, passing, refusing};
use super::{ByHand, Case, Contestant, Expect, Tower, echo, mostly_fail};
use super::{layers, tower_layers};

pub(crate) const BARE: &str = "bare service";
pub(crate) const COUNTING: &str = "floor: load, 1 RMW, Arc in the future";
pub(crate) const TIMING: &str = "floor: load, 2 clocks, 1 RMW, Arc in the future";
pub(crate) const ENDING: &str = "floor: load, 1 clock, 1 RMW, Arc in the future";
pub(crate) const REFUSING: &str = "floor: load, 1 clock, rejected";
pub(crate) const OPEN: &str = "open";

/// All of them, each with a circuit of its own.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = vec![
        Case::new(BARE, Expect::Success, Tower(service_fn(echo))),
        Case::new("floor: load, 1 RMW", Expect::Success, passing(Clocks::None, leaked())),
        Case::new(COUNTING, Expect::Success, passing(Clocks::None, Arc::<Line>::default())),
        Case::new(ENDING, Expect::Success, passing(Clocks::End, Arc::<Line>::default())),
        Case::new(TIMING, Expect::Success, passing(Clocks::StartAndEnd, Arc::<Line>::default())),
        Case::new(
            "floor: load, 1 RMW, line and Arc for each clone",
            Expect::Success,
            passing(Clocks::None, Striped::default()),
        ),
        succeeding("100 calls", by_count()).above(COUNTING),
        Case::new(
            "100 calls, permit by hand",
            Expect::Success,
            ByHand(layer(by_count()).handle(), service_fn(echo)),
        )
        .above(COUNTING),
        succeeding("100 calls, 5 failures in a row", by_count().consecutive_failures(5)).above(COUNTING),
        succeeding("100 calls, ramp not active", by_count().ramp(Duration::from_secs(10))).above(COUNTING),
        succeeding("60 s", by_time()).above(ENDING),
        succeeding("60 s, slow calls that have ended", by_slowness(false)).above(TIMING),
        succeeding("60 s, slow calls also in flight", by_slowness(true)).above(TIMING),
        observed("100 calls, observer of all but calls", Listening { wants_calls: false }).above(COUNTING),
        observed("100 calls, observer of each call", Listening { wants_calls: true }).above(TIMING),
        failing("failed, 100 calls", by_count()).above(COUNTING),
        failing("failed, 1,000 calls", config(Window::calls(1_000))).above(COUNTING),
        failing("failed, 10,000 calls", config(Window::calls(10_000))).above(COUNTING),
        failing("failed, 60 s, slow calls also in flight", by_slowness(true)).above(TIMING),
        Case::new(REFUSING, Expect::Refusal, refusing()),
        Case::new(OPEN, Expect::Refusal, opened()).above(REFUSING),
        Case::new("open, permit by hand", Expect::Refusal, opened_by_hand()).above(REFUSING),
    ];
    cases.extend(tower_layers::all());
    cases.extend(layers::all());
    cases
}

/// The last 100 calls, half of them.
pub(crate) fn by_count() -> CircuitBreakerConfig {
    config(Window::calls(100))
}

/// The last minute in ten buckets, half of the calls.
pub(crate) fn by_time() -> CircuitBreakerConfig {
    config(Window::time(Duration::from_secs(60)).buckets(10))
}

/// As [`by_time`], and half of the calls slower than a second.
pub(crate) fn by_slowness(in_flight: bool) -> CircuitBreakerConfig {
    by_time().slow_after(Duration::from_secs(1)).slow_ratio(0.5).slow_in_flight(in_flight)
}

/// Half of the calls, a hundred of them at least. It stays open for longer than anybody measures.
fn config(window: Window) -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .window(window)
        .min_calls(100)
        .failure_ratio(0.5)
        .open_for(Duration::from_secs(3_600))
}

fn layer(config: CircuitBreakerConfig) -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(config)
}

fn succeeding(name: &'static str, config: CircuitBreakerConfig) -> Case {
    Case::new(name, Expect::Success, Tower(layer(config).layer(service_fn(echo))))
}

/// A threshold that the calls only just do not reach: there is always a success among a hundred.
fn failing(name: &'static str, config: CircuitBreakerConfig) -> Case {
    let layer = layer(config.failure_ratio(1.0));
    Case::new(name, Expect::Failure, Tower(layer.layer(service_fn(mostly_fail))))
}

pub(crate) struct Listening {
    pub(crate) wants_calls: bool,
}

impl Observer for Listening {
    fn on_event(&self, source: &LayerId, event: &Event<'_>) {
        black_box((source, event));
    }

    fn wants_calls(&self) -> bool {
        self.wants_calls
    }
}

fn observed(name: &'static str, observer: Listening) -> Case {
    let layer = layer(by_count()).observer(observer);
    Case::new(name, Expect::Success, Tower(layer.layer(service_fn(echo))))
}

fn opened() -> impl Contestant {
    let layer = layer(by_count());
    layer.handle().trip();
    Tower(layer.layer(service_fn(echo)))
}

fn opened_by_hand() -> impl Contestant {
    let handle = layer(by_count()).handle();
    handle.trip();
    ByHand(handle, service_fn(echo))
}
