/// Saves what a fallback needs of a request, before the request goes to the service.
///
/// Implemented for every closure that takes a reference to a request.
pub trait SaveRequest<Req> {
    /// The saved value, held while the call is in flight.
    type Saved;

    /// Returns what the fallback needs of `request`.
    fn save(&self, request: &Req) -> Self::Saved;
}

impl<F: Fn(&Req) -> Saved, Req, Saved> SaveRequest<Req> for F {
    type Saved = Saved;

    #[inline]
    fn save(&self, request: &Req) -> Saved {
        self(request)
    }
}

/// The default of a fallback: saves nothing of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaveNothing;

impl<Req> SaveRequest<Req> for SaveNothing {
    type Saved = ();

    #[inline]
    fn save(&self, _: &Req) {}
}
