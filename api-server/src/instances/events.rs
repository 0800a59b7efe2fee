//! Lifecycle events of instances.

use serde_json::Value;

use super::record::InstanceRecord;
use crate::Daemon;
use crate::events::Lifecycle;
use crate::request::Requestor;

/// Tells that something happened to an instance.
pub(super) fn tell(
    daemon: &Daemon,
    record: &InstanceRecord,
    action: &str,
    context: Option<Value>,
    who: &Requestor,
) {
    let mut event = Lifecycle::new(action, record.url())
        .instance(&record.project, &record.name)
        .requestor(who);
    if let Some(context) = context {
        event = event.context(context);
    }
    daemon.events.lifecycle(event);
}

/// Tells that something happened to a snapshot. Incus tells no instance name with these.
pub(super) fn tell_snapshot(
    daemon: &Daemon,
    record: &InstanceRecord,
    snapshot: &str,
    action: &str,
    who: &Requestor,
) {
    let source = format!("/1.0/instances/{}/snapshots/{snapshot}", record.name);
    let source = source + &crate::projects::url_suffix(&record.project);
    daemon.events.lifecycle(
        Lifecycle::new(action, source)
            .project(&record.project)
            .requestor(who),
    );
}
