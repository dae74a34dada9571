use std::fmt;
use std::future::{Future, Pending};
use std::time::Duration;

use super::failure::Failure;

/// Answers calls that failed.
///
/// The layer's constructors make those that there are; write your own for another source, such as a cache that other
/// instances share, and give it to [`FallbackLayer::new`](super::FallbackLayer::new).
pub trait Answer<Saved, Res, E> {
    /// An answer that takes time; `None` in the end if there is none.
    type Future: Future<Output = Option<Res>>;

    /// Takes note of a good answer of the service.
    #[inline]
    fn good(&self, kept: Saved, answer: &Res) {
        let _ = (kept, answer);
    }

    /// Answers for the service.
    fn answer(&self, kept: Saved, failure: Failure<Res, E>) -> Reply<Res, E, Self::Future>;
}

/// What an [`Answer`] does about a failure.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reply<Res, E, F> {
    /// It answers.
    Answer(Res),
    /// It answers with what the service said so long ago.
    Stale(Res, Duration),
    /// It will answer. Until then the failure is kept, to be handed out should it come to nothing.
    Later(F, Failure<Res, E>),
    /// It has no answer: the failure is handed out as it was.
    Declined(Failure<Res, E>),
}

/// Answers with clones of a value; made by [`FallbackLayer::value`](super::FallbackLayer::value).
#[derive(Clone, Copy)]
pub struct Value<V>(pub(super) V);

impl<Saved, Res: Clone, E> Answer<Saved, Res, E> for Value<Res> {
    type Future = Pending<Option<Res>>;

    fn answer(&self, _: Saved, _: Failure<Res, E>) -> Reply<Res, E, Self::Future> {
        Reply::Answer(self.0.clone())
    }
}

/// Answers with what a function makes; made by [`FallbackLayer::with`](super::FallbackLayer::with).
#[derive(Clone, Copy)]
pub struct With<F>(pub(super) F);

impl<F, Saved, Res, E> Answer<Saved, Res, E> for With<F>
where
    F: Fn(Saved, &Failure<Res, E>) -> Option<Res>,
{
    type Future = Pending<Option<Res>>;

    fn answer(&self, kept: Saved, failure: Failure<Res, E>) -> Reply<Res, E, Self::Future> {
        match self.0(kept, &failure) {
            Some(answer) => Reply::Answer(answer),
            None => Reply::Declined(failure),
        }
    }
}

impl<V> fmt::Debug for Value<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Value").field(&std::any::type_name::<V>()).finish()
    }
}

impl<F> fmt::Debug for With<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("With").field(&std::any::type_name::<F>()).finish()
    }
}
