//! The kept part of a body, and its playback.

use std::fmt;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

/// The minimum length of data that is kept as a piece of its own; shorter data is copied. A piece
/// has an overhead of several words and keeps the buffer alive from which it was cut. The minimum
/// also bounds the number of pieces, however small the sender cuts them.
const SMALL: usize = 1_024;

/// The data of a body up to some position, and the trailers if that is the end.
#[derive(Default)]
pub(super) struct Recording {
    pieces: Vec<Bytes>,
    /// Copied data after the last piece.
    tail: Vec<u8>,
    length: usize,
    trailers: Option<HeaderMap>,
}

impl Recording {
    pub(super) fn push(&mut self, data: &Bytes) {
        self.length = self.length.saturating_add(data.len());
        if data.len() < SMALL {
            self.tail.extend_from_slice(data);
        } else {
            self.seal();
            self.pieces.push(data.clone());
        }
    }

    /// Moves the tail into a piece, so that all kept data can be read.
    pub(super) fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(mem::take(&mut self.tail).into());
        }
    }

    /// Completes the recording of a body that has ended.
    pub(super) fn end(mut self, trailers: Option<HeaderMap>) -> Self {
        self.seal();
        Self { trailers, ..self }
    }
}

/// Shows lengths only: the content of requests does not belong in logs.
impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pieces, tail, length, trailers } = self;
        f.debug_struct("Recording")
            .field("length", length)
            .field("pieces", &pieces.len())
            .field("tail", &tail.len())
            .field("trailers", &trailers.is_some())
            .finish()
    }
}

/// The position of an attempt in the data that earlier attempts kept. Later data comes from the
/// original body.
#[derive(Debug)]
pub(super) struct Position {
    next: usize,
    left: usize,
}

impl Position {
    pub(super) const fn start_of(recording: &Recording) -> Self {
        Self { next: 0, left: recording.length }
    }

    /// Returns the number of bytes that are still to be read.
    pub(super) fn left(&self) -> u64 {
        u64::try_from(self.left).unwrap_or(u64::MAX)
    }

    pub(super) fn advance(&mut self, recording: &Recording) -> Option<Bytes> {
        let piece = recording.pieces.get(self.next).filter(|_| self.left > 0)?;
        self.next = self.next.saturating_add(1);
        self.left = self.left.saturating_sub(piece.len());
        Some(piece.clone())
    }
}

/// A reader of a complete recording.
#[derive(Debug)]
pub(super) struct Playback {
    recording: Arc<Recording>,
    position: Position,
    are_trailers_due: bool,
}

impl Playback {
    pub(super) fn new(recording: Arc<Recording>) -> Self {
        let position = Position::start_of(&recording);
        Self { position, are_trailers_due: recording.trailers.is_some(), recording }
    }

    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        if let Some(data) = self.position.advance(&self.recording) {
            return Some(Frame::data(data));
        }
        let trailers = self.recording.trailers.as_ref().filter(|_| self.are_trailers_due)?;
        self.are_trailers_due = false;
        Some(Frame::trailers(trailers.clone()))
    }

    /// Returns a size hint that is not exact if trailers follow: an HTTP/1 client takes an exact
    /// length for the whole body and leaves the trailers out.
    pub(super) fn size_hint(&self) -> SizeHint {
        let left = self.position.left();
        if !self.are_trailers_due {
            return SizeHint::with_exact(left);
        }
        let mut hint = SizeHint::new();
        hint.set_lower(left);
        hint
    }

    pub(super) const fn is_over(&self) -> bool {
        self.position.left == 0 && !self.are_trailers_due
    }
}
