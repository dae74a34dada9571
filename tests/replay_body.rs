//! Replayed request bodies: what attempts yield, what is kept, and the same over real sockets.

#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "servers are tasks")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/replayed.rs"]
mod replayed;
#[allow(dead_code, reason = "it serves other tests as well")]
#[path = "support/server.rs"]
mod server;

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderMap, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use proptest::collection::vec;
use proptest::prelude::*;
use stanchion::http::replay_body::{Replay, ReplayBody, Replayable};
use tokio_test::{assert_pending, assert_ready, task};

use replayed::{End, Plan, Step as Do, follow};
use server::{Script, Step, frame};

const CAP: usize = 65_536;

fn hello() -> Script {
    Script::new([Step::Data("hel"), Step::Data("lo")])
}

async fn read<B: Body<Error: std::fmt::Debug>>(body: B) -> (Bytes, Option<HeaderMap>) {
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    (collected.to_bytes(), trailers)
}

async fn text<B: Body<Error: std::fmt::Debug>>(body: B) -> Bytes {
    read(body).await.0
}

#[tokio::test]
async fn a_complete_body_can_be_replayed_any_number_of_times() {
    let (first, replay) = ReplayBody::new(hello(), CAP);
    assert_eq!(replay.replayable(), Replayable::Sending);
    assert_eq!(text(first).await, "hello");
    for _ in 0..3 {
        assert_eq!(replay.replayable(), Replayable::Yes);
        assert_eq!(text(replay.replay().unwrap()).await, "hello");
    }
}

#[tokio::test]
async fn an_unread_body_is_passed_to_the_next_attempt() {
    let (first, replay) = ReplayBody::new(hello(), CAP);
    drop(first);
    assert_eq!(text(replay.replay().unwrap()).await, "hello");
}

#[tokio::test]
async fn an_attempt_takes_up_where_the_last_one_was_dropped() {
    let (mut body, replay) = ReplayBody::new(hello(), CAP);
    for _ in 0..3 {
        assert_eq!(frame(&mut body).await.unwrap().unwrap().into_data().unwrap(), "hel");
        assert!(replay.replay().is_none(), "two attempts read one body");
        assert_eq!(replay.replayable(), Replayable::Sending);
        drop(body);
        body = replay.replay().unwrap();
    }
    assert_eq!(text(body).await, "hello");
}

/// A body may find out that it has ended without yielding a frame.
#[tokio::test]
async fn an_attempt_is_not_over_before_it_has_yielded_what_was_kept() {
    let (first, replay) = ReplayBody::new(Script::new([Step::Data("hello"), Step::Wait]).sized(), CAP);
    let mut reader = task::spawn(first);
    assert!(assert_ready!(reader.enter(|cx, first| first.poll_frame(cx))).is_some());
    assert_pending!(reader.enter(|cx, first| first.poll_frame(cx)));
    drop(reader);
    let again = replay.replay().unwrap();
    assert!(!again.is_end_stream());
    assert_eq!(text(again).await, "hello");
}

#[tokio::test]
async fn attempts_go_on_side_by_side_once_one_has_read_to_the_end() {
    let (mut first, replay) = ReplayBody::new(hello(), CAP);
    while frame(&mut first).await.is_some() {}
    let (mut second, third) = (replay.replay().unwrap(), replay.replay().unwrap());
    frame(&mut second).await.unwrap().unwrap();
    assert_eq!(text(third).await, "hello");
    assert!(frame(&mut second).await.is_none(), "what is short comes in one piece");
    assert!(frame(&mut first).await.is_none());
}

/// Hyper and others do not poll a body of known length after its last byte.
#[tokio::test]
async fn a_body_of_known_length_is_complete_with_its_last_byte_and_any_other_with_its_trailers() {
    let with_trailers = Script::new([Step::Data("hel"), Step::Data("lo"), Step::Trailers]);
    for (script, frames) in [(hello().sized(), 2), (with_trailers, 3)] {
        let (mut first, replay) = ReplayBody::new(script, CAP);
        for _ in 0..frames {
            assert_eq!((first.is_end_stream(), replay.replayable()), (false, Replayable::Sending));
            frame(&mut first).await.unwrap().unwrap();
        }
        assert_eq!((first.is_end_stream(), replay.replayable()), (true, Replayable::Yes));
        assert_eq!(text(replay.replay().unwrap()).await, "hello");
    }
}

