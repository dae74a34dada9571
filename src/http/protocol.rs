use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body::Body;

use super::unprocessed::SourceChain;
use crate::classify::Class;
use crate::deadline::Deadline;
use crate::http::headers::{grpc_timeout, write_grpc_timeout};
use crate::http::replay_body::{self, ReplayBody, Replayable};
use crate::protocol::{Attempt, CallAttributes, Replay, RequestContext, Timeouts};

/// The protocol of requests of the `http` crate. See the [module](super).
///
/// `F` recognises errors which say that a request was not processed: see
/// [`Unprocessed`](super::Unprocessed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http<F = SourceChain> {
    pub(super) max_replayed: usize,
    pub(super) too_many_requests: Class,
    pub(super) service_unavailable: Class,
    pub(super) unprocessed: F,
}

/// Overrides whether executing a request twice does no harm, whatever its method. Put it into the
/// request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Idempotent(pub bool);

impl Http {
    /// Creates a protocol that sends bodies of up to 64 KiB again and classifies errors by [their
    /// chain](SourceChain).
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_replayed: 64 * 1024,
            too_many_requests: Class::Success,
            service_unavailable: Class::Failure,
            unprocessed: SourceChain,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> Http<F> {
    /// Sets the maximum number of body bytes that are kept for another attempt. A longer body is
    /// not kept, and its request is not repeated. Each request in flight may use this much memory.
    /// Default: 65,536.
    #[must_use]
    pub fn max_replayed(self, bytes: usize) -> Self {
        Self { max_replayed: bytes, ..self }
    }

    /// Sets the class of a 429 response. Default: success, since the service works and only this
    /// caller sends too much. In any case it is retryable and counts as overload.
    #[must_use]
    pub fn too_many_requests(self, class: Class) -> Self {
        Self { too_many_requests: class, ..self }
    }

    /// Sets the class of a 503 response. Default: failure. In any case it is retryable and counts
    /// as overload.
    #[must_use]
    pub fn service_unavailable(self, class: Class) -> Self {
        Self { service_unavailable: class, ..self }
    }

    /// Sets the predicate for errors which say that a request was not processed. Every request may
    /// be repeated after such an error. For a known error type, such as a client's:
    /// `.unprocessed(|error: &Error<reqwest::Error>| ..)`.
    #[must_use]
    pub fn unprocessed<G>(self, unprocessed: G) -> Http<G> {
        let Self { max_replayed, too_many_requests, service_unavailable, .. } = self;
        Http { max_replayed, too_many_requests, service_unavailable, unprocessed }
    }
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

impl<F, B> RequestContext<Request<B>> for Http<F> {
    fn deadline(&self, request: &Request<B>) -> Option<Deadline> {
        let given = request.extensions().get().copied();
        given.or_else(|| grpc_timeout(request.headers()).map(Deadline::after))
    }

    fn set_deadline(&self, request: &mut Request<B>, deadline: Deadline) {
        put(request, deadline);
        if is_grpc(request.headers()) {
            let timeout = write_grpc_timeout(deadline.remaining());
            request.headers_mut().insert(GRPC_TIMEOUT, timeout);
        }
    }

    fn timeouts(&self, request: &Request<B>) -> Timeouts {
        request.extensions().get().copied().unwrap_or_default()
    }

    fn attempt(&self, request: &Request<B>) -> Option<Attempt> {
        request.extensions().get().copied()
    }

    fn set_attempt(&self, request: &mut Request<B>, attempt: Attempt) {
        put(request, attempt);
        let before = attempt.number.saturating_sub(1).saturating_add(attempt.hedge);
        if before > 0 && is_grpc(request.headers()) {
            request.headers_mut().insert(GRPC_ATTEMPTS, HeaderValue::from(before));
        }
    }

    fn is_idempotent(&self, request: &Request<B>) -> bool {
        match request.extensions().get() {
            Some(Idempotent(is_idempotent)) => *is_idempotent,
            None => is_safe_twice(request.method()) || request.headers().contains_key(IDEMPOTENCY_KEY),
        }
    }

    fn attributes(&self, request: &Request<B>) -> CallAttributes {
        let extensions = request.extensions();
        CallAttributes {
            criticality: extensions.get().copied().unwrap_or_default(),
            tenant: extensions.get().copied(),
            partition: extensions.get().copied(),
            deadline: self.deadline(request),
            exempt: false,
        }
    }
}

/// Puts a value into the extensions. Overwrites an existing value in place, since inserting
/// allocates a new one.
fn put<B, T: Clone + Send + Sync + 'static>(request: &mut Request<B>, value: T) {
    match request.extensions_mut().get_mut() {
        Some(place) => *place = value,
        None => {
            request.extensions_mut().insert(value);
        }
    }
}

const fn is_safe_twice(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// The saved form of a request that may be sent again.
#[derive(Debug)]
pub struct Saved<B> {
    parts: Parts,
    body: replay_body::Replay<B>,
}

impl<F, B: Body> Replay<Request<B>> for Http<F> {
    type Request = Request<ReplayBody<B>>;
    type Saved = Saved<B>;

    fn save(&self, mut request: Request<B>, is_wanted: bool) -> (Self::Request, Option<Saved<B>>) {
        if !is_wanted {
            return (request.map(ReplayBody::from), None);
        }
        if let Some(deadline) = self.deadline(&request) {
            // The `grpc-timeout` counts from now on, and does not start anew with each attempt.
            put(&mut request, deadline);
        }
        let (parts, body) = request.into_parts();
        let (first, body) = ReplayBody::new(body, self.max_replayed);
        let saved = (body.replayable() != Replayable::TooLong).then(|| Saved { parts: parts.clone(), body });
        (Request::from_parts(parts, first), saved)
    }

    fn replay(&self, saved: &mut Saved<B>) -> Option<Self::Request> {
        let body = saved.body.replay()?;
        let mut request = Request::from_parts(saved.parts.clone(), body);
        // Less time is left than when the first attempt was sent.
        if let Some(deadline) = request.extensions().get::<Deadline>().copied() {
            self.set_deadline(&mut request, deadline);
        }
        Some(request)
    }
}
