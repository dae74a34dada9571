use std::fmt;
use std::future::{Future, Pending};
use std::time::Duration;

use super::failure::Failure;

/// A source of responses for calls that failed.
///
/// The constructors of the layer create the built-in ones. Implement the trait for another source,
/// such as a cache that several instances share, and pass it to
/// [`FallbackLayer::new`](super::FallbackLayer::new).
pub trait Answer<Saved, Res, E> {
    /// The future of a response that is not available at once. It resolves to `None` if there is
    /// none.
    type Future: Future<Output = Option<Res>>;

    /// Records a good response of the service.
    #[inline]
    fn good(&self, saved: Saved, answer: &Res) {
        let _ = (saved, answer);
    }

    /// Responds in place of the service.
    fn answer(&self, saved: Saved, failure: Failure<Res, E>) -> Reply<Res, E, Self::Future>;
}

/// The response of an [`Answer`] to a failure.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reply<Res, E, F> {
    /// A response.
    Answer(Res),
    /// A stored response, and its age.
    Stale(Res, Duration),
    /// A response that is not available yet. The failure is kept, and returned if the future
    /// resolves to `None`.
    Later(F, Failure<Res, E>),
    /// No response: the failure is returned unchanged.
    Declined(Failure<Res, E>),
}

/// A fallback that responds with a clone of a value. Made by
/// [`FallbackLayer::value`](super::FallbackLayer::value).
#[derive(Clone, Copy)]
pub struct Value<V>(pub(super) V);

impl<Saved, Res: Clone, E> Answer<Saved, Res, E> for Value<Res> {
    type Future = Pending<Option<Res>>;

    fn answer(&self, _: Saved, _: Failure<Res, E>) -> Reply<Res, E, Self::Future> {
        Reply::Answer(self.0.clone())
    }
}

/// A fallback that calls a function. Made by [`FallbackLayer::with`](super::FallbackLayer::with).
#[derive(Clone, Copy)]
pub struct FallbackFn<F>(pub(super) F);

impl<F, Saved, Res, E> Answer<Saved, Res, E> for FallbackFn<F>
where
    F: Fn(Saved, &Failure<Res, E>) -> Option<Res>,
{
    type Future = Pending<Option<Res>>;

    fn answer(&self, saved: Saved, failure: Failure<Res, E>) -> Reply<Res, E, Self::Future> {
        match self.0(saved, &failure) {
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

impl<F> fmt::Debug for FallbackFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FallbackFn").field(&std::any::type_name::<F>()).finish()
    }
}
