//! `virga snapshot`.

use http::Method;
use serde_json::{Value, json};

use super::{Context, documents, for_each};
use crate::args;
use crate::client::escape;
use crate::error::Result;
use crate::output::{self, Column, text};

const COLUMNS: [Column; 4] = [
    Column {
        title: "NAME",
        cell: |s| text(&s["name"]).rsplit('/').next().unwrap_or_default().to_owned(),
    },
    Column {
        title: "TAKEN AT",
        cell: |s| text(&s["created_at"]).chars().take(19).collect(),
    },
    Column {
        title: "EXPIRES AT",
        cell: expiry,
    },
    Column {
        title: "STATEFUL",
        cell: |s| if s["stateful"] == true { "YES" } else { "NO" }.to_owned(),
    },
];

/// The API's way to say "never".
fn expiry(snapshot: &Value) -> String {
    let at = text(&snapshot["expires_at"]);
    if at.starts_with("0001-") {
        String::new()
    } else {
        at.chars().take(19).collect()
    }
}

/// Does one verb.
pub(super) async fn run(context: &Context, verb: args::Snapshot) -> Result<()> {
    let of = |instance: &str| format!("/1.0/instances/{}/snapshots", escape(instance));
    match verb {
        args::Snapshot::Create { instance, name } => {
            let body = json!({ "name": name.clone().unwrap_or_default(), "stateful": false });
            context
                .client
                .run(
                    Method::POST,
                    &of(&instance),
                    Some(&body),
                    &format!("Snapshot of {instance}"),
                )
                .await?;
            Ok(())
        }
        args::Snapshot::List { instance } => {
            let path = format!("{}?recursion=1", of(&instance));
            let snapshots = documents(context.client.get_value(&path).await?)?;
            output::list(context.format, &COLUMNS, &snapshots)
        }
        args::Snapshot::Restore { instance, name } => {
            let path = format!("/1.0/instances/{}", escape(&instance));
            let body = json!({ "restore": name, "stateful": false });
            context
                .client
                .run(Method::PUT, &path, Some(&body), &format!("Restoring {instance}"))
                .await?;
            Ok(())
        }
        args::Snapshot::Delete { instance, names } => {
            for_each(&names, async |name| {
                let path = format!("{}/{}", of(&instance), escape(name));
                context
                    .client
                    .run(
                        Method::DELETE,
                        &path,
                        None,
                        &format!("Deleting {instance}/{name}"),
                    )
                    .await?;
                Ok(())
            })
            .await
        }
        args::Snapshot::Rename {
            instance,
            name,
            new_name,
        } => {
            let path = format!("{}/{}", of(&instance), escape(&name));
            let body = json!({ "name": new_name });
            context
                .client
                .run(
                    Method::POST,
                    &path,
                    Some(&body),
                    &format!("Renaming {instance}/{name}"),
                )
                .await?;
            Ok(())
        }
    }
}
