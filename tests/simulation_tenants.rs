//! Overload by many tenants: as many as there are calls, so that hardly any of them has two that
//! wait.
//!
//! The server, the callers and the seed are those of `simulation_overload.rs`. Of each run four
//! seconds count, after two.

#[path = "support/fault.rs"]
mod fault;
#[path = "support/overload.rs"]
mod overload;
#[path = "support/virtual_server.rs"]
mod virtual_server;

use overload::{Figures, behind, deadline, seconds};
use stanchion::{BulkheadConfig, CallAttributes, QueueDiscipline, Tenant};
use virtual_server::{Request, seed};

/// A claim for a call of one of `N` tenants, who make their calls in turn.
fn of_many<const N: u64>(request: &Request) -> CallAttributes {
    CallAttributes::new().tenant(Tenant::of(request.id % N))
}

fn of_many_with_deadline<const N: u64>(request: &Request) -> CallAttributes {
    deadline(request).tenant(Tenant::of(request.id % N))
}

type Attributes = fn(&Request) -> CallAttributes;

const WITH_DEADLINE: [(u32, Attributes); 5] = [
    (1, of_many_with_deadline::<1>),
    (10, of_many_with_deadline::<10>),
    (100, of_many_with_deadline::<100>),
    (1_000, of_many_with_deadline::<1_000>),
    (10_000, of_many_with_deadline::<10_000>),
];

const WITHOUT_DEADLINE: [(u32, Attributes); 5] = [
    (1, of_many::<1>),
    (10, of_many::<10>),
    (100, of_many::<100>),
    (1_000, of_many::<1_000>),
    (10_000, of_many::<10_000>),
];

/// Serves calls of each number of tenants at twice and ten times the capacity.
#[track_caller]
fn assert_goodput(name: &str, discipline: QueueDiscipline, tenants: [(u32, Attributes); 5]) {
    let queue = BulkheadConfig::new().max_in_flight(12).max_queued(10_000).discipline(discipline);
    let mut misses = Vec::new();
    for (count, claims) in tenants {
        for load in [2.0, 10.0] {
            let figures = Figures::within(&[seconds(2..6)], load, behind(queue.clone(), claims));
            println!("{name}, {count} tenants: {figures:?} (seed {})", seed());
            if figures.goodput.iter().any(|goodput| *goodput < 0.93) {
                misses.push((count, load, figures.goodput));
            }
        }
    }
    assert!(misses.is_empty(), "{name}: {misses:.3?}");
}

#[test]
fn adaptive_lifo_works_for_any_number_of_tenants() {
    assert_goodput("adaptive lifo", QueueDiscipline::adaptive_lifo(), WITH_DEADLINE);
}

#[test]
fn controlled_delay_works_for_any_number_of_tenants() {
    assert_goodput("controlled delay", QueueDiscipline::controlled_delay(), WITH_DEADLINE);
}

#[test]
fn controlled_delay_works_for_any_number_of_tenants_without_deadlines() {
    assert_goodput("controlled delay, no deadlines", QueueDiscipline::controlled_delay(), WITHOUT_DEADLINE);
}
