//! Settings that nobody in his right mind would choose, and observers that do what they should not.

use std::sync::OnceLock;
use std::sync::atomic::AtomicI64;

use stanchion::admission::MinRemaining;
use stanchion::{CallAttributes, Deadline, PriorityShares, QueueDiscipline};

use super::*;

const NANOSECOND: Duration = Duration::from_nanos(1);
const YEAR: Duration = Duration::from_secs(86_400 * 365);
const TIMES: [Duration; 5] = [Duration::ZERO, NANOSECOND, SECOND, YEAR, Duration::MAX];
const FLOATS: [f64; 14] = [
    f64::NEG_INFINITY,
    f64::MIN,
    -1.0,
    -0.0,
    0.0,
    f64::MIN_POSITIVE,
    1e-9,
    0.5,
    1.0 - f64::EPSILON,
    1.0,
    1.0 + f64::EPSILON,
    f64::MAX,
    f64::INFINITY,
    f64::NAN,
];

/// What works with `config`, or the field that is wrong.
async fn used(config: BulkheadConfig) -> Result<(), &'static str> {
    let layer = BulkheadLayer::try_waiting(config.clone()).map_err(|error| error.field())?;
    let backend = Backend::default();
    let (handle, mut service) = (layer.handle(), layer.layer(backend.clone()));
    let claims = [
        CallAttributes::new(),
        CallAttributes::new().deadline(Deadline::after(SECOND)),
        CallAttributes::new().deadline(Deadline::after(Duration::MAX)),
    ];
    let held = handle.try_acquire();
    let mut waiting: Vec<_> =
        claims.iter().map(|claim| task::spawn(handle.run_for(claim, ready(Answer::Ok(1))))).collect();
    for call in &mut waiting {
        let _ = call.poll();
    }
    let mut call = task::spawn(service.call(1));
    let _ = call.poll();
    advance(2 * YEAR).await;
    handle.reconfigure(config.clone()).unwrap();
    drop(held);
    // Each has ended or goes on; all are polled once more, and dropped.
    for call in &mut waiting {
        if call.is_woken() {
            let _ = call.poll();
        }
    }
    drop((waiting, call));
    assert_counts(&handle, 0, 0);
    assert_eq!(handle.config(), config);
    assert!(handle.try_acquire().is_ok(), "{config:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn every_number_of_calls_works_or_is_an_error() {
    for (calls, expected) in [
        (0, Err("max_in_flight")),
        (1, Ok(())),
        (u32::MAX >> 1, Ok(())),
        ((u32::MAX >> 1) + 1, Err("max_in_flight")),
        (u32::MAX, Err("max_in_flight")),
    ] {
        for max_queued in [0, 1, usize::MAX] {
            assert_eq!(used(config(calls).max_queued(max_queued)).await, expected, "{calls}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_time_works_or_is_an_error() {
    for time in TIMES {
        let expected = if time.is_zero() { Err("max_wait") } else { Ok(()) };
        assert_eq!(used(config(1).max_queued(9).max_wait(time)).await, expected, "{time:?}");
        let fixed = config(1).max_queued(9).min_remaining(MinRemaining::Fixed(time));
        assert_eq!(used(fixed).await, Ok(()), "{time:?}");
        for other in TIMES {
            for discipline in [
                QueueDiscipline::AdaptiveLifo { target: time, interval: other },
                QueueDiscipline::ControlledDelay { target: time, interval: other },
            ] {
                assert_eq!(
                    used(config(1).max_queued(9).discipline(discipline)).await,
                    Ok(()),
                    "{discipline:?}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_share_works_or_is_an_error() {
    for share in FLOATS {
        let is_share = share > 0.0 && share <= 1.0;
        let limit = |headroom: PriorityShares| config(3).max_queued(9).headroom(headroom);
        let expected = if is_share { Ok(()) } else { Err("headroom.default") };
        assert_eq!(
            used(limit(PriorityShares::NONE.default(share).sheddable(share))).await,
            expected,
            "{share}"
        );
        let expected = if is_share { Ok(()) } else { Err("headroom.sheddable") };
        assert_eq!(used(limit(PriorityShares::NONE.sheddable(share))).await, expected, "{share}");
        let expected = if share > 0.0 && share < 1.0 { Ok(()) } else { Err("min_remaining") };
        let measured = config(1).max_queued(9).min_remaining(MinRemaining::Measured(share));
        assert_eq!(used(measured).await, expected, "{share}");
    }
    assert_eq!(
        used(config(1).headroom(PriorityShares::NONE.default(0.4).sheddable(0.5))).await,
        Err("headroom.sheddable")
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_leaves_a_running_layer_as_it_is_and_says_what_was_wrong() {
    let handle = BulkheadLayer::waiting(config(2).max_queued(1)).handle();
    for (wrong, text) in [
        (config(0), "invalid value for `max_in_flight`: got 0, expected a number from 1 to 2,147,483,647"),
        (
            config(1).max_wait(Duration::ZERO),
            "invalid value for `max_wait`: got 0ns, expected a duration above zero",
        ),
        (
            config(1).headroom(PriorityShares::NONE.default(f64::NAN)),
            "invalid value for `headroom.default`: got NaN, expected a number above 0 and at most 1",
        ),
        (
            config(1).min_remaining(MinRemaining::Measured(-1.0)),
            "invalid value for `min_remaining`: got -1.0, expected a number above 0 and below 1",
        ),
    ] {
        assert_eq!(handle.reconfigure(wrong).unwrap_err().to_string(), text);
        assert_eq!((handle.config(), handle.snapshot().max_in_flight), (config(2).max_queued(1), 2));
    }
}

/// What observers hear of the load, added up.
#[derive(Clone, Default)]
struct Gauges(Arc<[AtomicI64; 3]>);

impl Gauges {
    fn hear(&self, event: &Event<'_>) {
        if let Event::Concurrency { what, change, .. } = event {
            let place = ConcurrencyGauge::ALL.iter().position(|other| other == what).unwrap();
            self.0[place].fetch_add(*change, Ordering::Relaxed);
        }
    }

    /// In the order of [`ConcurrencyGauge::ALL`].
    fn now(&self) -> [i64; 3] {
        [0, 1, 2].map(|place| self.0[place].load(Ordering::Relaxed))
    }
}

#[tokio::test(start_paused = true)]
async fn gauges_come_back_to_zero_whatever_becomes_of_calls() {
    let gauges = Gauges::default();
    let hears = gauges.clone();
    let layer = BulkheadLayer::waiting(config(2).max_queued(3).discipline(QueueDiscipline::adaptive_lifo()))
        .attributes(|request: &u32| match request % 10 {
            0 => CallAttributes::new().deadline(Deadline::after(SECOND / 10)),
            1 => CallAttributes::new().criticality(stanchion::Criticality::CRITICAL),
            _ => CallAttributes::new(),
        })
        .observer(move |_: &LayerId, event: &Event<'_>| hears.hear(event));
    let (handle, backend) = (layer.handle(), Backend::default());
    let mut service = layer.layer(backend.clone());
    assert_eq!(gauges.now(), [0, 0, 2]);
    let held = [begin(&mut service, 2), begin(&mut service, 3)];
    // One has a deadline, one is displaced by a critical one, and one leaves.
    let waiting = [begin(&mut service, 10), begin(&mut service, 4), begin(&mut service, 5)];
    let critical = begin(&mut service, 11);
    assert_eq!(handle.snapshot().queued, 3);
    handle.resize(1).unwrap();
    assert_eq!(gauges.now()[2], 1);
    advance(2 * SECOND).await;
    drop(held);
    for mut call in waiting {
        if call.is_woken() {
            let _ = call.poll();
        }
    }
    drop(critical);
    let panicked = tokio::spawn(service.clone().oneshot(13)).await;
    assert!(panicked.unwrap_err().is_panic());
    let (held, waits) = (handle.try_acquire().unwrap(), begin(&mut service, 6));
    let panicked = tokio::spawn(service.clone().oneshot(13));
    tokio::task::yield_now().await;
    drop(held);
    drop(waits);
    assert!(panicked.await.unwrap_err().is_panic());
    assert_counts(&handle, 0, 0);
    assert_eq!(gauges.now(), [0, 0, 1]);
    drop((service, layer, handle));
    assert_eq!(gauges.now(), [0, 0, 0]);
}

type Heard = Arc<Mutex<Vec<(&'static str, i64)>>>;

fn hearing(config: BulkheadConfig) -> (BulkheadLayer<Wait>, Heard) {
    let heard = Heard::default();
    let hears = Arc::clone(&heard);
    let layer = BulkheadLayer::waiting(config).observer(move |_: &LayerId, event: &Event<'_>| match event {
        Event::Action { action, .. } => hears.lock().unwrap().push((action.as_str(), 0)),
        Event::Concurrency { what, change, .. } => hears.lock().unwrap().push((what.as_str(), *change)),
        _ => {}
    });
    (layer, heard)
}

#[tokio::test(start_paused = true)]
async fn a_call_for_which_there_is_room_once_it_is_made_is_not_told_to_have_waited() {
    let (layer, heard) = hearing(config(1).max_queued(1));
    let mut service = layer.layer(tower::service_fn(|request| ready(Answer::Ok(request))));
    let held = layer.handle().try_acquire().unwrap();
    assert_ready!(task::spawn(service.ready()).poll()).unwrap();
    drop(held);
    heard.lock().unwrap().clear();
    assert_eq!(service.call(1).await, Ok(1));
    assert_eq!(*heard.lock().unwrap(), [("in_flight", 1), ("in_flight", -1)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_overtakes_is_not_told_to_have_waited() {
    let (layer, heard) =
        hearing(config(2).max_queued(1).headroom(PriorityShares::NONE.default(0.5).sheddable(0.5)));
    let handle = layer.handle();
    let _held = handle.try_acquire().unwrap();
    let mut waits = task::spawn(handle.run(ready(Answer::Ok(1))));
    assert_pending!(waits.poll());
    heard.lock().unwrap().clear();
    let critical = CallAttributes::new().criticality(stanchion::Criticality::CRITICAL);
    assert_eq!(handle.run_for(&critical, ready(Answer::Ok(2))).await, Ok(2));
    assert_eq!(*heard.lock().unwrap(), [("in_flight", 1), ("in_flight", -1)]);
}

/// An observer that is told of something and calls back.
fn calling_back(config: BulkheadConfig, back: fn(&BulkheadHandle, &Event<'_>)) -> BulkheadLayer<Wait> {
    let handle = Arc::new(OnceLock::<BulkheadHandle>::new());
    let given = Arc::clone(&handle);
    let is_inside = Mutex::new(false);
    let layer = BulkheadLayer::waiting(config).observer(move |_: &LayerId, event: &Event<'_>| {
        // What it does itself it hears of, too.
        if let Some(handle) =
            given.get().filter(|_| !std::mem::replace(&mut *is_inside.lock().unwrap(), true))
        {
            back(handle, event);
            *is_inside.lock().unwrap() = false;
        }
    });
    assert!(handle.set(layer.handle()).is_ok());
    layer
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_change_what_it_is_told_of() {
    // Whatever happens, there is another limit.
    let layer = calling_back(config(1).max_queued(1), |handle, _| {
        let snapshot = handle.snapshot();
        handle.resize(3 - snapshot.max_in_flight).unwrap();
    });
    let (handle, mut service) = (layer.handle(), layer.layer(Backend::default()));
    handle.resize(2).unwrap();
    assert_eq!(handle.snapshot().max_in_flight, 1, "the observer has had the last word");
    let calls = [begin(&mut service, 1), begin(&mut service, 2)];
    drop(calls);
    assert_counts(&handle, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_make_calls() {
    let layer = calling_back(config(2).max_queued(2), |handle, _| {
        // Now, or not at all, or it begins to wait and leaves.
        drop(handle.try_acquire());
        let mut call = task::spawn(handle.run(ready(Answer::Ok(1))));
        let _ = call.poll();
    });
    let (handle, mut service) = (layer.handle(), layer.layer(Backend::default()));
    let mut calls: Vec<_> = (1..5).map(|request| begin(&mut service, request)).collect();
    assert_eq!(refusal(&mut service, 5).reason(), Reason::BulkheadFull);
    assert_counts(&handle, 2, 2);
    handle.resize(3).unwrap();
    drop(calls.remove(0));
    advance(2 * SECOND).await;
    drop(calls);
    assert_counts(&handle, 0, 0);
}
