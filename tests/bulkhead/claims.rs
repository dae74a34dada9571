//! What calls claim: how much they matter, on whose behalf they are made, and by when an answer is wanted.

use stanchion::admission::MinRemaining;
use stanchion::classify::Class;
use stanchion::protocol::{AnyRequest, WithAttributes};
use stanchion::{CallAttributes, Criticality, Deadline, PriorityShares, QueueDiscipline, Tenant};

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Requests below 100 claim nothing. From 100 on they are critical, from 200 on they can be shed, from 300 on so many times
/// 100 ms are left for them, and from 1000 on the thousands are the tenant.
fn claim(request: &u32) -> CallAttributes {
    let claim = CallAttributes::new();
    match *request {
        0..100 => claim,
        100..200 => claim.criticality(Criticality::CRITICAL),
        200..300 => claim.criticality(Criticality::SHEDDABLE),
        300..1000 => claim.deadline(Deadline::after((request - 300) * 100 * MS)),
        _ => claim.tenant(Tenant::of(request / 1000)),
    }
}

type Queued = Bulkhead<Backend, Wait, WithAttributes<AnyRequest, fn(&u32) -> CallAttributes>>;

/// A layer in which calls wait.
struct Setup {
    handle: BulkheadHandle,
    backend: Backend,
    service: Queued,
}

fn waiting(config: BulkheadConfig) -> Setup {
    let layer = BulkheadLayer::waiting(config).attributes(claim as fn(&u32) -> CallAttributes).name("orders");
    let backend = Backend::default();
    Setup { handle: layer.handle(), service: layer.layer(backend.clone()), backend }
}

impl Setup {
    /// Answers the first call that is under way, of these: which ones are then.
    fn next(&mut self, calls: &mut [Spawn<<Queued as Service<u32>>::Future>]) -> Vec<u32> {
        let first = self.backend.requests()[0];
        self.backend.answer(first);
        while let Some(call) = calls.iter_mut().find(|call| call.is_woken()) {
            let _ = call.poll();
        }
        self.backend.requests()
    }
}

#[tokio::test(start_paused = true)]
async fn less_critical_calls_leave_room_for_others() {
    let config = config(10).headroom(PriorityShares::RECOMMENDED);
    let layer = BulkheadLayer::new(config).attributes(claim);
    let mut service = layer.layer(Backend::default());
    let mut calls = Vec::new();
    for (requests, next) in [(200..205, 205), (0..3, 4), (100..102, 103)] {
        calls.extend(requests.map(|request| begin(&mut service, request)));
        assert_eq!(refusal(&mut service, next).reason(), Reason::BulkheadFull);
    }
    assert_counts(&layer.handle(), 10, 0);
    // Nine are not less than the eight that others may have.
    drop(calls.pop());
    assert_eq!(refusal(&mut service, 5).reason(), Reason::BulkheadFull);
    let _critical = begin(&mut service, 104);
}

