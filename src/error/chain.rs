use std::error::Error as StdError;
use std::io;

/// The most links that are looked at: a chain may have no end.
const MOST: usize = 128;

/// Returns `first` and its chain of sources. An error of `std::io` is followed by the error that it holds, which is no source
/// of its own.
pub(crate) fn chain<'a>(
    first: Option<&'a (dyn StdError + 'static)>,
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(first, |error| next(*error)).take(MOST)
}

fn next<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => Some(held),
        None => error.source(),
    }
}
