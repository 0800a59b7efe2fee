//! [`Lifecycle`]: something was made, changed or removed.

use serde_json::Value;

use crate::request::Requestor;

/// A lifecycle event that is being put together:
/// `Lifecycle::new("instance-started", "/1.0/instances/c1").project("default").requestor(&who)`.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    event: api::EventLifecycle,
    project: String,
}

impl Lifecycle {
    /// `action` happened to what is at `source`.
    pub fn new(action: &str, source: impl Into<String>) -> Self {
        let event = api::EventLifecycle {
            action: action.to_owned(),
            source: source.into(),
            context: None,
            requestor: None,
            name: String::new(),
            project: String::new(),
        };
        Self {
            event,
            project: api::DEFAULT_PROJECT.to_owned(),
        }
    }

    /// In this project (otherwise the default one).
    #[must_use]
    pub fn project(mut self, project: &str) -> Self {
        project.clone_into(&mut self.project);
        self
    }

    /// To the instance of this name: instance events tell name and project again.
    #[must_use]
    pub fn instance(mut self, project: &str, name: &str) -> Self {
        name.clone_into(&mut self.event.name);
        project.clone_into(&mut self.event.project);
        self.project(project)
    }

    /// With these details.
    #[must_use]
    pub fn context(mut self, context: Value) -> Self {
        self.event.context = Some(context);
        self
    }

    /// Because of this client.
    #[must_use]
    pub fn requestor(mut self, requestor: &Requestor) -> Self {
        self.event.requestor = Some(requestor.to_api());
        self
    }

    pub(super) fn action(&self) -> &str {
        &self.event.action
    }

    pub(super) fn source(&self) -> &str {
        &self.event.source
    }

    pub(super) fn into_parts(self) -> (String, Value) {
        (self.project, serde_json::to_value(self.event).unwrap_or_default())
    }
}
