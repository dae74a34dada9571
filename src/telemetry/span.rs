use super::LayerId;

/// The span of one attempt, at level debug. Empty without the feature `tracing`.
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
        // OpenTelemetry's convention: the field is set only for repeated requests.
        let resent = number.saturating_sub(1).saturating_add(hedge);
        if resent > 0 {
            span.record("http.request.resend_count", resent);
        }
        Self { span }
    }

    /// Returns an empty span. Assigning it in place of the span of an attempt closes that span.
    pub(crate) const fn none() -> Self {
        Self { span: ::tracing::Span::none() }
    }

    /// Runs a part of the attempt inside its span.
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

    /// Returns an empty span.
    pub(crate) const fn none() -> Self {
        Self {}
    }

    /// Runs a part of the attempt.
    #[inline]
    #[allow(clippy::unused_self, reason = "with tracing it is used")]
    pub(crate) fn run<R>(&self, part: impl FnOnce() -> R) -> R {
        part()
    }
}
