//! Methods that every service or every layer has.

/// Defines access to the `inner` service. A service that stores the readiness of `inner` names that
/// field, which is reset when the caller may replace the inner service.
macro_rules! inner_accessors {
    ($($is_inner_ready:ident)?) => {
        /// Returns the inner service.
        pub const fn get_ref(&self) -> &S {
            &self.inner
        }

        /// Returns the inner service, which the caller may replace. Call `poll_ready` again before
        /// the next call.
        pub const fn get_mut(&mut self) -> &mut S {
            $(self.$is_inner_ready = false;)?
            &mut self.inner
        }

        /// Returns the inner service.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}

/// Defines the setters that every layer has besides its configuration.
macro_rules! layer_setters {
    () => {
        /// Sets the name of the layer, usually that of the dependency. The name appears in
        /// rejections, metrics and logs, so a program should have few names: never a URL or a key.
        ///
        /// # Panics
        ///
        /// Panics if the layer was cloned or has made a service or a handle, since these would not
        /// share its state.
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
        /// Panics if the layer was cloned or has made a service or a handle, since these would not
        /// share its state.
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
