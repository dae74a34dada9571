#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Request, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::time::advance;

use super::{Http, Idempotent};
use crate::deadline::Deadline;
use crate::protocol::{Attempt, Replay, RequestContext, Timeouts};

mod answers;
mod unprocessed;

const HTTP: Http = Http::new();
const SECOND: Duration = Duration::from_secs(1);

/// Returns a gRPC request.
fn grpc() -> Request<()> {
    Request::post("/orders.Orders/Cancel").header(CONTENT_TYPE, "application/grpc").body(()).unwrap()
}

fn timeout(headers: &HeaderMap) -> &str {
    headers.get("grpc-timeout").map_or("none", |timeout| timeout.to_str().unwrap())
}

fn attempts(headers: &HeaderMap) -> &str {
    headers.get("grpc-previous-rpc-attempts").map_or("none", |attempts| attempts.to_str().unwrap())
}

#[test]
fn idempotency_follows_the_method() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        assert!(HTTP.is_idempotent(&Request::builder().method(method).body(()).unwrap()), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "get", "PURGE"] {
        assert!(!HTTP.is_idempotent(&Request::builder().method(method).body(()).unwrap()), "{method}");
    }
}

#[test]
fn a_request_with_an_idempotency_key_is_idempotent() {
    for key in ["\"8e03978e\"", ""] {
        assert!(HTTP.is_idempotent(&Request::post("/").header("Idempotency-Key", key).body(()).unwrap()));
    }
}

#[test]
fn the_idempotent_extension_overrides_method_and_key() {
    let put = Request::put("/").header("idempotency-key", "1").extension(Idempotent(false)).body(()).unwrap();
    assert!(!HTTP.is_idempotent(&put));
    let post = Request::post("/").extension(Idempotent(true)).body(()).unwrap();
    assert!(HTTP.is_idempotent(&post));
}

#[test]
fn a_request_brings_its_own_timeouts() {
    assert_eq!(HTTP.timeouts(&Request::new(())), Timeouts::default());
    let timeouts = Timeouts { total: Some(SECOND), attempt: None };
    assert_eq!(HTTP.timeouts(&Request::get("/").extension(timeouts).body(()).unwrap()), timeouts);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_in_the_extensions_or_else_in_grpc_timeout() {
    assert_eq!(HTTP.deadline(&Request::new(())), None);
    let mut request = Request::get("/").header("grpc-timeout", "2S").body(()).unwrap();
    assert_eq!(HTTP.deadline(&request), Some(Deadline::after(2 * SECOND)));
    let deadline = Deadline::after(3 * SECOND);
    request.extensions_mut().insert(deadline);
    assert_eq!(HTTP.deadline(&request), Some(deadline));
    let unreadable = Request::get("/").header("grpc-timeout", "2 s").body(()).unwrap();
    assert_eq!(HTTP.deadline(&unreadable), None);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_takes_the_place_of_the_one_before() {
    let mut request = Request::new(());
    HTTP.set_deadline(&mut request, Deadline::after(SECOND));
    let place = ptr::from_ref(request.extensions().get::<Deadline>().unwrap());
    HTTP.set_deadline(&mut request, Deadline::after(2 * SECOND));
    let deadline = request.extensions().get::<Deadline>().unwrap();
    assert_eq!(*deadline, Deadline::after(2 * SECOND));
    assert!(ptr::eq(place, deadline), "allocated again");
}

#[tokio::test(start_paused = true)]
async fn only_grpc_requests_carry_the_deadline_in_a_header() {
    for (kind, written) in [
        ("application/grpc", "1000000u"),
        ("application/grpc+proto", "1000000u"),
        ("application/grpc;charset=utf-8", "1000000u"),
        ("application/json", "9H"),
        ("text/application/grpc", "9H"),
    ] {
        let request = Request::post("/").header(CONTENT_TYPE, kind).header("grpc-timeout", "9H");
        let mut request = request.body(()).unwrap();
        HTTP.set_deadline(&mut request, Deadline::after(SECOND));
        assert_eq!(timeout(request.headers()), written, "{kind}");
        assert_eq!(request.headers().get_all("grpc-timeout").iter().count(), 1);
    }
    let mut plain = Request::post("/").body(()).unwrap();
    HTTP.set_deadline(&mut plain, Deadline::after(SECOND));
    assert!(plain.headers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_leaves_no_time() {
    let mut request = grpc();
    let deadline = Deadline::after(SECOND);
    advance(2 * SECOND).await;
    HTTP.set_deadline(&mut request, deadline);
    assert_eq!(timeout(request.headers()), "0n");
}

#[test]
fn attempts_are_in_extensions_and_in_the_grpc_header() {
    for (number, hedge, before) in
        [(0, 0, "none"), (1, 0, "none"), (2, 0, "1"), (1, 1, "1"), (3, 2, "4"), (u32::MAX, 7, "4294967295")]
    {
        let attempt = Attempt { number, hedge };
        let (mut call, mut plain) = (grpc(), Request::new(()));
        HTTP.set_attempt(&mut call, attempt);
        HTTP.set_attempt(&mut plain, attempt);
        assert_eq!(HTTP.attempt(&call), Some(attempt));
        assert_eq!(HTTP.attempt(&plain), Some(attempt));
        assert_eq!(attempts(call.headers()), before, "{attempt:?}");
        assert_eq!(plain.headers().len(), 0);
    }
    assert_eq!(HTTP.attempt(&grpc()), None);
}

#[test]
fn the_number_of_an_attempt_takes_the_place_of_the_one_before() {
    let mut request = grpc();
    for number in 1..=3 {
        HTTP.set_attempt(&mut request, Attempt::numbered(number));
    }
    let numbers: Vec<_> = request.headers().get_all("grpc-previous-rpc-attempts").iter().collect();
    assert_eq!(numbers, ["2"]);
}

#[tokio::test]
async fn a_request_is_sent_again_as_it_was() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Mine(u8);
    let request = Request::put("http://shop/orders/7?draft")
        .version(Version::HTTP_2)
        .header("idempotency-key", "\"8e03978e\"")
        .header("accept", "a")
        .header("accept", "b")
        .extension(Mine(7))
        .body(Full::new(Bytes::from("one cup")))
        .unwrap();
    let (expected, _) = request.clone().into_parts();
    let (first, kept) = HTTP.save(request, true);
    let mut kept = kept.unwrap();
    let mut sent = vec![first];
    for _ in 0..2 {
        let (parts, body) = sent.pop().unwrap().into_parts();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "one cup");
        assert_eq!(parts.method, expected.method);
        assert_eq!(parts.uri, expected.uri);
        assert_eq!(parts.version, expected.version);
        assert_eq!(parts.headers, expected.headers);
        assert_eq!(parts.extensions.get(), Some(&Mine(7)));
        sent.push(HTTP.replay(&mut kept).unwrap());
    }
}

#[tokio::test]
async fn changes_to_one_attempts_request_do_not_reach_the_next() {
    let (mut first, kept) = HTTP.save(grpc().map(|()| Full::new(Bytes::from("one cup"))), true);
    HTTP.set_attempt(&mut first, Attempt::numbered(7));
    first.headers_mut().insert("authorization", "mine".parse().unwrap());
    first.extensions_mut().insert(Idempotent(true));
    drop(first);
    let mut second = HTTP.replay(&mut kept.unwrap()).unwrap();
    assert_eq!(second.headers().len(), 1);
    assert_eq!((HTTP.attempt(&second), HTTP.is_idempotent(&second)), (None, false));
    assert_eq!(second.body_mut().collect().await.unwrap().to_bytes(), "one cup");
}

#[tokio::test]
async fn a_request_that_cannot_be_repeated_is_not_saved() {
    let request = Request::put("/").body(Full::new(Bytes::from("one cup"))).unwrap();
    let (first, kept) = HTTP.save(request, false);
    assert!(kept.is_none());
    assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "one cup");
}

#[tokio::test]
async fn a_body_is_kept_up_to_a_cap() {
    let http = HTTP.max_replayed(7);
    for (text, is_kept) in [("", true), ("one cup", true), ("one cups", false)] {
        let (first, kept) = http.save(Request::put("/").body(Full::new(Bytes::from(text))).unwrap(), true);
        assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), text, "cut off");
        assert_eq!(kept.is_some(), is_kept, "{text:?}");
        if let Some(mut kept) = kept {
            let body = http.replay(&mut kept).unwrap().into_body();
            assert_eq!(body.collect().await.unwrap().to_bytes(), text);
        }
    }
    let (_, kept) = HTTP.save(Request::put("/").body(Full::new(Bytes::from(vec![0; 65_536]))).unwrap(), true);
    assert!(kept.is_some());
    let (_, kept) = HTTP.save(Request::put("/").body(Full::new(Bytes::from(vec![0; 65_537]))).unwrap(), true);
    assert!(kept.is_none());
}

