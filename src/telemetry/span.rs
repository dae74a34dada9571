use super::LayerId;

/// The span of one attempt, at level debug; nothing without the feature `tracing`.
#[derive(Debug)]
pub(crate) struct AttemptSpan {
    #[cfg(feature = "tracing")]
    span: ::tracing::Span,
}

#[cfg(feature = "tracing")]
impl AttemptSpan {
    pub(super) fn new(source: &LayerId, number: u32, hedge: u32) -> Self {
        let LayerId { module, name } = *source;
        let span = ::tracing::debug_span!(
            target: "stanchion",
            "attempt",
            module,
            name,
            attempt = number,
            hedge = ::tracing::field::Empty,
            otel.kind = "client",
            http.request.resend_count = ::tracing::field::Empty,
        );
        if hedge > 0 {
            span.record("hedge", hedge);
        }
        // By the convention of OpenTelemetry it is there from the first repetition on.
        let resent = number.saturating_sub(1).saturating_add(hedge);
        if resent > 0 {
            span.record("http.request.resend_count", resent);
        }
        Self { span }
    }

    /// The span of no attempt: put into the place of one that has ended, it ends that one's span.
    pub(crate) const fn none() -> Self {
        Self { span: ::tracing::Span::none() }
    }

    /// Runs a part of the attempt inside of it.
    #[inline]
    pub(crate) fn run<R>(&self, part: impl FnOnce() -> R) -> R {
        self.span.in_scope(part)
    }
}

#[cfg(not(feature = "tracing"))]
impl AttemptSpan {
    #[inline]
    pub(super) const fn new(_: &LayerId, _: u32, _: u32) -> Self {
        Self {}
    }

    /// The span of no attempt.
    pub(crate) const fn none() -> Self {
        Self {}
    }

    /// Runs a part of the attempt inside of it.
    #[inline]
    #[allow(clippy::unused_self, reason = "with tracing it is used")]
    pub(crate) fn run<R>(&self, part: impl FnOnce() -> R) -> R {
        part()
    }
}
