//! What observers are told.

use stanchion::telemetry::{Action, Event, LayerId};
use stanchion::{CallAttributes, Deadline};
use tokio_test::assert_pending;

use super::*;

#[tokio::test(start_paused = true)]
async fn observers_hear_of_each_change_of_the_limit_and_of_the_load() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let observer = move |source: &LayerId, event: &Event<'_>| {
        assert_eq!((source.module, source.name), ("adaptive_limit", "search"));
        hears.lock().unwrap().push(match event {
            Event::Action { action: Action::Queued, .. } => "queued".to_owned(),
            Event::Rejected(rejected) => rejected.reason().to_string(),
            Event::Concurrency { what, change, .. } => format!("{} {change:+}", what.as_str()),
            other => format!("{other:?}"),
        });
    };
    let take = || std::mem::take(&mut *heard.lock().unwrap());
    let notes = Notes::new();
    let config = notes.config().min_limit(1).initial_limit(2).max_queued(1);
    let layer = AdaptiveLimitLayer::waiting(config.clone()).name("search").observer(observer);
    let handle = layer.handle();
    assert_eq!(take(), ["limit +2"]);
    for (limit, expected) in [(5.0, "limit +3"), (5.5, "in_flight -1"), (1.0, "limit -4")] {
        notes.set(limit);
        end_window(&handle).await;
        assert_eq!(take()[1], expected);
    }
    let held = handle.try_acquire().unwrap();
    let mut waits = task::spawn(layer.layer(Backend).oneshot(Ask::Hang));
    assert_pending!(waits.poll());
    handle.try_acquire().unwrap_err();
    let late = CallAttributes::new().deadline(Deadline::after(Duration::ZERO));
    handle.try_acquire_for(&late).unwrap_err();
    waits.await.unwrap_err();
    let told = [
        "in_flight +1",
        "queued",
        "queued +1",
        "limit is reached",
        "deadline exceeded",
        "queued -1",
        "no room within the limit",
    ];
    assert_eq!(take(), told);
    handle.reconfigure(config.min_limit(4).initial_limit(4)).unwrap();
    drop((held, handle, layer));
    assert_eq!(take(), ["limit +3", "in_flight -1", "limit -4"]);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_harms_no_call_and_no_limit() {
    let notes = Notes::new();
    notes.set(30.0);
    let layer =
        AdaptiveLimitLayer::new(notes.config()).observer(|_: &LayerId, _: &Event<'_>| panic!("an observer"));
    for _ in 0..3 {
        layer.layer(Backend).oneshot(Ask::Answer(20 * MS)).await.unwrap();
    }
    let now = layer.handle().snapshot();
    assert_eq!((now.in_flight, now.max_in_flight, notes.calls()), (0, 30, (3, 0)));
}

#[tokio::test(start_paused = true)]
async fn debug_output_says_what_is_under_way() {
    let layer = AdaptiveLimitLayer::new(AdaptiveLimitConfig::new()).name("search");
    let (handle, service) = (layer.handle(), layer.layer(Backend));
    let _held = handle.try_acquire().unwrap();
    let text = format!("{handle:?} {service:?}");
    for part in ["adaptive_limit", "search", "in_flight: 1", "limit: 20"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
