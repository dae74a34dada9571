//! A request body that can be sent again.
//!
//! A body can be read only once, so a request that may be retried needs a copy of it.
//! [`ReplayBody`] makes the copy while it sends the first attempt: it passes each frame on as it
//! arrives and keeps it, up to a maximum number of bytes. [`Replay`] stays with the code that may
//! retry, and creates the bodies of later attempts.
//!
//! | earlier attempt | [`Replay::replay`] |
//! |---|---|
//! | read to its end, even if the body is not dropped yet | the whole body, any number of times, even in parallel |
//! | dropped half-way | the part that was read, then the rest from the original body |
//! | still reading | `None`: [`Replayable::Sending`] |
//! | longer than the cap | `None`: [`Replayable::TooLong`]; the attempt itself continues |
//! | ended in an error, or the body panicked | `None`: [`Replayable::Broken`] |
//!
//! A body whose size hint exceeds the cap is never kept. Data in [`Bytes`] is kept without a copy,
//! except for pieces below 1 KiB, whose bookkeeping would cost more memory than the copy. The kept
//! data takes at most twice the cap, plus trailers and the buffers from which the pieces were cut.
//! An empty body needs no allocation. A lock is taken when an attempt begins and ends, and never
//! per frame.
//!
//! The idea is from Linkerd's `ReplayBody`.
//!
//! ```text
//!   ReplayBody (an attempt)            Replay (the retry)
//!        Recorder ── owns the tape        │
//!           │                             │
//!           ├─ dropped early ──> Paused ──┤ replay(): the next Recorder
//!           ├─ read to the end ─> Complete ┤ replay(): any number of Playbacks
//!           └─ failed, too long ─> Lost ──┘ replay(): None
//! ```
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

/// The body of one attempt. Yields the frames of the inner body, with their data as [`Bytes`].
#[derive(Debug)]
pub struct ReplayBody<B> {
    inner: Inner<B>,
}

#[derive(Debug)]
enum Inner<B> {
    /// Passes the body through without keeping it.
    Through(B),
    Recorder(Recorder<B>),
    Playback(Playback),
    Ended,
}

/// A factory for the bodies of later attempts.
///
/// Once it is dropped, the attempt in flight stops keeping what it sends.
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

/// The state of a [`Replay`]: whether it returns a body, or the reason why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Replayable {
    /// It returns a body.
    Yes,
    /// An attempt is still reading the body. `replay` works once that attempt is dropped or has
    /// read to the end.
    Sending,
    /// The body is longer than the cap, so `replay` never works.
    TooLong,
    /// Reading the body failed, so `replay` never works.
    Broken,
}

/// An attempt that reads the original body and owns it exclusively.
#[derive(Debug)]
struct Recorder<B> {
    tape: Tape<B>,
    /// The position of this attempt in what earlier attempts kept.
    position: Position,
    /// `true` while the inner body is polled. A panic of the inner body leaves it set.
    is_in_body: bool,
    shared: Arc<Shared<B>>,
}

/// The state that one attempt hands over to the next.
#[derive(Debug)]
struct Tape<B> {
    body: B,
    kept: Recording,
    /// The number of bytes that may still be kept.
    room: usize,
}

#[derive(Debug)]
struct Shared<B> {
    tape: Mutex<TapeState<B>>,
}

#[derive(Debug)]
enum TapeState<B> {
    /// An attempt holds the tape.
    Lent,
    /// An attempt was dropped before the end of the body.
    Paused(Tape<B>),
    /// An attempt has read the whole body.
    Complete(Arc<Recording>),
    /// The body cannot be replayed, for this reason.
    Lost(Replayable),
}

/// The end of reading the original body.
enum End {
    Complete(Option<HeaderMap>),
    Lost(Replayable),
}

