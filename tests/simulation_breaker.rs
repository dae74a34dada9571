//! A minute of outage in a moment: breakers around a virtual dependency, under paused time.
//!
//! Beside each run goes a naive one that must fail it, so that it is known to bite.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "time is paused; helpers of a test")]

#[path = "support/fault.rs"]
mod fault;
#[path = "support/virtual_server.rs"]
mod virtual_server;

use std::time::Duration;

use stanchion::circuit_breaker::State;
use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Window};
use tokio::task::spawn_local;
use tokio::time::sleep;
use tower::layer::util::Identity;
use tower::{Layer, Service, ServiceExt};
use virtual_server::{Answer, Latency, MILLISECOND, Mode, Request, SECOND, Server, Traffic, simulate};

fn server() -> Server {
    Server::without_queue(Latency::Fixed(5 * MILLISECOND))
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

/// A minute of failures in the middle of two, at 200 calls per second; what reached the server meanwhile.
async fn outage<L>(layer: L) -> (Server, usize)
where
    L: Layer<Server, Service: Service<Request, Response = Answer, Error: 'static> + Clone + 'static>,
{
    let server = server().weather([(10 * SECOND, Mode::Fails(1.0)), (70 * SECOND, Mode::Well)]);
    let clients = [layer.layer(server.clone())];
    Traffic::steady(200, 90 * SECOND).drive(&server, &clients).await;
    let reached = server.arrived(10 * SECOND..70 * SECOND);
    (server, reached)
}

#[test]
fn a_minute_of_outage_costs_the_dependency_a_dozen_calls() {
    simulate(async {
        let layer = CircuitBreakerLayer::new(config());
        let handle = layer.handle();
        let (server, reached) = outage(layer).await;
        // Five of ten have to fail, one or two are in flight by then, and it probes after 1, 3, 7, 15 and 31 s.
        assert!(reached <= 5 + 2 + 5, "{reached} calls reached it");
        // The wait that was going on ends 61 s after the opening, one second after the recovery.
        assert_eq!(server.arrived(70 * SECOND..71 * SECOND), 0);
        assert!(server.arrived(72 * SECOND..73 * SECOND) >= 199, "it is back");
        assert_eq!(handle.state(), State::Closed);

        let (_, reached) = outage(Identity::new()).await;
        assert_eq!(reached, 12_000, "without a breaker");
    });
}

/// A backend that never answers, and callers who wait for 30 s, at 1,000 calls per second.
fn hang(config: CircuitBreakerConfig) -> usize {
    simulate(async {
        let server = server().weather([(Duration::ZERO, Mode::Hangs(30 * SECOND))]);
        let layer = CircuitBreakerLayer::new(config.open_for(60 * SECOND));
        let clients = [layer.layer(server.clone())];
        Traffic::steady(1_000, 31 * SECOND).drive(&server, &clients).await;
        assert_eq!(layer.handle().state(), State::Open);
        server.arrived(Duration::ZERO..Duration::MAX)
    })
}

#[test]
fn a_backend_that_hangs_is_cut_off_after_its_first_quarter_of_a_second() {
    let slow = CircuitBreakerConfig::new().slow_after(200 * MILLISECOND);
    let admitted = hang(slow.clone());
    assert!(admitted <= 250, "{admitted} calls were admitted");
    let admitted = hang(slow.slow_in_flight(false));
    assert!(admitted >= 29_000, "{admitted}: this is what happens if only calls count that have ended");
}

#[test]
fn of_a_thousand_callers_at_the_end_of_the_wait_only_the_probes_pass() {
    for probes in [1, 3] {
        simulate(async {
            let server = server();
            let layer = CircuitBreakerLayer::new(config().probes(probes));
            layer.handle().trip();
            sleep(SECOND).await;
            let service = layer.layer(server.clone());
            let callers = (0..1_000).map(|id| spawn_local(service.clone().oneshot(Request::new(id))));
            let callers: Vec<_> = callers.collect();
            let mut passed = 0;
            for caller in callers {
                passed += u32::from(caller.await.unwrap().is_ok());
            }
            assert_eq!(passed, probes);
            assert_eq!(server.arrived(Duration::ZERO..Duration::MAX), probes as usize);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_million_idle_breakers_need_no_task_and_no_timer() {
    let layer = CircuitBreakerLayer::new(config().window(Window::calls(100)));
    let breakers: Vec<_> = (0..1_000_000).map(|_| layer.with_new_state()).collect();
    let handles = breakers.iter().map(CircuitBreakerLayer::handle);
    assert!(handles.step_by(100_000).all(|handle| handle.state() == State::Closed));
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}