#[tokio::test]
async fn trailers_come_again() {
    let (first, replay) = ReplayBody::new(Script::new([Step::Data("hello"), Step::Trailers]), CAP);
    for attempt in [Some(first), replay.replay(), replay.replay()].into_iter().flatten() {
        let (data, trailers) = read(attempt).await;
        assert_eq!((&data[..], &trailers.unwrap()[header::ETAG]), (&b"hello"[..], &"1".parse().unwrap()));
    }
    let (first, replay) = ReplayBody::new(Script::new([Step::Trailers]), CAP);
    drop(read(first).await);
    let again = replay.replay().unwrap();
    assert_eq!((again.is_end_stream(), again.size_hint().exact()), (false, None));
    assert!(read(again).await.1.is_some());
}

#[tokio::test]
async fn a_body_up_to_the_cap_can_be_sent_again_and_none_longer() {
    for sized in [false, true] {
        for (cap, then) in
            [(5, Replayable::Yes), (6, Replayable::Yes), (4, Replayable::TooLong), (0, Replayable::TooLong)]
        {
            let script = if sized { hello().sized() } else { hello() };
            let (first, replay) = ReplayBody::new(script, cap);
            let known = sized && then == Replayable::TooLong;
            assert_eq!(replay.replayable(), if known { Replayable::TooLong } else { Replayable::Sending });
            assert_eq!(text(first).await, "hello", "the attempt itself goes on");
            assert_eq!((replay.replayable(), replay.replay().is_some()), (then, then == Replayable::Yes));
        }
    }
}

#[tokio::test]
async fn a_later_attempt_may_go_over_the_cap_too() {
    let (mut first, replay) = ReplayBody::new(hello(), 4);
    frame(&mut first).await.unwrap().unwrap();
    drop(first);
    assert_eq!(text(replay.replay().unwrap()).await, "hello");
    assert_eq!(replay.replayable(), Replayable::TooLong);
}

#[tokio::test]
async fn a_body_that_breaks_cannot_be_sent_again() {
    let (mut first, replay) = ReplayBody::new(Script::new([Step::Data("hel"), Step::Fail]), CAP);
    frame(&mut first).await.unwrap().unwrap();
    assert_eq!(frame(&mut first).await.unwrap().unwrap_err().to_string(), "body broke off");
    for _ in 0..2 {
        assert_eq!(replay.replayable(), Replayable::Broken);
        assert!(replay.replay().is_none());
    }
    assert!(frame(&mut first).await.is_none());
}

#[tokio::test]
async fn a_body_that_panics_cannot_be_sent_again() {
    let (mut first, replay) = ReplayBody::new(Script::new([Step::Data("hel"), Step::Panic]), CAP);
    frame(&mut first).await.unwrap().unwrap();
    let poll = || task::spawn(()).enter(|cx, _| pin!(&mut first).poll_frame(cx).is_ready());
    assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
    drop(first);
    assert_eq!(replay.replayable(), Replayable::Broken);
}

#[test]
fn an_empty_body_can_be_sent_again_at_any_time() {
    let (first, replay) = ReplayBody::new(Empty::<Bytes>::new(), 0);
    for attempt in [&first, &replay.replay().unwrap(), &replay.replay().unwrap()] {
        assert_eq!((attempt.is_end_stream(), attempt.size_hint().exact()), (true, Some(0)));
    }
    assert_eq!(replay.replayable(), Replayable::Yes);
}

#[tokio::test]
async fn a_body_without_data_is_kept_with_a_cap_of_nothing() {
    let (first, replay) = ReplayBody::new(Script::new([Step::Data("")]), 0);
    assert!(text(first).await.is_empty());
    let again = replay.replay().unwrap();
    assert_eq!((again.is_end_stream(), again.size_hint().exact()), (true, Some(0)));
}

#[tokio::test]
async fn an_attempt_knows_its_length_if_the_body_does_or_is_over() {
    let (mut body, replay) = ReplayBody::new(hello().sized(), CAP);
    assert_eq!(body.size_hint().exact(), Some(5));
    frame(&mut body).await.unwrap().unwrap();
    assert_eq!(body.size_hint().exact(), Some(2));
    drop(body);
    let body = replay.replay().unwrap();
    assert_eq!(body.size_hint().exact(), Some(5));
    text(body).await;

    let (mut body, replay) = ReplayBody::new(hello(), CAP);
    frame(&mut body).await.unwrap().unwrap();
    drop(body);
    let body = replay.replay().unwrap();
    assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (3, None));
    text(body).await;
    assert_eq!(replay.replay().unwrap().size_hint().exact(), Some(5));
}

