//! [`OperationSpec`]: what an operation is, before it runs.

use std::collections::BTreeMap;

use api::OperationClass;
use serde_json::Value;

/// An operation that is being described:
/// `OperationSpec::task("Starting instance").project("default").resource("instances", "/1.0/instances/c1")`.
#[derive(Debug, Clone)]
pub struct OperationSpec {
    pub(super) class: OperationClass,
    pub(super) description: String,
    pub(super) project: String,
    pub(super) resources: BTreeMap<String, Vec<String>>,
    pub(super) may_cancel: bool,
    pub(super) metadata: Option<Value>,
    pub(super) websockets: Vec<String>,
}

impl OperationSpec {
    fn new(class: OperationClass, description: &str) -> Self {
        Self {
            class,
            description: description.to_owned(),
            project: api::DEFAULT_PROJECT.to_owned(),
            resources: BTreeMap::new(),
            may_cancel: false,
            metadata: None,
            websockets: Vec::new(),
        }
    }

    /// Work that a client waits for.
    pub fn task(description: &str) -> Self {
        Self::new(OperationClass::Task, description)
    }

    /// Work that a client talks to over these websockets; their secrets appear as `metadata.fds`.
    pub fn websocket(description: &str, names: &[&str]) -> Self {
        let mut spec = Self::new(OperationClass::Websocket, description);
        spec.websockets = names.iter().map(|&name| name.to_owned()).collect();
        spec
    }

    /// A secret that lives until it is used or cancelled.
    pub fn token(description: &str) -> Self {
        let mut spec = Self::new(OperationClass::Token, description);
        spec.may_cancel = true;
        spec
    }

    /// In this project (otherwise the default one).
    #[must_use]
    pub fn project(mut self, project: &str) -> Self {
        project.clone_into(&mut self.project);
        self
    }

    /// Works on what is at `url`; `kind` as Incus names it (`instances`, `images`, `instances_snapshots`).
    #[must_use]
    pub fn resource(mut self, kind: &str, url: impl Into<String>) -> Self {
        self.resources
            .entry(kind.to_owned())
            .or_default()
            .push(url.into());
        self
    }

    /// May be stopped by a client; the work looks at [`super::OperationContext::cancelled`].
    #[must_use]
    pub fn cancellable(mut self) -> Self {
        self.may_cancel = true;
        self
    }

    /// With this metadata from the start (an object).
    #[must_use]
    pub fn metadata(mut self, metadata: Value) -> Self {
        self.metadata = Some(metadata);
        self
    }
}
