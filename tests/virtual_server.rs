//! The server of the simulations does what it is said to do.

#![allow(clippy::disallowed_methods, reason = "time is paused")]

#[path = "support/fault.rs"]
mod fault;
#[path = "support/virtual_server.rs"]
mod server;

use std::ops::Range;
use std::slice::from_ref;
use std::time::Duration;

use server::{Event, Latency, MILLISECOND, Mode, Orphans, Request, SECOND, Server, Traffic, simulate};
use tokio::time::timeout;
use tower::{ServiceExt, service_fn};

const ALL: Range<Duration> = Duration::ZERO..Duration::MAX;

#[test]
fn ten_workers_serve_a_thousand_requests_per_second_and_no_more() {
    simulate(async {
        let server = Server::of_ten_workers();
        let calls = Traffic::random(2_000, 10 * SECOND).drive(&server, from_ref(&server)).await;
        let served = server.count(Event::Served, SECOND..10 * SECOND);
        assert!((8_600..9_400).contains(&served), "{served} in nine seconds");
        assert_eq!(server.count(Event::Served, ALL), calls.of(ALL).len());
    });
}

/// What becomes of a server that is called at twice what it can serve by clients that wait for 100 ms.
fn overloaded(orphans: Orphans) -> [usize; 3] {
    simulate(async {
        let server = Server::of_ten_workers().orphans(orphans);
        let inner = server.clone();
        let client = service_fn(move |request: Request| {
            let call = timeout(100 * MILLISECOND, inner.clone().oneshot(request));
            async { call.await.map_err(drop)?.map_err(drop) }
        });
        let calls = Traffic::random(2_000, 10 * SECOND).drive(&server, &[client]).await;
        let [served, gone] = [Event::Served, Event::Cancelled].map(|event| server.count(event, ALL));
        assert_eq!(served + gone, calls.of(ALL).len());
        assert_eq!(server.awaited(), 0);
        [served, gone, server.count(Event::Wasted, ALL)]
    })
}

#[test]
fn work_for_clients_that_have_gone_is_done_or_skipped_or_stopped() {
    let [served, gone, wasted] = overloaded(Orphans::Served);
    assert!(served < 1_000, "{served}: the queue is longer than the clients wait");
    assert!(wasted > gone / 4, "{wasted}");

    let [served, _, wasted] = overloaded(Orphans::Skipped);
    assert!(served < 5_000, "{served}: most are begun when it is nearly too late");
    assert!(wasted > 5_000, "{wasted}");

    let [served, _, wasted] = overloaded(Orphans::Stopped);
    assert!((9_500..10_500).contains(&served), "{served}");
    assert_eq!(wasted, 0);
}

#[test]
fn a_fast_answer_is_not_rounded_up_to_a_millisecond_in_the_figures() {
    simulate(async {
        let server = Server::without_queue(Latency::Exponential { mean: MILLISECOND });
        let server = server.weather([(9 * SECOND, Mode::Slow(2.0))]);
        let calls = Traffic::steady(1_000, 18 * SECOND).drive(&server, from_ref(&server)).await;
        let median = calls.quantile(Duration::ZERO..9 * SECOND, 0.5);
        assert!(median.abs_diff(Duration::from_micros(693)) < MILLISECOND / 20, "{median:?}");
        let median = calls.quantile(9 * SECOND..18 * SECOND, 0.5);
        assert!(median.abs_diff(Duration::from_micros(1_386)) < MILLISECOND / 10, "{median:?}");
    });
}

#[test]
fn each_request_fails_while_the_server_is_down_and_a_share_of_them_while_it_is_sick() {
    simulate(async {
        let server = Server::without_queue(Latency::Fixed(5 * MILLISECOND)).weather([
            (SECOND, Mode::Down),
            (2 * SECOND, Mode::Fails(0.5)),
            (4 * SECOND, Mode::Hangs(30 * SECOND)),
        ]);
        let calls = Traffic::steady(1_000, 5 * SECOND).drive(&server, from_ref(&server)).await;
        let success = |from, to| calls.success(from * SECOND..to * SECOND);
        assert_eq!((success(0, 1), success(1, 2), success(4, 5)), (1.0, 0.0, 0.0));
        assert!((0.45..0.55).contains(&success(2, 4)), "{}", success(2, 4));
        assert!(calls.of(SECOND..2 * SECOND).iter().all(|call| call.start == call.end));
        assert!(calls.of(4 * SECOND..5 * SECOND).iter().all(|call| call.end - call.start >= 30 * SECOND));
    });
}
