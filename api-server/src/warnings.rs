//! Warnings: conditions an administrator should know of. Whoever notices one raises it; raising it again counts it.

use api::{Timestamp, Warning};

use crate::Daemon;
use crate::store::{Revision, keys, list_as, put_as};

/// How bad a condition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something is not available.
    Low,
    /// Something does not work as configured.
    Moderate,
    /// Something may be lost.
    High,
}

impl Severity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Moderate => "moderate",
            Self::High => "high",
        }
    }
}

/// Tells of a condition: what kind it is (a stable text), what it concerns (a URL or nothing) and what is wrong now.
/// A store that cannot take it is itself only logged: a warning must never make anything fail.
pub fn raise(daemon: &Daemon, severity: Severity, kind: &str, entity_url: &str, message: &str) {
    tracing::warn!(kind, entity_url, message, "warning raised");
    let now = Timestamp::now();
    let known = list_as::<Warning>(&*daemon.store, keys::WARNINGS)
        .unwrap_or_default()
        .into_iter()
        .map(|(warning, _)| warning)
        .find(|warning| warning.kind == kind && warning.entity_url == entity_url);
    let warning = match known {
        Some(mut warning) => {
            warning.count += 1;
            warning.last_seen_at = now;
            message.clone_into(&mut warning.last_message);
            if warning.status == "resolved" {
                "new".clone_into(&mut warning.status);
            }
            warning
        }
        None => Warning {
            status: "new".to_owned(),
            uuid: uuid::Uuid::new_v4().to_string(),
            location: api::LOCATION_NONE.to_owned(),
            project: String::new(),
            kind: kind.to_owned(),
            count: 1,
            first_seen_at: now,
            last_seen_at: now,
            last_message: message.to_owned(),
            severity: severity.as_str().to_owned(),
            entity_url: entity_url.to_owned(),
        },
    };
    if let Err(error) = put_as(
        &*daemon.store,
        &keys::warning(&warning.uuid),
        &warning,
        Revision::Any,
    ) {
        tracing::error!(%error, "warning could not be stored");
    }
}

/// Tells that a condition is over.
pub fn resolve(daemon: &Daemon, kind: &str, entity_url: &str) {
    for (mut warning, document) in list_as::<Warning>(&*daemon.store, keys::WARNINGS).unwrap_or_default() {
        if warning.kind == kind && warning.entity_url == entity_url && warning.status != "resolved" {
            "resolved".clone_into(&mut warning.status);
            if let Err(error) = put_as(
                &*daemon.store,
                document.key(),
                &warning,
                Revision::Exact(document.revision()),
            ) {
                tracing::error!(%error, "warning could not be stored");
            }
        }
    }
}