#[tokio::test]
async fn an_attempt_that_waits_is_woken() {
    let (body, replay) = ReplayBody::new(Script::new([Step::Wait, Step::Data("hello")]), CAP);
    let mut reader = task::spawn(body.collect());
    assert_pending!(reader.poll());
    assert!(reader.is_woken());
    assert_eq!(assert_ready!(reader.poll()).unwrap().to_bytes(), "hello");
    assert_eq!(replay.replayable(), Replayable::Yes);
}

#[tokio::test]
async fn long_data_is_not_copied() {
    let long = Bytes::from(vec![7; 2_000]);
    let (mut first, replay) = ReplayBody::new(Full::new(long.clone()), CAP);
    let sent = frame(&mut first).await.unwrap().unwrap().into_data().unwrap();
    let mut second = replay.replay().unwrap();
    let again = frame(&mut second).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!([sent.as_ptr(), again.as_ptr()], [long.as_ptr(); 2]);
}

#[tokio::test]
async fn data_of_any_type_becomes_bytes() {
    let body = Full::new((&b"hel"[..]).chain(&b"lo"[..]));
    let (first, replay) = ReplayBody::new(body, CAP);
    assert_eq!(text(first).await, "hello");
    assert_eq!(text(replay.replay().unwrap()).await, "hello");
}

#[tokio::test]
async fn a_body_made_without_a_handle_is_sent_as_it_is() {
    let body = ReplayBody::from(hello().sized());
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
    assert_eq!(text(body).await, "hello");
    assert!(ReplayBody::<Empty<Bytes>>::default().is_end_stream());
}

#[test]
fn its_types_fit_where_bodies_are_wanted() {
    fn fits<T: Send + Sync + Unpin + std::fmt::Debug + 'static>(_: &T) {}
    let (body, replay) = ReplayBody::new(Full::new(Bytes::from_static(b"hello")), CAP);
    fits(&body);
    fits(&replay);
}

/// Yields pieces without end, and counts the bytes of those that are still alive.
#[derive(Debug)]
struct Endless {
    piece: usize,
    held: Arc<AtomicUsize>,
}

struct Piece {
    data: Vec<u8>,
    held: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.held.fetch_sub(self.data.len(), Ordering::Relaxed);
    }
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.held.fetch_add(self.piece, Ordering::Relaxed);
        let piece = Piece { data: vec![1; self.piece], held: Arc::clone(&self.held) };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }
}

fn endless(piece: usize) -> (ReplayBody<Endless>, Replay<Endless>, Arc<AtomicUsize>) {
    let held = Arc::new(AtomicUsize::new(0));
    let (body, replay) = ReplayBody::new(Endless { piece, held: Arc::clone(&held) }, CAP);
    (body, replay, held)
}

#[tokio::test]
async fn no_more_is_kept_than_the_cap_and_nothing_beyond_it() {
    for piece in [1_usize, 1_023, 1_024, 5_000, CAP, CAP + 1] {
        let (mut body, replay, held) = endless(piece);
        let mut most = 0;
        let fitting = CAP / piece;
        for number in 1..fitting + 10 {
            frame(&mut body).await.unwrap().unwrap();
            most = most.max(held.load(Ordering::Relaxed));
            let is_kept = number <= fitting;
            assert_eq!(replay.replayable(), if is_kept { Replayable::Sending } else { Replayable::TooLong });
        }
        assert_eq!(most, if piece < 1_024 { 0 } else { fitting * piece });
        assert_eq!(held.load(Ordering::Relaxed), 0, "what cannot be sent again is not kept");
    }
}

#[tokio::test]
async fn a_cap_without_bound_is_one() {
    let (first, replay) = ReplayBody::new(hello(), usize::MAX);
    assert_eq!(text(first).await, "hello");
    assert_eq!(text(replay.replay().unwrap()).await, "hello");
}

#[tokio::test]
async fn nothing_is_kept_once_the_handle_is_dropped() {
    let (mut body, replay, held) = endless(2_000);
    frame(&mut body).await.unwrap().unwrap();
    assert_eq!(held.load(Ordering::Relaxed), 2_000);
    drop(replay);
    frame(&mut body).await.unwrap().unwrap();
    assert_eq!(held.load(Ordering::Relaxed), 0);
}

fn plan() -> impl Strategy<Value = Plan> {
    let length = prop_oneof![3 => 0..40_usize, 2 => 1_000..1_050_usize, 1 => 0..9_000_usize];
    let frames = vec(proptest::option::weighted(0.9, length), 0..8);
    let end = prop_oneof![Just(End::AnyRequest), Just(End::Trailers), Just(End::Error)];
    let near = prop_oneof![Just(0_i64), Just(-1), Just(1), -9_000..9_000_i64];
    (frames, end, any::<bool>(), near).prop_map(|(frames, end, is_sized, near)| {
        let length: usize = frames.iter().flatten().sum();
        let cap = length.saturating_add_signed(isize::try_from(near).unwrap());
        Plan { frames, end, is_sized, cap }
    })
}

