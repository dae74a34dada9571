//! HTTP: which errors of real clients mean "not processed", and what further attempts carry.

#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "servers are tasks")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "it serves other tests as well")]
#[path = "support/server.rs"]
mod server;

use std::error::Error as StdError;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;
use stanchion::classify::{Classify, Retryable};
use stanchion::http::replay_body::ReplayBody;
use stanchion::http::{Http, Idempotent, SourceChain, Unprocessed, is_unprocessed};
use stanchion::{Backoff, Error, RetryConfig, RetryLayer};
use tower::{BoxError, Layer, ServiceExt, service_fn};

use server::{Down, Mode, Script, Server, Step};

/// Returns the error of hyper-util's client when it posts to `to`.
async fn by_hyper(to: SocketAddr, is_http2: bool) -> legacy::Error {
    let client = Client::builder(TokioExecutor::new()).http2_only(is_http2).build_http();
    let request = Request::post(format!("http://{to}/")).body(Full::new(Bytes::from("one cup"))).unwrap();
    client.request(request).await.unwrap_err()
}

/// Returns the error of reqwest when it posts to `to`.
async fn by_reqwest(to: SocketAddr) -> reqwest::Error {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.post(format!("http://{to}/")).body("one cup").send().await.unwrap_err()
}

fn retryable<F: Unprocessed<E>, E>(http: &Http<F>, error: &E) -> Retryable {
    Classify::<Response<()>, E>::classify(http, Err(error)).retryable
}

/// Classifies such an error in each form in which layers may see it.
#[track_caller]
fn assert_judged<E: StdError + Send + Sync + 'static>(error: E, is_lost: bool) {
    assert_eq!(is_unprocessed(&error), is_lost, "{error:?}");
    let expected = if is_lost { Retryable::Always } else { Retryable::IfIdempotent };

    let error = Error::Inner(error);
    assert_eq!(SourceChain.is_unprocessed(&error), is_lost);
    let of_type = |error: &Error<E>| error.inner().is_some_and(|error| is_unprocessed(error));
    assert_eq!(retryable(&Http::new().unprocessed(of_type), &error), expected);

    let Error::Inner(error) = error else { panic!("no refusal") };
    let boxed = BoxError::from(error);
    assert_eq!(retryable(&Http::new(), &boxed), expected);
}

#[tokio::test]
async fn a_request_whose_connection_was_refused_was_not_processed() {
    let down = Down::new();
    let to = down.address();
    assert_judged(by_hyper(to, false).await, true);
    assert_judged(by_hyper(to, true).await, true);
    assert_judged(by_reqwest(to).await, true);
}

#[tokio::test]
async fn a_request_whose_connection_broke_may_have_been_processed() {
    for mode in [Mode::Resets, Mode::Breaks] {
        let server = Server::start(mode);
        let to = server.address();
        assert_judged(by_hyper(to, false).await, false);
        assert_judged(by_reqwest(to).await, false);
        assert_eq!(server.requests(), if mode == Mode::Breaks { 2 } else { 0 });
    }
}

#[tokio::test]
async fn an_error_may_be_boxed_with_what_is_around_it() {
    let down = Down::new();
    let nested = BoxError::from(Error::Inner(by_hyper(down.address(), false).await));
    assert_eq!(retryable(&Http::new(), &nested), Retryable::Always);
}

