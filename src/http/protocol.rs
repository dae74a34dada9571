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

/// The protocol of requests of the `http` crate: see the [module](super).
///
/// `F` tells the errors that say a request was not processed: [`Unprocessed`](super::Unprocessed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http<F = SourceChain> {
    pub(super) max_replayed: usize,
    pub(super) too_many_requests: Class,
    pub(super) service_unavailable: Class,
    pub(super) unprocessed: F,
}

/// Whether executing a request twice does no harm, whatever its method. Put it into the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Idempotent(pub bool);

impl Http {
    /// Bodies of up to 64 KiB are sent again, and errors are classified by [their chain](SourceChain).
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
    /// Sets how many bytes of a body are kept to be sent again; of a request with more, none are kept, and it is not
    /// repeated. Each request under way may take as much memory. Default: 65,536.
    #[must_use]
    pub fn max_replayed(self, bytes: usize) -> Self {
        Self { max_replayed: bytes, ..self }
    }

    /// Sets what a 429 says about the service. Default: success, it works and only this caller is too eager. It is an
    /// overload, and may be tried again, in any case.
    #[must_use]
    pub fn too_many_requests(self, class: Class) -> Self {
        Self { too_many_requests: class, ..self }
    }

    /// Sets what a 503 says about the service. Default: failure. It is an overload, and may be tried again, in any case.
    #[must_use]
    pub fn service_unavailable(self, class: Class) -> Self {
        Self { service_unavailable: class, ..self }
    }

    /// Sets which errors say that a request was not processed, so that any may be repeated. For errors of a known type,
    /// such as those of a client: `.unprocessed(|error: &Error<reqwest::Error>| ..)`.
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

/// Puts a value into the extensions, into the place of the one that is there: a new one is allocated.
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

/// What is kept of a request to send it again.
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
            // A `grpc-timeout` counts from now, and not anew with each attempt.
            put(&mut request, deadline);
        }
        let (parts, body) = request.into_parts();
        let (first, body) = ReplayBody::new(body, self.max_replayed);
        let kept = (body.replayable() != Replayable::TooLong).then(|| Saved { parts: parts.clone(), body });
        (Request::from_parts(parts, first), kept)
    }

    fn replay(&self, kept: &mut Saved<B>) -> Option<Self::Request> {
        let body = kept.body.replay()?;
        let mut request = Request::from_parts(kept.parts.clone(), body);
        // Less is left than when the first was sent.
        if let Some(deadline) = request.extensions().get::<Deadline>().copied() {
            self.set_deadline(&mut request, deadline);
        }
        Some(request)
    }
}
