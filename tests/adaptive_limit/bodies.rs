//! Calls over HTTP, which last as long as the bodies of their responses.

use std::convert::Infallible;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use stanchion::http::Http;
use tower::service_fn;

use super::*;

async fn answer(request: Request<u16>) -> Result<Response<Full<Bytes>>, Error<Infallible>> {
    Ok(Response::builder().status(*request.body()).body(Full::from("hello")).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_call_lasts_until_its_body_has_ended() {
    let notes = Notes::new();
    let layer = AdaptiveLimitLayer::new(notes.config()).protocol(Http::new());
    let handle = layer.handle();
    let call = async |status| layer.layer(service_fn(answer)).oneshot(Request::new(status)).await.unwrap();
    let (read, dropped) = (call(200).await, call(200).await);
    assert_eq!(handle.snapshot().in_flight, 2);
    sleep(100 * MS).await;
    assert_eq!(read.into_body().collect().await.unwrap().to_bytes(), "hello");
    assert_eq!(handle.snapshot().in_flight, 1);
    let samples = notes.samples.lock().unwrap().clone();
    assert_eq!(samples.len(), 1);
    assert!(samples[0].latency.unwrap().abs_diff(100 * MS) < 10 * MS, "{samples:?}");
    // It had taken no longer than is usual when its caller left.
    drop(dropped);
    assert_eq!(handle.snapshot().in_flight, 0);
    end_window(&handle).await;
    assert_eq!(notes.calls(), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_status_says_how_a_call_ended_and_its_body_does_not_matter_then() {
    let notes = Notes::new();
    let layer = AdaptiveLimitLayer::new(notes.config()).protocol(Http::new());
    for status in [500, 503, 404, 429] {
        let response = layer.layer(service_fn(answer)).oneshot(Request::new(status)).await.unwrap();
        assert_eq!(layer.handle().snapshot().in_flight, u32::from(status == 404), "{status}");
        response.into_body().collect().await.unwrap();
    }
    end_window(&layer.handle()).await;
    // A 429 is no fault of the service, but says that it has too much to do.
    assert_eq!(notes.calls(), (5, 3));
}

/// As with a bulkhead: whatever the status, the body takes its time.
#[tokio::test(start_paused = true)]
async fn by_the_end_of_bodies_alone_each_is_a_success() {
    let notes = Notes::new();
    let layer = AdaptiveLimitLayer::new(notes.config())
        .protocol(Http::new())
        .classify(|_: Result<&Response<Full<Bytes>>, &Error<Infallible>>| Class::Success);
    let response = layer.layer(service_fn(answer)).oneshot(Request::new(503)).await.unwrap();
    assert_eq!(layer.handle().snapshot().in_flight, 1);
    response.into_body().collect().await.unwrap();
    end_window(&layer.handle()).await;
    assert_eq!(notes.calls(), (2, 0));
}
