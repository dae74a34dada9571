/// Keeps what a fallback needs of a request, since the request itself goes to the service.
///
/// Implemented by every closure that looks at a request.
pub trait Keep<Req> {
    /// What is kept while the call is under way.
    type Saved;

    /// Looks at a request before the service is called with it.
    fn save(&self, request: &Req) -> Self::Saved;
}

impl<F: Fn(&Req) -> Saved, Req, Saved> Keep<Req> for F {
    type Saved = Saved;

    #[inline]
    fn save(&self, request: &Req) -> Saved {
        self(request)
    }
}

/// Keeps nothing of a request. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nothing;

impl<Req> Keep<Req> for Nothing {
    type Saved = ();

    #[inline]
    fn save(&self, _: &Req) {}
}
