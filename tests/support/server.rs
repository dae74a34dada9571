//! An HTTP server on a loopback socket that fails in the ways servers fail, and knows who connected to it.

use std::collections::VecDeque;
use std::fmt;
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `200` and `hello`.
    Healthy,
    /// The same, once [`Server::let_go`] says so.
    Held,
    /// A `503`.
    Unavailable,
    /// A `503` with a `Retry-After` of so many seconds.
    Asks(u32),
    /// A call of gRPC that ends with its head, in this status, and with so many milliseconds of pushback.
    Grpc(u32, Option<i32>),
    /// The connection is reset when the request has been read.
    Breaks,
    /// The connection is reset before the request is read.
    Resets,
    /// The connection is closed in the middle of a body whose length was announced.
    CutsBodies,
    /// The body stops half-way, and the connection stays.
    StallsBodies,
    /// There is no answer.
    StallsHeads,
}

/// The socket of a server that is down: nobody else gets its address, and connections are refused.
#[derive(Debug)]
pub(crate) struct Down(TcpSocket);

impl Down {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Starts the server.
    pub(crate) fn up(self, mode: Mode) -> Server {
        let listener = self.0.listen(1_024).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::new(mode));
        let server = tokio::spawn(accept(listener, Arc::clone(&seen)));
        Server { address, seen, server }
    }
}

#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    server: tokio::task::JoinHandle<()>,
}

/// A request that has arrived, body and all.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    /// A header; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What happens to the request with this number, counted from zero.
type Plan = Box<dyn Fn(usize) -> Mode + Send>;

struct Seen {
    plan: Mutex<Plan>,
    /// Who connected, in order.
    peers: watch::Sender<Vec<SocketAddr>>,
    /// How many connections there are.
    open: watch::Sender<usize>,
    requests: watch::Sender<Vec<Received>>,
    held: Semaphore,
}

impl Seen {
    fn new(mode: Mode) -> Self {
        Self {
            plan: Mutex::new(Box::new(move |_| mode)),
            peers: watch::Sender::default(),
            open: watch::Sender::default(),
            requests: watch::Sender::default(),
            held: Semaphore::new(0),
        }
    }

    fn mode(&self, request: usize) -> Mode {
        (self.plan.lock().unwrap())(request)
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("peers", &self.peers).field("requests", &self.requests).finish()
    }
}

impl Server {
    pub(crate) fn start(mode: Mode) -> Self {
        Down::new().up(mode)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn mode(&self, mode: Mode) {
        self.plan(move |_| mode);
    }

    /// Decides what happens to the request with a number, counted from zero.
    pub(crate) fn plan(&self, plan: impl Fn(usize) -> Mode + Send + 'static) {
        *self.seen.plan.lock().unwrap() = Box::new(plan);
    }

    /// How many connections were made until now, surely: this one is the last in the queue.
    pub(crate) async fn connections(&self) -> usize {
        let last = TcpStream::connect(self.address).await.unwrap();
        let last = last.local_addr().unwrap();
        let mut peers = self.seen.peers.subscribe();
        let peers = peers.wait_for(|peers| peers.contains(&last)).await.unwrap();
        let before = peers.iter().position(|peer| *peer == last).unwrap();
        drop(peers);
        self.seen.peers.send_modify(|peers| peers.retain(|peer| *peer != last));
        before
    }

    /// Waits until so many requests have arrived.
    pub(crate) async fn has_requests(&self, requests: usize) {
        self.seen.requests.subscribe().wait_for(|seen| seen.len() >= requests).await.unwrap();
    }

    /// Waits until so many connections are left.
    pub(crate) async fn has_open(&self, connections: usize) {
        self.seen.open.subscribe().wait_for(|open| *open == connections).await.unwrap();
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.borrow().len()
    }

    /// The requests that have arrived, in order.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.seen.requests.borrow().clone()
    }

    /// Answers all that is held.
    pub(crate) fn let_go(&self) {
        self.seen.held.add_permits(1_024);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        seen.peers.send_modify(|peers| peers.push(peer));
        // A connection that breaks is what this is all about.
        tokio::spawn(serve(stream, Arc::clone(&seen)));
    }
}