/// The body's length is unknown until it has been read.
#[tokio::test]
async fn a_body_that_turns_out_to_be_too_long_is_sent_once() {
    let body = Chunked(Full::new(Bytes::from("one cups")));
    let (first, kept) = HTTP.max_replayed(7).save(Request::put("/").body(body).unwrap(), true);
    let mut kept = kept.unwrap();
    assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "one cups");
    assert!(HTTP.replay(&mut kept).is_none());
}

#[test]
fn a_body_that_is_being_sent_is_not_sent_again() {
    let (first, kept) = HTTP.save(Request::put("/").body(Full::new(Bytes::from("one cup"))).unwrap(), true);
    let mut kept = kept.unwrap();
    assert!(HTTP.replay(&mut kept).is_none());
    drop(first);
    assert!(HTTP.replay(&mut kept).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_time_that_is_left_is_told_anew_with_each_attempt() {
    let mut request = grpc().map(|()| Full::new(Bytes::new()));
    let deadline = Deadline::after(10 * SECOND);
    HTTP.set_deadline(&mut request, deadline);
    assert_eq!(timeout(request.headers()), "10000000u");
    let (_, kept) = HTTP.save(request, true);
    let mut kept = kept.unwrap();
    for written in ["8000000u", "6000000u"] {
        advance(2 * SECOND).await;
        let again = HTTP.replay(&mut kept).unwrap();
        assert_eq!(timeout(again.headers()), written);
        assert_eq!(HTTP.deadline(&again), Some(deadline));
    }
}

/// As in a server that passes its requests on.
#[tokio::test(start_paused = true)]
async fn an_unread_grpc_timeout_counts_from_the_first_attempt() {
    let mut request = grpc().map(|()| Full::new(Bytes::new()));
    request.headers_mut().insert("grpc-timeout", "10S".parse().unwrap());
    let deadline = Deadline::after(10 * SECOND);
    let (first, kept) = HTTP.save(request, true);
    advance(4 * SECOND).await;
    assert_eq!(HTTP.deadline(&first), Some(deadline));
    let again = HTTP.replay(&mut kept.unwrap()).unwrap();
    assert_eq!(HTTP.deadline(&again), Some(deadline));
    assert_eq!(timeout(again.headers()), "6000000u");
}

/// A body of unknown length.
#[derive(Debug)]
struct Chunked<B>(B);

impl<B: Body + Unpin> Body for Chunked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }
}
