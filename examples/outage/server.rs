//! The server that falls ill: real HTTP/1 on a loopback port, one for each lane.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::Sleep;

use crate::script::{Condition, Script};

/// How long the server works on an answer.
const WORK: Duration = Duration::from_millis(5);
static RECEIPT: [u8; 4_096] = [b'.'; 4_096];

/// A server, and when calls reached it.
pub(crate) struct Server {
    script: Script,
    address: SocketAddr,
    reached: Mutex<Vec<Duration>>,
}

impl Server {
    pub(crate) async fn start(script: Script) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = Arc::new(Self { script, address, reached: Mutex::default() });
        tokio::spawn(serve(listener, {
            let server = Arc::clone(&server);
            move |_| Arc::clone(&server).answer()
        }));
        Ok(server)
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many calls reached it at times that `when` chooses.
    pub(crate) fn reached(&self, when: impl Fn(Duration) -> bool) -> usize {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.iter().filter(|at| when(**at)).count()
    }

    async fn answer(self: Arc<Self>) -> Response<Payload> {
        let now = self.script.now();
        let nth = {
            let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
            reached.push(now);
            reached.len()
        };
        tokio::time::sleep(WORK).await;
        let (status, payload) = match Script::condition_at(now) {
            Condition::Well => (StatusCode::OK, Payload::whole()),
            Condition::Fails if nth % 2 == 0 => (StatusCode::INTERNAL_SERVER_ERROR, Payload::whole()),
            Condition::Fails => (StatusCode::SERVICE_UNAVAILABLE, Payload::whole()),
            Condition::Hangs => std::future::pending().await,
            Condition::Cuts => (StatusCode::OK, Payload::half()),
        };
        let mut response = Response::new(payload);
        *response.status_mut() = status;
        response
    }
}

/// Serves HTTP/1 until the program ends.
pub(crate) async fn serve<H, F, B>(listener: TcpListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No file handles left: some calls will end soon.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let handler = handler.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = handler(request);
                async move { Ok::<_, Infallible>(response.await) }
            });
            // It fails when the client gives up, or a body is cut off: just what is to be shown.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A body that declares its length, and keeps to it or not.
pub(crate) struct Payload {
    data: Option<Bytes>,
    /// Then the socket is closed: a moment later, so that the first half is on its way.
    cut: Option<Pin<Box<Sleep>>>,
}

impl Payload {
    const fn whole() -> Self {
        Self { data: Some(Bytes::from_static(&RECEIPT)), cut: None }
    }

    fn half() -> Self {
        let (half, _) = RECEIPT.split_at(RECEIPT.len() / 2);
        Self { data: Some(Bytes::from_static(half)), cut: Some(Box::pin(tokio::time::sleep(WORK))) }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut self.cut {
            None => Poll::Ready(None),
            Some(cut) => cut.as_mut().poll(cx).map(|()| Some(Err(io::Error::other("cut off")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.cut.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = if self.is_end_stream() { 0 } else { RECEIPT.len() };
        SizeHint::with_exact(left as u64)
    }
}
