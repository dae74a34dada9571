//! What was read of a body, and reading it again.

use std::fmt;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

/// Data shorter than this is copied: a piece of its own takes more than a handful of bytes, and keeps the
/// buffer alive that it was cut from. It bounds the number of pieces, whatever a sender cuts.
const SMALL: usize = 1_024;

/// The data of a body up to some point, and its trailers if that point is the end.
#[derive(Default)]
pub(super) struct Recording {
    pieces: Vec<Bytes>,
    /// Small data after the last piece.
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

    /// Makes all that is kept readable.
    pub(super) fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(mem::take(&mut self.tail).into());
        }
    }

    /// The body has ended.
    pub(super) fn end(mut self, trailers: Option<HeaderMap>) -> Self {
        self.seal();
        Self { trailers, ..self }
    }
}

/// Lengths only: what people send does not belong in logs.
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

/// How far an attempt has got in what was there when it began. What is added later it has read itself.
#[derive(Debug)]
pub(super) struct Position {
    next: usize,
    left: usize,
}

impl Position {
    pub(super) const fn start_of(recording: &Recording) -> Self {
        Self { next: 0, left: recording.length }
    }

    /// In bytes.
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

/// Reads a body that is there as a whole.
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

    /// Not exact with trailers to come: a client for HTTP/1 takes an exact length for the length of all there is,
    /// and leaves the trailers out.
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