fn steps() -> impl Strategy<Value = Vec<Do>> {
    let attempt = 0..8_usize;
    let step = prop_oneof![
        6 => (attempt.clone(), 1..5_usize).prop_map(|(attempt, times)| Do::Poll { attempt, times }),
        3 => attempt.prop_map(Do::DropAttempt),
        4 => Just(Do::Again),
        1 => Just(Do::DropHandle),
    ];
    vec(step, 0..24)
}

proptest! {
    #[test]
    fn whatever_is_read_and_dropped_every_attempt_yields_what_was_sent(plan in plan(), steps in steps()) {
        follow(&plan, &steps);
    }
}

/// A real client and a real server on real sockets.
mod over_sockets {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use http::{Request, Response, StatusCode};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::client::legacy::Client;
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::task::yield_now;

    use super::*;

    type Received = Arc<Mutex<Vec<(Bytes, Option<HeaderMap>)>>>;

    /// Serves one connection: reads each request to its end, and responds to the first with 503 and
    /// to the others with 200.
    async fn serve(listener: &TcpListener, received: Received) {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = service_fn(move |request: Request<Incoming>| {
            let received = Arc::clone(&received);
            async move {
                let request = read(request.into_body()).await;
                let mut received = received.lock().unwrap();
                received.push(request);
                let first = received.len() == 1;
                let mut response = Response::new(Empty::<Bytes>::new());
                *response.status_mut() = if first { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
                Ok::<_, Infallible>(response)
            }
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
    }

    fn client<B>() -> Client<HttpConnector, ReplayBody<B>>
    where
        ReplayBody<B>: Body<Data: Send> + Send,
    {
        Client::builder(TokioExecutor::new()).build_http()
    }

    fn post<B>(to: SocketAddr, body: B) -> Request<B> {
        Request::post(format!("http://{to}/")).header(header::TRAILER, "etag").body(body).unwrap()
    }

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn a_request_is_sent_again_whole_after_a_503() {
        let chunked = Script::new([Step::Data("hel"), Step::Wait, Step::Data("lo"), Step::Trailers]);
        for (script, has_trailers) in [(chunked, true), (hello().sized(), false)] {
            let (listener, address) = listen().await;
            let received = Received::default();
            let server = tokio::spawn({
                let received = Arc::clone(&received);
                async move { serve(&listener, received).await }
            });
            let (first, replay) = ReplayBody::new(script, CAP);
            let client = client();
            let refused = client.request(post(address, first)).await.unwrap();
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
            refused.into_body().collect().await.unwrap();
            assert_eq!(replay.replayable(), Replayable::Yes);
            let served = client.request(post(address, replay.replay().unwrap())).await.unwrap();
            assert_eq!(served.status(), StatusCode::OK);
            server.abort();
            let received = received.lock().unwrap().clone();
            assert_eq!(received.len(), 2);
            for (data, trailers) in received {
                assert_eq!((&data[..], trailers.is_some()), (&b"hello"[..], has_trailers));
            }
        }
    }

    /// A body whose data another task sends.
    #[derive(Debug)]
    struct Piped(UnboundedReceiver<&'static [u8]>);

    impl Body for Piped {
        type Data = &'static [u8];
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<&'static [u8]>, Infallible>>> {
            self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
        }
    }

    #[tokio::test]
    async fn a_request_whose_connection_broke_half_way_is_sent_again_with_what_comes_later() {
        let (listener, address) = listen().await;
        let received = Received::default();
        let server = tokio::spawn({
            let received = Arc::clone(&received);
            async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![];
                while !head.windows(3).any(|bytes| bytes == b"hel") {
                    head.push(stream.read_u8().await.unwrap());
                }
                drop(stream);
                serve(&listener, received).await;
            }
        });
        let (pipe, piped) = unbounded_channel();
        let (first, replay) = ReplayBody::new(Piped(piped), CAP);
        pipe.send(b"hel").unwrap();
        let client = client();
        client.request(post(address, first)).await.unwrap_err();
        while replay.replayable() == Replayable::Sending {
            yield_now().await;
        }
        let second = replay.replay().unwrap();
        pipe.send(b"lo").unwrap();
        drop(pipe);
        client.request(post(address, second)).await.unwrap();
        server.abort();
        assert_eq!(received.lock().unwrap()[0].0, "hello");
    }
}
