//! A request body that can be sent again.
//!
//! A body can be read once, so a request that is to be retried needs a copy of it. [`ReplayBody`] makes one while
//! the first attempt is sent: frames pass through as they come, and what passes is kept, up to a number of bytes.
//! [`Replay`] stays with whoever may retry, and makes the bodies of the next attempts.
//!
//! | attempt before | [`Replay::replay`] |
//! |---|---|
//! | read to its end, even if the body is not dropped yet | all of it again, as often as you like, also side by side |
//! | dropped half-way | what was read, and then the rest from the original body |
//! | still reading | `None`: [`Replayable::Sending`] |
//! | longer than the cap | `None`: [`Replayable::TooLong`], and the attempt itself goes on |
//! | ended in an error, or the body panicked | `None`: [`Replayable::Broken`] |
//!
//! A body that announces more bytes than the cap is not kept from the start. What passes is not copied where its data
//! is [`Bytes`], except pieces of less than a kilobyte, which would cost more memory by themselves. The kept data
//! takes no more than twice the cap; what the pieces are cut from, and trailers, come on top. An empty body costs no
//! allocation. Locks are taken when an attempt begins and ends, never for a frame.
//!
//! The idea is that of Linkerd's `ReplayBody`.
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::{BodyExt, Full};
//! use stanchion::http::replay_body::ReplayBody;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let (first, replay) = ReplayBody::new(Full::new(Bytes::from("hello")), 65_536);
//! drop(first);
//! let second = replay.replay().expect("the first is not being sent any more");
//! assert_eq!(second.collect().await.unwrap().to_bytes(), "hello");
//! # }
//! ```

#![warn(clippy::arithmetic_side_effects, reason = "lengths come from outside")]

mod recording;

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::base::sync::{Mutex, lock};
use recording::{Playback, Position, Recording};

/// The body of one attempt. Yields the frames of the body inside, its data as [`Bytes`].
#[derive(Debug)]
pub struct ReplayBody<B> {
    inner: Inner<B>,
}

#[derive(Debug)]
enum Inner<B> {
    /// Nothing is kept of it.
    Through(B),
    Recorder(Recorder<B>),
    Playback(Playback),
    Ended,
}

/// Makes the bodies of the attempts after the first.
///
/// Dropped, it tells the attempt under way that nothing more needs to be kept.
#[derive(Debug)]
pub struct Replay<B> {
    original: Original<B>,
}

#[derive(Debug)]
enum Original<B> {
    Empty,
    TooLong,
    Shared(Arc<Shared<B>>),
}

/// Whether [`Replay::replay`] gives a body, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Replayable {
    /// It does.
    Yes,
    /// Not while an attempt reads the body: once that is dropped or has come to the end.
    Sending,
    /// Never: the body is longer than the cap.
    TooLong,
    /// Never: reading the body failed.
    Broken,
}

/// An attempt that reads the original body, and the only owner of it meanwhile.
#[derive(Debug)]
struct Recorder<B> {
    tape: Tape<B>,
    /// Up to where the attempt has got in what was kept before it.
    position: Position,
    /// Set only while the body's own code runs.
    is_in_body: bool,
    shared: Arc<Shared<B>>,
}

/// What an attempt hands over to the next one.
#[derive(Debug)]
struct Tape<B> {
    body: B,
    kept: Recording,
    /// For so many bytes more.
    room: usize,
}

#[derive(Debug)]
struct Shared<B> {
    slot: Mutex<Slot<B>>,
}

#[derive(Debug)]
enum Slot<B> {
    /// An attempt has the tape.
    Lent,
    /// An attempt was dropped before the body's end.
    Paused(Tape<B>),
    Complete(Arc<Recording>),
    /// Nothing to replay, and why.
    Lost(Replayable),
}

/// How reading the original body ended, for those who want it again.
enum End {
    Complete(Option<HeaderMap>),
    Lost(Replayable),
}

impl<B: Body> ReplayBody<B> {
    /// The body of the first attempt, and what makes those of the others. At most `cap` bytes of data are kept: with
    /// 0, only an empty body can be sent again.
    #[must_use]
    pub fn new(body: B, cap: usize) -> (Self, Replay<B>) {
        if body.is_end_stream() {
            return (Self::of(Inner::Ended), Replay { original: Original::Empty });
        }
        if body.size_hint().lower() > u64::try_from(cap).unwrap_or(u64::MAX) {
            return (Self::from(body), Replay { original: Original::TooLong });
        }
        let shared = Arc::new(Shared { slot: Mutex::new(Slot::Lent) });
        let tape = Tape { body, kept: Recording::default(), room: cap };
        let first = Inner::Recorder(Recorder::new(tape, Arc::clone(&shared)));
        (Self::of(first), Replay { original: Original::Shared(shared) })
    }
}