/// The wait has used some of the time.
#[tokio::test(start_paused = true)]
async fn a_further_attempt_tells_what_time_is_left_when_it_is_made() {
    let timeouts = Mutex::new(Vec::new());
    let service = service_fn(|request: Request<ReplayBody<Full<Bytes>>>| {
        timeouts.lock().unwrap().push(request.headers()["grpc-timeout"].clone());
        ready(Ok::<_, BoxError>(Response::builder().header("grpc-status", 14).body(()).unwrap()))
    });
    let config = RetryConfig::new().backoff(Backoff::constant(Duration::from_secs(1)));
    let request = Request::post("/orders.Orders/Cancel")
        .header(CONTENT_TYPE, "application/grpc")
        .header("grpc-timeout", "10S")
        .extension(Idempotent(true));
    let layer = RetryLayer::new(config).protocol(Http::new());
    layer.layer(service).oneshot(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(*timeouts.lock().unwrap(), ["10000000u", "9000000u", "8000000u"]);
}

#[cfg(feature = "http2")]
mod http2 {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const NO_ERROR: u32 = 0;
    const INTERNAL_ERROR: u32 = 2;
    const REFUSED_STREAM: u32 = 7;
    const CANCEL: u32 = 8;
    const ENHANCE_YOUR_CALM: u32 = 11;

    /// The HTTP/2 frames that a server writes when a request has arrived.
    #[derive(Clone, Copy, Debug)]
    enum Answer {
        /// `RST_STREAM` with a code.
        Reset(u32),
        /// `GOAWAY` with the last stream that is processed, and a code. The connection is then
        /// closed.
        GoAway(u32, u32),
        /// A `200`.
        Good,
        None,
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u32]) -> Vec<u8> {
        let length = u8::try_from(payload.len() * 4).unwrap();
        let mut frame = vec![0, 0, length, kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload.iter().flat_map(|word| word.to_be_bytes()));
        frame
    }

    /// A hand-written HTTP/2 server.
    async fn serve(
        stream: TcpStream,
        [first, others]: [Answer; 2],
        requests: Arc<AtomicUsize>,
    ) -> io::Result<()> {
        const HEADERS: u8 = 1;
        const RST_STREAM: u8 = 3;
        const SETTINGS: u8 = 4;
        const GOAWAY: u8 = 7;
        const ACK: u8 = 1;
        let mut stream = tokio::io::BufReader::new(stream);
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await?;
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        loop {
            let (high, low) = (stream.read_u8().await?, stream.read_u16().await?);
            let (kind, flags) = (stream.read_u8().await?, stream.read_u8().await?);
            let id = stream.read_u32().await?;
            let mut payload = vec![0; usize::from(high) << 16 | usize::from(low)];
            stream.read_exact(&mut payload).await?;
            match kind {
                SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await?,
                HEADERS => {
                    let number = requests.fetch_add(1, Ordering::Relaxed);
                    match if number == 0 { first } else { others } {
                        Answer::Reset(code) => stream.write_all(&frame(RST_STREAM, 0, id, &[code])).await?,
                        Answer::GoAway(last, code) => {
                            stream.write_all(&frame(GOAWAY, 0, 0, &[last, code])).await?;
                            stream.shutdown().await?;
                            // Unread data makes the kernel reset the connection, and discard what
                            // was written.
                            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                            return Ok(());
                        }
                        Answer::None => {}
                        Answer::Good => {
                            // A status without a body.
                            stream.write_all(&[0, 0, 1, HEADERS, 5]).await?;
                            stream.write_all(&id.to_be_bytes()).await?;
                            stream.write_all(&[0x88]).await?;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Starts a server that writes the first of these, and the second from then on.
    async fn start(answers: [Answer; 2]) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, answers, Arc::clone(&seen)));
            }
        });
        (address, requests)
    }

    async fn assert_answer_judged(answer: Answer, is_lost: bool) {
        let (to, requests) = start([answer; 2]).await;
        assert_judged(by_hyper(to, true).await, is_lost);
        assert_eq!(requests.load(Ordering::Relaxed), 1, "{answer:?}");
    }

    #[tokio::test]
    async fn a_stream_that_was_refused_was_not_processed() {
        assert_answer_judged(Answer::Reset(REFUSED_STREAM), true).await;
    }

    #[tokio::test]
    async fn a_stream_that_was_reset_for_another_reason_may_have_been_processed() {
        for code in [NO_ERROR, INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM] {
            assert_answer_judged(Answer::Reset(code), false).await;
        }
    }

    #[tokio::test]
    async fn a_stream_that_a_server_going_away_has_not_begun_was_not_processed() {
        assert_answer_judged(Answer::GoAway(0, NO_ERROR), true).await;
    }

    #[tokio::test]
    async fn a_stream_that_a_server_going_away_has_begun_may_have_been_processed() {
        for last in [1, 0x7fff_ffff] {
            assert_answer_judged(Answer::GoAway(last, NO_ERROR), false).await;
        }
    }

    /// The body of the request ended in this error, and the server may have acted on the part
    /// before.
    #[tokio::test]
    async fn a_stream_that_the_client_has_reset_may_have_been_processed() {
        let (to, _) = start([Answer::None; 2]).await;
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let body = Script::new([Step::Data("one"), Step::Wait, Step::Fail]);
        let body = body.map_err(|_| h2::Error::from(h2::Reason::REFUSED_STREAM));
        let request = Request::post(format!("http://{to}/")).body(body).unwrap();
        assert_judged(client.request(request).await.unwrap_err(), false);
    }

    /// The request may not have been processed, but such a server should not receive another one at
    /// once.
    #[tokio::test]
    async fn a_server_that_goes_away_in_trouble_is_not_asked_again() {
        for code in [INTERNAL_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM] {
            assert_answer_judged(Answer::GoAway(0, code), false).await;
        }
    }

    #[tokio::test]
    async fn a_post_that_was_not_processed_is_sent_again_whole() {
        for refusal in [Answer::Reset(REFUSED_STREAM), Answer::GoAway(0, NO_ERROR)] {
            for body in ["", "one cup"] {
                let (to, requests) = start([refusal, Answer::Good]).await;
                let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
                let retry = RetryLayer::new(RetryConfig::new().backoff(Backoff::constant(Duration::ZERO)));
                let service = retry.protocol(Http::new()).layer(client.map_err(BoxError::from));
                let request = Request::post(format!("http://{to}/")).body(Full::new(Bytes::from(body)));
                let answer = service.oneshot(request.unwrap()).await.unwrap();
                assert_eq!(answer.status(), 200, "{refusal:?}, {body:?}");
                assert_eq!(requests.load(Ordering::Relaxed), 2);
            }
        }
    }
}
