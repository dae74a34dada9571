//! Overload by callers of several kinds: those that matter more are served, and nobody takes what is due to others.
//!
//! The server and the callers are those of `simulation_overload.rs`, and so is the seed.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "time is paused; helpers of a test")]
#![allow(
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "numbers are small; helpers of a test"
)]

#[path = "support/fault.rs"]
mod fault;
#[path = "support/overload.rs"]
mod overload;
#[path = "support/virtual_server.rs"]
mod virtual_server;

use std::slice::from_ref;
use std::time::Duration;

use overload::{CAPACITY, Callers, Outcome, behind, deadline};
use stanchion::admission::MinRemaining;
use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, BulkheadConfig, CallAttributes, Criticality, PriorityShares,
    QueueDiscipline, Tenant,
};
use tokio::task::spawn_local;
use tower::{Layer, Service};
use virtual_server::{Answer, Failed, Request, SECOND, Server, Traffic, seed, simulate};

/// What comes of calls of some kinds, so many of each per second, from the fifth second to the twentieth.
fn outcomes<S>(rates: &[u32], guard: impl FnOnce(Server) -> S) -> Vec<Outcome>
where
    S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
{
    fastrand::seed(seed());
    simulate(async {
        let server = Server::of_ten_workers();
        let callers = Callers::new(guard(server.clone()));
        let drives: Vec<_> = (0..)
            .zip(rates)
            .map(|(kind, rate)| {
                let (server, callers) = (server.clone(), callers.clone().of_kind(kind));
                let traffic = Traffic::random(*rate, 20 * SECOND).named(kind);
                spawn_local(async move { traffic.drive(&server, from_ref(&callers)).await })
            })
            .collect();
        let mut outcomes = Vec::new();
        for drive in drives {
            outcomes.push(Outcome::of(&[&drive.await.unwrap()], &(5 * SECOND..20 * SECOND)));
        }
        outcomes
    })
}

fn goodput(outcomes: &[Outcome]) -> f64 {
    let in_time: usize = outcomes.iter().map(Outcome::in_time).sum();
    in_time as f64 / (f64::from(CAPACITY) * 15.0)
}

fn criticality(request: &Request) -> CallAttributes {
    let levels = [Criticality::CRITICAL, Criticality::DEFAULT, Criticality::SHEDDABLE];
    deadline(request).criticality(*levels.get(usize::from(request.kind)).unwrap())
}

fn tenant(request: &Request) -> CallAttributes {
    deadline(request).tenant(Tenant::of(request.kind))
}

/// A few more calls at a time than there are workers, so that these always have something to do.
fn queue() -> BulkheadConfig {
    BulkheadConfig::new().max_in_flight(12).max_queued(100).max_wait(Duration::from_millis(100))
}

/// Critical calls, others, and those that can be shed: twice and ten times what the server can do.
const MIXES: [[u32; 3]; 2] = [[300, 700, 1_000], [300, 700, 9_000]];

#[test]
fn critical_calls_are_served_whatever_comes() {
    for mix in MIXES {
        let config = queue().discipline(QueueDiscipline::controlled_delay());
        let outcomes = outcomes(&mix, behind(config, criticality));
        let success: Vec<f64> = outcomes.iter().map(Outcome::success).collect();
        println!("priorities {mix:?}: {success:.3?}, goodput {:.3} (seed {})", goodput(&outcomes), seed());
        assert!(success[0] >= 0.99, "{success:?}");
        assert!(goodput(&outcomes) >= 0.95);
        assert!(success[1] > success[2], "{success:?}");
    }
}

/// Without a queue: some of a limit that finds itself is kept.
#[test]
fn headroom_is_kept_for_critical_calls() {
    for mix in MIXES {
        let config = AdaptiveLimitConfig::new().headroom(PriorityShares::RECOMMENDED);
        let layer = AdaptiveLimitLayer::new(config).attributes(criticality);
        let outcomes = outcomes(&mix, |server| layer.layer(server));
        let success: Vec<f64> = outcomes.iter().map(Outcome::success).collect();
        println!("headroom {mix:?}: {success:.3?}, goodput {:.3} (seed {})", goodput(&outcomes), seed());
        assert!(success[0] >= 0.99, "{success:?}");
        // In a second in ten it measures what is usual, with less than half of the limit.
        assert!(goodput(&outcomes) >= 0.92);
    }
}

