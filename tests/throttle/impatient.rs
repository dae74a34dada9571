//! Callers with little time, and a service that hangs.

use std::time::Duration;

use stanchion::{Error, Reason, Rejected, ThrottleConfig, ThrottleHandle, ThrottleLayer};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};

use super::SECOND;
use crate::fault::Fault;

/// Makes calls at the same time to a service that takes a while, each with a deadline; how many were refused.
async fn calls(layer: &ThrottleLayer, number: u32, takes: Duration, patience: Duration) -> u32 {
    let service = layer.layer(service_fn(move |()| async move {
        sleep(takes.min(patience)).await;
        if takes <= patience {
            return Ok(());
        }
        let rejected = Rejected::new(Reason::DeadlineExceeded, "timeout").with_limit(patience);
        Err(Error::<Fault>::Rejected(rejected.with_reached_service(true)))
    }));
    let calls: Vec<_> = (0..number).map(|_| tokio::spawn(service.clone().oneshot(()))).collect();
    let mut refused = 0;
    for call in calls {
        let error = call.await.unwrap().err();
        let reason = error.and_then(|error| error.rejected().map(|rejected| rejected.reason()));
        refused += u32::from(reason == Some(Reason::Throttled));
    }
    refused
}

fn throttle() -> (ThrottleLayer, ThrottleHandle) {
    let layer = ThrottleLayer::new(ThrottleConfig::new());
    let handle = layer.handle();
    (layer, handle)
}

const HANGS: Duration = Duration::from_secs(1_000_000);

#[tokio::test(start_paused = true)]
async fn a_hang_behind_deadlines_is_seen_once_the_window_holds_nothing_that_was_accepted() {
    let (layer, _) = throttle();
    assert_eq!(calls(&layer, 20, SECOND / 20, 4 * SECOND).await, 0);
    // The throttle is off again and again, when too few calls are left in the window.
    let mut refused = 0;
    for _ in 0..50 {
        refused += calls(&layer, 20, HANGS, 4 * SECOND).await;
    }
    assert!(refused > 200, "{refused} of 1,000");
    // What is left finds out that the service is well again.
    for _ in 0..100 {
        calls(&layer, 20, SECOND / 20, 4 * SECOND).await;
    }
    assert_eq!(calls(&layer, 100, SECOND / 20, 4 * SECOND).await, 0);
}

#[tokio::test(start_paused = true)]
async fn impatient_callers_do_not_throttle_patient_ones() {
    let (layer, handle) = throttle();
    for _ in 0..60 {
        let (refused, refused_too) =
            tokio::join!(calls(&layer, 1, 2 * SECOND, 9 * SECOND), calls(&layer, 5, 2 * SECOND, SECOND));
        assert_eq!(refused + refused_too, 0);
    }
    assert!(handle.snapshot().ratio < 1e-9);
}
