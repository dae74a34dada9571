use std::error::Error as StdError;
use std::io;

/// The maximum number of links that a search follows: a chain of sources may be a cycle.
const MAX_LINKS: usize = 128;

/// Returns `first` and its chain of sources. An `io::Error` is followed by the error that it wraps,
/// which its `source` skips.
pub(crate) fn chain<'a>(
    first: Option<&'a (dyn StdError + 'static)>,
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(first, |error| next(*error)).take(MAX_LINKS)
}

fn next<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => Some(held),
        None => error.source(),
    }
}