#[tokio::test(start_paused = true)]
async fn a_critical_call_overtakes_those_that_wait_for_their_share() {
    let mut setup =
        waiting(config(2).max_queued(9).headroom(PriorityShares::NONE.default(0.5).sheddable(0.5)));
    let service = &mut setup.service;
    let _first = begin(service, 1);
    let mut waits = begin(service, 2);
    assert_counts(&setup.handle, 1, 1);
    let critical = begin(service, 101);
    assert_counts(&setup.handle, 2, 1);
    assert_eq!(setup.backend.requests(), [1, 101]);
    drop(critical);
    assert!(!waits.is_woken(), "one is under way, which is half of two");
    setup.handle.resize(3).unwrap();
    assert!(waits.is_woken());
    assert_pending!(waits.poll());
    assert_eq!(setup.backend.requests().last(), Some(&2));
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_are_served_by_how_much_they_matter() {
    let mut setup = waiting(config(1).max_queued(9));
    let service = &mut setup.service;
    let mut calls: Vec<_> = [1, 201, 2, 101, 202, 3].map(|request| begin(service, request)).into();
    let made: Vec<_> = (0..5).map(|_| setup.next(&mut calls)).collect();
    assert_eq!(made, [[101], [2], [3], [201], [202]]);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_with_many_calls_keeps_no_other_waiting() {
    let mut setup = waiting(config(1).max_queued(51));
    let service = &mut setup.service;
    let requests = std::iter::once(1).chain(1001..1051).chain([2001]);
    let mut calls: Vec<_> = requests.map(|request| begin(service, request)).collect();
    let made = [setup.next(&mut calls), setup.next(&mut calls), setup.next(&mut calls)];
    assert_eq!(made, [[1001], [2001], [1002]]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_has_a_place_for_a_tenant_that_has_none() {
    let mut setup = waiting(config(1).max_queued(50));
    let service = &mut setup.service;
    let mut many: Vec<_> =
        std::iter::once(1).chain(1001..1051).map(|request| begin(service, request)).collect();
    assert_eq!(refusal(service, 1051).reason(), Reason::BulkheadFull, "its own are the most");
    let _polite = begin(service, 2001);
    let mut displaced = many.pop().unwrap();
    assert!(displaced.is_woken() && many.iter().all(|call| !call.is_woken()));
    let rejected = rejected(assert_ready!(displaced.poll()));
    assert_eq!((rejected.reason(), rejected.reached_service()), (Reason::BulkheadFull, false));
    assert_eq!((rejected.limit(), rejected.layer()), (None, "orders"));
    assert_counts(&setup.handle, 1, 50);
    assert_eq!(setup.next(&mut many), [1001]);
    assert_eq!(setup.next(&mut many), [0_u32; 0], "the polite one is not polled here");
    assert_counts(&setup.handle, 1, 48);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_has_passed_does_not_reach_the_service() {
    let mut setup = waiting(config(1).max_queued(1));
    let late = refusal(&mut setup.service, 300);
    assert_eq!((late.reason(), late.reached_service()), (Reason::DeadlineExceeded, false));
    assert_eq!((late.limit(), late.retry_after()), (Some(Duration::ZERO), None));
    assert_eq!(setup.backend.begun(), 0);
    assert_counts(&setup.handle, 0, 0);
    // As much as is needed is enough.
    setup.handle.reconfigure(config(1).min_remaining(MinRemaining::Fixed(200 * MS))).unwrap();
    let late = refusal(&mut setup.service, 301);
    assert_eq!((late.reason(), late.limit()), (Reason::DeadlineExceeded, Some(100 * MS)));
    let _enough = begin(&mut setup.service, 302);
    assert_eq!(setup.backend.requests(), [302]);
}

#[tokio::test(start_paused = true)]
async fn with_backpressure_the_permit_of_a_late_call_goes_to_another() {
    let layer = BulkheadLayer::backpressure(config(1)).attributes(claim);
    let mut service = layer.layer(Backend::default());
    service.ready().await.unwrap();
    assert_counts(&layer.handle(), 1, 0);
    assert_eq!(rejected(service.call(300).await).reason(), Reason::DeadlineExceeded);
    assert_counts(&layer.handle(), 0, 0);
    let _call = begin(&mut service, 1);
    assert_counts(&layer.handle(), 1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_no_longer_than_leaves_what_is_needed() {
    let mut setup = waiting(config(1).max_queued(9).min_remaining(MinRemaining::Fixed(200 * MS)));
    let service = &mut setup.service;
    let _held = begin(service, 1);
    let mut waits = begin(service, 305);
    advance(300 * MS - MS / 10).await;
    assert_pending!(waits.poll());
    advance(2 * MS).await;
    let late = rejected(assert_ready!(waits.poll()));
    assert_eq!((late.reason(), late.limit()), (Reason::DeadlineExceeded, Some(500 * MS)));
    assert!(!late.reached_service());
    assert_counts(&setup.handle, 1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_is_too_near_at_its_turn_is_passed_over() {
    let mut setup = waiting(config(1).max_queued(9).min_remaining(MinRemaining::Fixed(200 * MS)));
    let service = &mut setup.service;
    let held = begin(service, 1);
    let (mut late, mut next, mut last) = (begin(service, 305), begin(service, 306), begin(service, 2));
    // Nobody has looked at the timer.
    advance(301 * MS).await;
    drop(held);
    assert!(late.is_woken() && next.is_woken());
    assert_pending!(last.poll());
    assert_counts(&setup.handle, 1, 1);
    let rejected = rejected(assert_ready!(late.poll()));
    assert_eq!((rejected.reason(), rejected.limit()), (Reason::DeadlineExceeded, Some(500 * MS)));
    assert_pending!(next.poll());
    assert_eq!(setup.backend.requests().last(), Some(&306), "it has 299 ms left");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_too_late_says_what_it_had_left_and_not_how_long_it_might_wait() {
    let mut setup = waiting(config(1).max_queued(9).max_wait(SECOND));
    let held = begin(&mut setup.service, 1);
    let mut late = begin(&mut setup.service, 320);
    let needs = config(1).max_queued(9).max_wait(SECOND).min_remaining(MinRemaining::Fixed(9 * SECOND));
    setup.handle.reconfigure(needs).unwrap();
    drop(held);
    let rejected = rejected(assert_ready!(late.poll()));
    assert_eq!((rejected.reason(), rejected.limit()), (Reason::DeadlineExceeded, Some(2 * SECOND)));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_waited_for_longer_than_its_discipline_allows_says_how_long_that_is() {
    let mut setup = waiting(config(1).max_queued(9).discipline(QueueDiscipline::adaptive_lifo()));
    let service = &mut setup.service;
    let held = begin(service, 1);
    let mut old = begin(service, 2);
    advance(150 * MS).await;
    let mut new = begin(service, 3);
    drop(held);
    assert!(old.is_woken() && new.is_woken());
    let rejected = rejected(assert_ready!(old.poll()));
    assert_eq!((rejected.reason(), rejected.limit()), (Reason::BulkheadTimeout, Some(5 * MS)));
    assert_eq!((rejected.reached_service(), rejected.retry_after()), (false, None));
    assert_pending!(new.poll());
    assert_counts(&setup.handle, 1, 0);
}

#[tokio::test(start_paused = true)]
async fn headroom_that_is_taken_back_serves_those_who_wait_for_it() {
    let config = config(2).max_queued(9);
    let mut setup = waiting(config.clone().headroom(PriorityShares::RECOMMENDED.default(0.5)));
    let service = &mut setup.service;
    let _held = begin(service, 1);
    let mut waits = begin(service, 2);
    setup.handle.reconfigure(config).unwrap();
    assert!(waits.is_woken());
    assert_pending!(waits.poll());
    assert_eq!(setup.backend.requests(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_service_makes_claims_too() {
    let headroom = PriorityShares::NONE.sheddable(0.5);
    let handle = BulkheadLayer::waiting(config(2).max_queued(1).headroom(headroom)).handle();
    let (sheddable, late) = (claim(&200), CallAttributes::new().deadline(Deadline::after(Duration::ZERO)));
    let held = handle.try_acquire_for(&sheddable).unwrap();
    assert_eq!(handle.try_acquire_for(&sheddable).unwrap_err().reason(), Reason::BulkheadFull);
    assert_eq!(handle.try_acquire_for(&late).unwrap_err().reason(), Reason::DeadlineExceeded);
    let never = async { panic!("it was polled") };
    assert_eq!(rejected(handle.run_for(&late, never).await).reason(), Reason::DeadlineExceeded);
    assert_eq!(handle.run_for(&claim(&100), ready(Answer::Ok(7))).await, Ok(7));

    let mut waits = task::spawn(handle.run_for(&sheddable, ready(Answer::Ok(1))));
    assert_pending!(waits.poll());
    // It overtakes, and is there before the one that waits.
    assert_eq!(handle.run_for(&claim(&100), ready(Answer::Ok(8))).await, Ok(8));
    assert_counts(&handle, 1, 1);
    drop(held);
    assert_eq!(assert_ready!(waits.poll()), Ok(1));
    assert_counts(&handle, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_was_given_to_a_call_that_is_dropped_goes_past_those_that_are_too_late() {
    let mut setup = waiting(config(1).max_queued(9));
    let service = &mut setup.service;
    let held = begin(service, 1);
    let (granted, mut late, mut last) = (begin(service, 2), begin(service, 301), begin(service, 3));
    drop(held);
    assert!(granted.is_woken() && !late.is_woken());
    advance(200 * MS).await;
    drop(granted);
    assert_eq!(rejected(assert_ready!(late.poll())).reason(), Reason::DeadlineExceeded);
    assert!(last.is_woken());
    assert_pending!(last.poll());
    assert_eq!(setup.backend.requests().last(), Some(&3));
    drop(last);
    assert_counts(&setup.handle, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_displaced_call_that_is_dropped_leaves_nothing() {
    let mut setup = waiting(config(1).max_queued(1));
    let service = &mut setup.service;
    let held = begin(service, 1);
    let (displaced, critical) = (begin(service, 2), begin(service, 101));
    drop(displaced);
    assert_counts(&setup.handle, 1, 1);
    drop(held);
    assert!(critical.is_woken());
    drop(critical);
    assert_counts(&setup.handle, 0, 0);
}

#[cfg(feature = "http")]
mod http {
    use std::convert::Infallible;

    use ::http::Request;
    use stanchion::http::Http;
    use tower::service_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_request_claims_is_in_its_extensions() {
        type Answer = Result<::http::Response<http_body_util::Empty<bytes::Bytes>>, Error<Infallible>>;
        let slow = service_fn(|_: Request<()>| pending::<Answer>());
        let headroom = PriorityShares::NONE.default(0.5).sheddable(0.25);
        let layer = BulkheadLayer::waiting(config(4).max_queued(3).headroom(headroom)).protocol(Http::new());
        let (handle, mut service) = (layer.handle(), layer.layer(slow));
        let mut call = |request: Request<()>| {
            let mut call = task::spawn(service.call(request));
            let polled = call.poll().map(Result::unwrap_err);
            (call, polled)
        };
        let plain = || Request::new(());
        let with = |criticality: Criticality| Request::builder().extension(criticality).body(()).unwrap();
        let of = |tenant: &str| Request::builder().extension(Tenant::of(tenant)).body(()).unwrap();
        let mut calls = vec![];
        for (request, in_flight, queued) in [
            (with(Criticality::SHEDDABLE), 1, 0),
            (with(Criticality::SHEDDABLE), 1, 1),
            (plain(), 2, 1),
            (plain(), 2, 2),
            (with(Criticality::CRITICAL), 3, 2),
            (of("a"), 3, 3),
            // It takes the place of the one that can be shed.
            (of("b"), 3, 3),
        ] {
            let (call, polled) = call(request);
            assert!(polled.is_pending());
            assert_counts(&handle, in_flight, queued);
            calls.push(call);
        }
        assert!(calls[1].is_woken(), "it was displaced");
        let late = Request::builder().extension(Deadline::after(Duration::ZERO)).body(()).unwrap();
        let (_, refused) = call(late);
        let reason = assert_ready!(refused).rejected().unwrap().reason();
        assert_eq!(reason, Reason::DeadlineExceeded);
    }
}

/// Calls that come too late say nothing about what is usual: or else they would let others begin that cannot finish.
#[tokio::test(start_paused = true)]
async fn calls_whose_deadline_has_passed_do_not_make_less_time_enough() {
    let config = BulkheadConfig::new().min_remaining(MinRemaining::Measured(0.99));
    let handle = BulkheadLayer::new(config).handle();
    let left =
        |milliseconds| CallAttributes::new().deadline(Deadline::after(Duration::from_millis(milliseconds)));
    for _ in 0..100 {
        let permit = handle.try_acquire_for(&left(100)).unwrap();
        advance(Duration::from_millis(40)).await;
        permit.finish(Class::Success);
    }
    // The quantile is found anew each second.
    advance(SECOND).await;
    let too_little = || handle.try_acquire_for(&left(20)).unwrap_err().reason();
    assert_eq!(too_little(), Reason::DeadlineExceeded);
    for _ in 0..200 {
        assert!(handle.try_acquire_for(&left(0)).is_err());
    }
    assert_eq!(too_little(), Reason::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_for_too_long_is_told_which_limit_came_first() {
    let handle = BulkheadLayer::waiting(config(1).max_queued(1).max_wait(500 * MS)).handle();
    let _held = handle.try_acquire().unwrap();
    for (left, reason, limit) in [
        (499, Reason::DeadlineExceeded, 499),
        (500, Reason::BulkheadTimeout, 500),
        (900, Reason::BulkheadTimeout, 500),
    ] {
        let claim = CallAttributes::new().deadline(Deadline::after(left * MS));
        let rejected = rejected(handle.run_for(&claim, pending::<Answer>()).await);
        assert_eq!((rejected.reason(), rejected.limit()), (reason, Some(limit * MS)), "{left} ms are left");
    }
}
