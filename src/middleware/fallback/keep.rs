/// Keeps what a fallback needs of a request, since the request itself goes to the service.
///
/// Implemented by every closure that looks at a request.
pub trait Keep<Req> {
    /// What is kept while the call is under way.
    type Kept;

    /// Looks at a request before the service is called with it.
    fn keep(&self, request: &Req) -> Self::Kept;
}

impl<F: Fn(&Req) -> Kept, Req, Kept> Keep<Req> for F {
    type Kept = Kept;

    #[inline]
    fn keep(&self, request: &Req) -> Kept {
        self(request)
    }
}

/// Keeps nothing of a request. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nothing;

impl<Req> Keep<Req> for Nothing {
    type Kept = ();

    #[inline]
    fn keep(&self, _: &Req) {}
}