/// So the figures bite.
#[test]
fn without_a_criticality_critical_calls_fare_like_all() {
    let [_, mix] = MIXES;
    let config = queue().discipline(QueueDiscipline::controlled_delay());
    let outcomes = outcomes(&mix, behind(config, deadline));
    assert!(outcomes[0].success() < 0.6, "{outcomes:?}");
}

/// Nine polite tenants and one that wants twice what the server can do.
const TENANTS: [u32; 10] = [80, 80, 80, 80, 80, 80, 80, 80, 80, 2_000];

fn polite(success: &[f64]) -> (f64, f64) {
    let polite = &success[..9];
    (polite.iter().copied().fold(1.0, f64::min), polite.iter().sum::<f64>() / 9.0)
}

#[test]
fn a_tenant_cannot_take_what_others_need() {
    let config = queue().min_remaining(MinRemaining::Measured(0.99));
    let outcomes = outcomes(&TENANTS, behind(config, tenant));
    let success: Vec<f64> = outcomes.iter().map(Outcome::success).collect();
    let (min, mean) = polite(&success);
    let (aggressor, goodput) = (success[9], goodput(&outcomes));
    println!(
        "tenants: polite {min:.3} to mean {mean:.3}, aggressor {aggressor:.3}, goodput {goodput:.3} (seed {})",
        seed()
    );
    assert!(min >= 0.90 && mean >= 0.93, "{success:?}");
    // What the polite ones leave of what the server can do.
    assert!((0.14 * 0.8..=0.14 * 1.2).contains(&aggressor), "{aggressor}");
    assert!(goodput >= 0.95, "{goodput}");
}

/// The disciplines detect overload for all tenants together, and yet one tenant alone does not
/// switch it on for the others.
#[test]
fn a_tenant_that_floods_its_lane_does_not_have_the_calls_of_others_dropped() {
    for discipline in [QueueDiscipline::adaptive_lifo(), QueueDiscipline::controlled_delay()] {
        let config = queue().max_queued(10_000).discipline(discipline);
        let outcomes = outcomes(&TENANTS, behind(config, tenant));
        let success: Vec<f64> = outcomes.iter().map(Outcome::success).collect();
        let ((min, mean), goodput) = (polite(&success), goodput(&outcomes));
        println!(
            "flood, {discipline:?}: polite {min:.3} to mean {mean:.3}, aggressor {:.3}, goodput {goodput:.3} (seed {})",
            success[9],
            seed()
        );
        assert!(min >= 0.90 && mean >= 0.93, "{discipline:?}: {success:?}");
        assert!(goodput >= 0.95, "{discipline:?}: {goodput}");
    }
}

/// Two hundred tenants who make 600 calls per second together, and one that makes 2,000.
fn many_tenants(request: &Request) -> CallAttributes {
    let tenant = if request.kind == 0 { request.id % 200 } else { 1_000 };
    deadline(request).tenant(Tenant::of(tenant))
}

#[test]
fn a_tenant_that_floods_its_lane_does_not_have_the_calls_of_many_others_dropped() {
    for discipline in [QueueDiscipline::adaptive_lifo(), QueueDiscipline::controlled_delay()] {
        let config = queue().max_queued(10_000).discipline(discipline);
        let outcomes = outcomes(&[600, 2_000], behind(config, many_tenants));
        let (polite, goodput) = (outcomes[0].success(), goodput(&outcomes));
        println!("flood, {discipline:?}: many {polite:.3}, goodput {goodput:.3} (seed {})", seed());
        assert!(polite >= 0.95, "{discipline:?}: {polite}");
        assert!(goodput >= 0.95, "{discipline:?}: {goodput}");
    }
}

/// So the figures bite.
#[test]
fn without_tenants_one_takes_what_others_need() {
    let config = queue().min_remaining(MinRemaining::Measured(0.99));
    let outcomes = outcomes(&TENANTS, behind(config, deadline));
    let success: Vec<f64> = outcomes.iter().map(Outcome::success).collect();
    assert!(polite(&success).1 < 0.6, "{success:?}");
}
