//! What copies of slow calls do to a server that is nearly fully used, under paused time.
//!
//! Ten workers take 10 ms for a call on average, callers leave after 100 ms, and the server does not notice.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "time is paused; helpers of a test")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers are small")]

#[path = "support/fault.rs"]
mod fault;
#[path = "support/virtual_server.rs"]
mod virtual_server;

use std::time::Duration;

use stanchion::{HedgeConfig, HedgeLayer};
use tokio::task::spawn_local;
use tokio::time::timeout;
use tower::{Layer, Service, ServiceExt, service_fn};
use virtual_server::{Answer, Failed, Latency, Request, SECOND, Server, Traffic, seed, simulate};

const PATIENCE: Duration = Duration::from_millis(100);
const WORKERS: usize = 10;

/// With a mean of 10 ms.
const LAWS: [(&str, Latency); 2] = [
    ("lognormal 1.5", Latency::Lognormal { median: Duration::from_nanos(3_246_525), sigma: 1.5 }),
    ("exponential", Latency::Exponential { mean: Duration::from_millis(10) }),
];

/// The share of calls that are answered in time, and the requests for each.
fn run<S>(latency: Latency, load: f64, client: impl Fn(Server) -> S) -> (f64, f64)
where
    S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
{
    simulate(async {
        let server = Server::of(WORKERS, latency);
        let hedged = client(server.clone());
        let client = service_fn(move |request| {
            let mut call = Box::pin(hedged.clone().oneshot(request));
            async move {
                match timeout(PATIENCE, &mut call).await {
                    Ok(result) => result.map_err(drop),
                    Err(_) => {
                        // Nobody tells the service inside that the caller has gone.
                        spawn_local(call);
                        Err(())
                    }
                }
            }
        });
        let all = 10 * SECOND..60 * SECOND;
        let calls = Traffic::random((1_000.0 * load) as u32, all.end).drive(&server, &[client]).await;
        (calls.success(all.clone()), calls.amplification(&server, all))
    })
}

fn hedged(
    server: Server,
) -> impl Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone {
    HedgeLayer::new(HedgeConfig::new()).layer(server)
}

#[test]
fn copies_do_not_take_capacity_from_a_server_that_is_nearly_fully_used() {
    for (name, latency) in LAWS {
        for load in [0.7, 0.9, 0.95] {
            let (without, _) = run(latency, load, |server| server);
            let (with, requests) = run(latency, load, hedged);
            let extra = 100.0 * (requests - 1.0);
            println!("{name} at {load}: {without:.3} -> {with:.3} with {extra:.1} % more (seed {})", seed());
            assert!(with >= without - 0.02, "{name} at {load}: {without} -> {with}");
        }
    }
}

/// Without the check they do.
#[test]
fn copies_that_look_at_no_trend_take_capacity_from_all_calls() {
    let (_, latency) = LAWS[0];
    let config = HedgeConfig::new().max_slowdown(f64::INFINITY);
    let (without, _) = run(latency, 0.9, |server| server);
    let (with, _) = run(latency, 0.9, |server| HedgeLayer::new(config.clone()).layer(server));
    println!("{without:.3} -> {with:.3}");
    assert!(with < without - 0.05, "{without} -> {with}");
}