impl<B: Body> ReplayBody<B> {
    /// Creates the body of the first attempt, and the factory for the bodies of later attempts. At
    /// most `cap` bytes of data are kept. With 0, only an empty body can be sent again.
    #[must_use]
    pub fn new(body: B, cap: usize) -> (Self, Replay<B>) {
        if body.is_end_stream() {
            return (Self::of(Inner::Ended), Replay { original: Original::Empty });
        }
        if body.size_hint().lower() > u64::try_from(cap).unwrap_or(u64::MAX) {
            return (Self::from(body), Replay { original: Original::TooLong });
        }
        let shared = Arc::new(Shared { tape: Mutex::new(TapeState::Lent) });
        let tape = Tape { body, kept: Recording::default(), room: cap };
        let first = Inner::Recorder(Recorder::new(tape, Arc::clone(&shared)));
        (Self::of(first), Replay { original: Original::Shared(shared) })
    }
}

impl<B> Replay<B> {
    /// Returns the body of another attempt, from the first byte on, or `None` for the reason that
    /// [`replayable`](Self::replayable) returns.
    #[must_use]
    pub fn replay(&self) -> Option<ReplayBody<B>> {
        let shared = match &self.original {
            Original::Empty => return Some(ReplayBody::of(Inner::Ended)),
            Original::TooLong => return None,
            Original::Shared(shared) => shared,
        };
        let mut state = lock(&shared.tape);
        match mem::replace(&mut *state, TapeState::Lent) {
            TapeState::Paused(mut tape) => {
                drop(state);
                tape.kept.seal();
                Some(ReplayBody::of(Inner::Recorder(Recorder::new(tape, Arc::clone(shared)))))
            }
            TapeState::Complete(recording) => {
                *state = TapeState::Complete(Arc::clone(&recording));
                Some(ReplayBody::of(Inner::Playback(Playback::new(recording))))
            }
            other => {
                *state = other;
                None
            }
        }
    }

    /// Returns whether [`replay`](Self::replay) would return a body now.
    #[must_use]
    pub fn replayable(&self) -> Replayable {
        match &self.original {
            Original::Empty => Replayable::Yes,
            Original::TooLong => Replayable::TooLong,
            Original::Shared(shared) => match &*lock(&shared.tape) {
                TapeState::Lent => Replayable::Sending,
                TapeState::Paused(_) | TapeState::Complete(_) => Replayable::Yes,
                TapeState::Lost(why) => *why,
            },
        }
    }
}

impl<B> Shared<B> {
    /// Hands the tape over to later attempts.
    fn hand_over(&self, state: TapeState<B>) {
        *lock(&self.tape) = state;
    }
}

impl<B> Recorder<B> {
    fn new(tape: Tape<B>, shared: Arc<Shared<B>>) -> Self {
        Self { position: Position::start_of(&tape.kept), tape, is_in_body: false, shared }
    }

    /// Hands the tape over, and returns what is left of the attempt.
    fn end(self, end: End) -> Inner<B> {
        let Self { tape, shared, .. } = self;
        match end {
            End::Complete(trailers) => {
                shared.hand_over(TapeState::Complete(Arc::new(tape.kept.end(trailers))));
                Inner::Ended
            }
            End::Lost(why) => {
                shared.hand_over(TapeState::Lost(why));
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
            // Trailers end a body. Frames of a kind unknown today cannot be kept.
            let trailers = frame.trailers_ref().cloned();
            return Some(trailers.map_or(End::Lost(Replayable::Broken), |all| End::Complete(Some(all))));
        };
        // If `Replay` was dropped, nothing needs to be kept.
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

/// Creates a body that is sent once and is not kept.
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
            // The flag is still set only if the inner body panicked.
            shared.hand_over(if is_in_body {
                TapeState::Lost(Replayable::Broken)
            } else {
                TapeState::Paused(tape)
            });
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

/// Polls the next frame of `body`, without copying data that is `Bytes` already.
fn poll_bytes<B: Body + Unpin>(
    body: &mut B,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
    Pin::new(body)
        .poll_frame(cx)
        .map_ok(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
}

/// Returns the size hint of a body of which `before` bytes precede `rest`.
fn longer(rest: &SizeHint, before: u64) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(rest.lower().saturating_add(before));
    if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(before)) {
        hint.set_upper(upper);
    }
    hint
}