impl<B> Replay<B> {
    /// The body of another attempt, from the first byte on. `None` for the reasons that
    /// [`replayable`](Self::replayable) gives.
    #[must_use]
    pub fn replay(&self) -> Option<ReplayBody<B>> {
        let shared = match &self.original {
            Original::Empty => return Some(ReplayBody::of(Inner::Ended)),
            Original::TooLong => return None,
            Original::Shared(shared) => shared,
        };
        let mut slot = lock(&shared.slot);
        match mem::replace(&mut *slot, Slot::Lent) {
            Slot::Paused(mut tape) => {
                drop(slot);
                tape.kept.seal();
                Some(ReplayBody::of(Inner::Recorder(Recorder::new(tape, Arc::clone(shared)))))
            }
            Slot::Complete(recording) => {
                *slot = Slot::Complete(Arc::clone(&recording));
                Some(ReplayBody::of(Inner::Playback(Playback::new(recording))))
            }
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Whether [`again`](Self::replay) would give a body now.
    #[must_use]
    pub fn replayable(&self) -> Replayable {
        match &self.original {
            Original::Empty => Replayable::Yes,
            Original::TooLong => Replayable::TooLong,
            Original::Shared(shared) => match &*lock(&shared.slot) {
                Slot::Lent => Replayable::Sending,
                Slot::Paused(_) | Slot::Complete(_) => Replayable::Yes,
                Slot::Lost(why) => *why,
            },
        }
    }
}

impl<B> Shared<B> {
    /// An attempt leaves this to the next ones.
    fn settle(&self, slot: Slot<B>) {
        *lock(&self.slot) = slot;
    }
}

impl<B> Recorder<B> {
    fn new(tape: Tape<B>, shared: Arc<Shared<B>>) -> Self {
        Self { position: Position::start_of(&tape.kept), tape, is_in_body: false, shared }
    }

    /// What is left of the attempt.
    fn end(self, end: End) -> Inner<B> {
        let Self { tape, shared, .. } = self;
        match end {
            End::Complete(trailers) => {
                shared.settle(Slot::Complete(Arc::new(tape.kept.end(trailers))));
                Inner::Ended
            }
            End::Lost(why) => {
                shared.settle(Slot::Lost(why));
                Inner::Through(tape.body)
            }
        }
    }
}

impl<B: Body + Unpin> Recorder<B> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.is_in_body = true;
        let polled = poll_bytes(&mut self.tape.body, cx);
        self.is_in_body = false;
        polled
    }

    fn keep(&mut self, frame: Option<&Result<Frame<Bytes>, B::Error>>) -> Option<End> {
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Some(End::Lost(Replayable::Broken)),
            None => return Some(End::Complete(None)),
        };
        let Some(data) = frame.data_ref() else {
            // Trailers are the end, and there is no third kind of frame.
            let trailers = frame.trailers_ref().cloned();
            return Some(trailers.map_or(End::Lost(Replayable::Broken), |all| End::Complete(Some(all))));
        };
        // Whoever is alone has nobody to keep anything for.
        let is_wanted = Arc::strong_count(&self.shared) > 1;
        match self.tape.room.checked_sub(data.len()) {
            Some(room) if is_wanted => self.tape.room = room,
            _ => return Some(End::Lost(Replayable::TooLong)),
        }
        self.tape.kept.push(data);
        self.tape.body.is_end_stream().then_some(End::Complete(None))
    }
}

impl<B> ReplayBody<B> {
    const fn of(inner: Inner<B>) -> Self {
        Self { inner }
    }
}

/// A body that is sent once, and of which nothing is kept.
impl<B> From<B> for ReplayBody<B> {
    fn from(body: B) -> Self {
        Self::of(Inner::Through(body))
    }
}

impl<B: Default> Default for ReplayBody<B> {
    fn default() -> Self {
        Self::from(B::default())
    }
}

impl<B> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        if let Inner::Recorder(recorder) = mem::replace(&mut self.inner, Inner::Ended) {
            let Recorder { tape, shared, is_in_body, .. } = recorder;
            // Only a panic leaves the body that way.
            shared.settle(if is_in_body { Slot::Lost(Replayable::Broken) } else { Slot::Paused(tape) });
        }
    }
}

impl<B: Body + Unpin> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let recorder = match &mut this.inner {
            Inner::Through(body) => return poll_bytes(body, cx),
            Inner::Playback(playback) => return Poll::Ready(playback.next().map(Ok)),
            Inner::Ended => return Poll::Ready(None),
            Inner::Recorder(recorder) => recorder,
        };
        if let Some(data) = recorder.position.advance(&recorder.tape.kept) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let frame = ready!(recorder.poll_body(cx));
        if let Some(end) = recorder.keep(frame.as_ref()) {
            if let Inner::Recorder(recorder) = mem::replace(&mut this.inner, Inner::Ended) {
                this.inner = recorder.end(end);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Through(body) => body.is_end_stream(),
            Inner::Recorder(recorder) => recorder.position.left() == 0 && recorder.tape.body.is_end_stream(),
            Inner::Playback(playback) => playback.is_over(),
            Inner::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Through(body) => body.size_hint(),
            Inner::Recorder(recorder) => longer(&recorder.tape.body.size_hint(), recorder.position.left()),
            Inner::Playback(playback) => playback.size_hint(),
            Inner::Ended => SizeHint::with_exact(0),
        }
    }
}

/// The next frame of `body`, without a copy if its data is `Bytes`.
fn poll_bytes<B: Body + Unpin>(
    body: &mut B,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
    Pin::new(body)
        .poll_frame(cx)
        .map_ok(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
}

/// The length of a body of this length with so many bytes before it.
fn longer(rest: &SizeHint, before: u64) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(rest.lower().saturating_add(before));
    if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(before)) {
        hint.set_upper(upper);
    }
    hint
}
