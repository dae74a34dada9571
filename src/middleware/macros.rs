//! What every service has, and every layer.

/// Access to the `inner` service. A service that keeps its readiness names the field for that, and
/// forgets it when the inner service may be replaced.
macro_rules! inner_accessors {
    ($($is_inner_ready:ident)?) => {
        /// The service inside.
        pub const fn get_ref(&self) -> &S {
            &self.inner
        }

        /// The service inside. It may be replaced: call `poll_ready` again before the next call.
        pub const fn get_mut(&mut self) -> &mut S {
            $(self.$is_inner_ready = false;)?
            &mut self.inner
        }

        /// The service inside.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}

/// Sets what every layer has besides its configuration.
macro_rules! layer_setters {
    () => {
        /// Names the layer, after the dependency that it stands before. The name is in rejections, metrics and logs, so it
        /// must be one of few: never a URL or a key.
        ///
        /// # Panics
        ///
        /// If the layer was cloned, or has made a service or a handle: they would not share its state.
        #[must_use]
        #[track_caller]
        pub fn name(self, name: &'static str) -> Self {
            crate::config::assert_unused(&self.shared, "name");
            Self { name, ..self }
        }

        /// Adds an observer.
        ///
        /// # Panics
        ///
        /// If the layer was cloned, or has made a service or a handle: they would not share its state.
        #[must_use]
        #[track_caller]
        pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
            crate::config::assert_unused(&self.shared, "observer");
            self.observers.push(Arc::new(observer));
            self
        }
    };
}

pub(crate) use inner_accessors;
pub(crate) use layer_setters;