async fn serve(stream: TcpStream, seen: Arc<Seen>) -> io::Result<()> {
    seen.open.send_modify(|open| *open += 1);
    let served = serve_open(stream, &seen).await;
    seen.open.send_modify(|open| *open -= 1);
    served
}

async fn serve_open(stream: TcpStream, seen: &Arc<Seen>) -> io::Result<()> {
    let requests = seen.requests.borrow().len();
    match seen.mode(requests) {
        Mode::Resets => {
            // What is received and never read makes the kernel reset the connection.
            stream.readable().await?;
            drop(stream);
        }
        Mode::CutsBodies => cut(stream).await?,
        mode => {
            if mode == Mode::Breaks {
                #[allow(
                    deprecated,
                    reason = "zero does not block; its successor is newer than what tests need"
                )]
                stream.set_linger(Some(Duration::ZERO))?;
            }
            let answer = service_fn(|request| answer(request, Arc::clone(seen)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        }
    }
    Ok(())
}

async fn cut(mut stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").await?;
    stream.shutdown().await
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> io::Result<Response<Script>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let mut number = 0;
    seen.requests.send_modify(|requests| {
        number = requests.len();
        let (method, headers) = (parts.method, parts.headers);
        requests.push(Received { at: Instant::now(), method, headers, body });
    });
    let mode = seen.mode(number);
    match mode {
        Mode::StallsHeads => pending::<()>().await,
        Mode::Held => seen.held.acquire().await.unwrap().forget(),
        Mode::Breaks => return Err(io::ErrorKind::ConnectionReset.into()),
        _ => {}
    }
    Ok(head(mode)
        .body(match mode {
            Mode::StallsBodies => Script::new([Step::Data("hel"), Step::Stall]),
            Mode::Grpc(..) => Script::default().sized(),
            _ => Script::new([Step::Data("hello")]),
        })
        .unwrap())
}

fn head(mode: Mode) -> http::response::Builder {
    let head = Response::builder();
    match mode {
        Mode::Unavailable => head.status(StatusCode::SERVICE_UNAVAILABLE),
        Mode::Asks(seconds) => head.status(StatusCode::SERVICE_UNAVAILABLE).header(RETRY_AFTER, seconds),
        Mode::Grpc(status, pushback) => {
            let head = head.header(CONTENT_TYPE, "application/grpc").header("grpc-status", status);
            match pushback {
                Some(millis) => head.header("grpc-retry-pushback-ms", HeaderValue::from(millis)),
                None => head,
            }
        }
        _ => head,
    }
}

/// A body that does what is written down.
#[derive(Debug, Default)]
pub(crate) struct Script {
    steps: VecDeque<Step>,
    /// Whether it knows its length.
    is_sized: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Data(&'static str),
    Trailers,
    /// Not yet, and then the next step.
    Wait,
    /// Never.
    Stall,
    Fail,
    Panic,
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), is_sized: false }
    }

    pub(crate) fn sized(self) -> Self {
        Self { is_sized: true, ..self }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.steps.front() {
            Some(Step::Stall) => return Poll::Pending,
            Some(Step::Wait) => {
                self.steps.pop_front();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            _ => {}
        }
        Poll::Ready(self.steps.pop_front().map(|step| match step {
            Step::Data(text) => Ok(Frame::data(Bytes::from_static(text.as_bytes()))),
            Step::Trailers => {
                let trailers = [(http::header::ETAG, http::HeaderValue::from_static("1"))];
                Ok(Frame::trailers(trailers.into_iter().collect()))
            }
            Step::Fail => Err(io::Error::other("body broke off")),
            _ => panic!("body"),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.is_sized && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes =
            self.steps.iter().map(|step| if let Step::Data(text) = step { text.len() as u64 } else { 0 });
        if self.is_sized { SizeHint::with_exact(bytes.sum()) } else { SizeHint::default() }
    }
}

/// The next frame of a body.
pub(crate) async fn frame<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}
