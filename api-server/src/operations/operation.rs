//! [`Operation`]: one background operation and where it stands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::{OperationClass, StatusCode, Timestamp};
use axum::extract::ws::WebSocket;
use serde_json::{Map, Value};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::OperationSpec;
use crate::ApiError;
use crate::events::EventHub;

/// Progress that comes faster than this is kept for whoever asks, but not sent as events.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// A handle to an operation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Operation {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: Uuid,
    spec: OperationSpec,
    created_at: Timestamp,
    state: Mutex<State>,
    /// Tells waiters that the operation has ended.
    ended: watch::Sender<bool>,
    cancel: CancellationToken,
    sockets: Mutex<HashMap<String, Socket>>,
    hub: EventHub,
}

#[derive(Debug)]
struct State {
    status: StatusCode,
    metadata: Option<Value>,
    updated_at: Timestamp,
    error: String,
    last_progress: Option<Instant>,
}

/// One websocket of an operation: a client brings it, the work fetches it.
#[derive(Debug)]
struct Socket {
    secret: String,
    bring: Option<oneshot::Sender<WebSocket>>,
    fetch: Option<oneshot::Receiver<WebSocket>>,
}

impl Operation {
    pub(super) fn new(mut spec: OperationSpec, hub: EventHub) -> Self {
        let created_at = Timestamp::now();
        let mut sockets = HashMap::new();
        let mut secrets = Map::new();
        for name in &spec.websockets {
            let (bring, fetch) = oneshot::channel();
            let secret = new_secret();
            secrets.insert(name.clone(), Value::String(secret.clone()));
            sockets.insert(
                name.clone(),
                Socket {
                    secret,
                    bring: Some(bring),
                    fetch: Some(fetch),
                },
            );
        }
        let mut metadata = spec.metadata.take();
        if !secrets.is_empty() {
            let object = metadata.get_or_insert_with(|| Value::Object(Map::new()));
            if let Some(object) = object.as_object_mut() {
                object.insert("fds".to_owned(), Value::Object(secrets));
            }
        }
        let state = State {
            status: StatusCode::Pending,
            metadata,
            updated_at: created_at,
            error: String::new(),
            last_progress: None,
        };
        let inner = Inner {
            id: Uuid::new_v4(),
            spec,
            created_at,
            state: Mutex::new(state),
            ended: watch::Sender::new(false),
            cancel: CancellationToken::new(),
            sockets: Mutex::new(sockets),
            hub,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.inner.id
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("/1.0/operations/{}", self.inner.id)
    }

    /// Its project.
    pub fn project(&self) -> &str {
        &self.inner.spec.project
    }

    /// Where it stands.
    pub fn status(&self) -> StatusCode {
        self.state().status
    }

    /// It as clients see it.
    pub fn render(&self) -> api::Operation {
        self.render_state(&self.state())
    }

    fn render_state(&self, state: &State) -> api::Operation {
        let spec = &self.inner.spec;
        api::Operation {
            id: self.inner.id.to_string(),
            class: spec.class,
            description: spec.description.clone(),
            created_at: self.inner.created_at,
            updated_at: state.updated_at,
            status: state.status.text().to_owned(),
            status_code: state.status,
            resources: spec
                .resources
                .iter()
                .map(|(kind, urls)| (kind.clone(), Some(urls.clone())))
                .collect(),
            metadata: state.metadata.clone(),
            may_cancel: spec.may_cancel,
            err: state.error.clone(),
            location: api::LOCATION_NONE.to_owned(),
        }
    }

    /// Waits until it has ended.
    pub async fn wait(&self) {
        // Fails only when the sender is gone, which we hold.
        let _ = self.inner.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Whether a client may stop it.
    pub fn may_cancel(&self) -> bool {
        self.inner.spec.may_cancel
    }

    /// Stops it, as a client asks.
    pub fn cancel(&self) -> Result<(), ApiError> {
        if self.status() != StatusCode::Running {
            return Err(ApiError::bad_request("Only running operations can be cancelled"));
        }
        if !self.may_cancel() {
            return Err(ApiError::bad_request("This operation can't be cancelled"));
        }
        self.inner.cancel.cancel();
        if self.inner.spec.class == OperationClass::Token {
            self.end(StatusCode::Cancelled, None, String::new());
        } else {
            self.change(|state| state.status = StatusCode::Cancelling);
        }
        Ok(())
    }

    pub(super) fn cancel_token(&self) -> CancellationToken {
        self.inner.cancel.clone()
    }

    pub(super) fn start(&self) {
        self.change(|_| {});
        self.change(|state| state.status = StatusCode::Running);
    }

    /// Applies a change that is not progress, and tells it.
    fn change(&self, apply: impl FnOnce(&mut State)) {
        let mut state = self.state();
        apply(&mut state);
        self.inner
            .hub
            .operation(self.project(), &self.render_state(&state));
    }

    pub(super) fn end(&self, status: StatusCode, metadata: Option<Value>, error: String) {
        let mut state = self.state();
        if state.status.is_final() {
            return;
        }
        state.status = status;
        state.error = error;
        if let Some(metadata) = metadata {
            merge(&mut state.metadata, metadata);
            state.updated_at = Timestamp::now();
        }
        self.inner
            .hub
            .operation(self.project(), &self.render_state(&state));
        drop(state);
        self.inner.ended.send_replace(true);
        // Whoever still waits for a websocket, or to bring one, learns that nobody will come.
        self.inner
            .sockets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    pub(super) fn set_metadata(&self, metadata: Option<Value>) {
        self.change(|state| {
            state.metadata = metadata;
            state.updated_at = Timestamp::now();
        });
    }

    pub(super) fn merge_metadata(&self, metadata: Value) {
        self.change(|state| {
            merge(&mut state.metadata, metadata);
            state.updated_at = Timestamp::now();
        });
    }

    pub(super) fn progress(&self, metadata: Value) {
        let mut state = self.state();
        merge(&mut state.metadata, metadata);
        state.updated_at = Timestamp::now();
        let now = Instant::now();
        if state
            .last_progress
            .is_none_or(|last| now.duration_since(last) >= PROGRESS_INTERVAL)
        {
            state.last_progress = Some(now);
            self.inner
                .hub
                .operation(self.project(), &self.render_state(&state));
        }
    }

    /// Takes the place for the websocket that `secret` belongs to.
    pub fn socket_place(&self, secret: &str) -> Result<oneshot::Sender<WebSocket>, ApiError> {
        let mut sockets = self.inner.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = sockets
            .values_mut()
            .find(|socket| constant_time_eq(&socket.secret, secret))
            .ok_or_else(|| ApiError::forbidden("not authorized"))?;
        socket
            .bring
            .take()
            .ok_or_else(|| ApiError::bad_request("The websocket is already connected"))
    }

    pub(super) async fn socket(&self, name: &str) -> Result<WebSocket, ApiError> {
        let fetch = {
            let mut sockets = self.inner.sockets.lock().unwrap_or_else(PoisonError::into_inner);
            sockets.get_mut(name).and_then(|socket| socket.fetch.take())
        };
        let fetch =
            fetch.ok_or_else(|| ApiError::internal(format!("operation has no websocket {name:?}")))?;
        tokio::select! {
            socket = fetch => socket.map_err(|_| ApiError::bad_request("The client did not connect")),
            () = self.inner.cancel.cancelled() => Err(ApiError::bad_request("Operation cancelled")),
        }
    }
}

/// Puts the members of `new` over those of `old`.
fn merge(old: &mut Option<Value>, new: Value) {
    match (old.as_mut().and_then(Value::as_object_mut), new) {
        (Some(old), Value::Object(new)) => old.extend(new),
        (_, new) => *old = Some(new),
    }
}

/// 256 random bits in hexadecimal, as Incus makes its secrets.
fn new_secret() -> String {
    use std::fmt::Write as _;
    rand::random::<[u8; 32]>()
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Compares without telling by its duration how much was right.
fn constant_time_eq(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}
