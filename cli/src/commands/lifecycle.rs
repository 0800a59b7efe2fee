//! `start`, `stop`, `restart`, `freeze`, `unfreeze`, `delete` and `rename`.

use http::Method;
use serde_json::json;

use super::{Context, for_each};
use crate::client::escape;
use crate::error::Result;

/// Asks each instance to change its state.
pub(super) async fn change(
    context: &Context,
    action: &str,
    names: &[String],
    force: bool,
    timeout: i64,
) -> Result<()> {
    for_each(names, async |name| {
        let body = json!({ "action": action, "force": force, "timeout": timeout, "stateful": false });
        let path = format!("/1.0/instances/{}/state", escape(name));
        context
            .client
            .run(Method::PUT, &path, Some(&body), &format!("{name}: {action}"))
            .await?;
        Ok(())
    })
    .await
}

/// Deletes instances; with `force` also running ones.
pub(super) async fn delete(context: &Context, names: &[String], force: bool) -> Result<()> {
    for_each(names, async |name| {
        let path = format!("/1.0/instances/{}", escape(name));
        if force {
            let instance = context.client.get_value(&path).await?;
            if instance["status_code"].as_u64() != Some(102) {
                let body = json!({ "action": "stop", "force": true, "timeout": -1, "stateful": false });
                context
                    .client
                    .run(
                        Method::PUT,
                        &format!("{path}/state"),
                        Some(&body),
                        &format!("Stopping {name}"),
                    )
                    .await?;
                if instance["ephemeral"] == true {
                    return Ok(());
                }
            }
        }
        context
            .client
            .run(Method::DELETE, &path, None, &format!("Deleting {name}"))
            .await?;
        Ok(())
    })
    .await
}

/// Renames an instance.
pub(super) async fn rename(context: &Context, name: &str, new_name: &str) -> Result<()> {
    let path = format!("/1.0/instances/{}", escape(name));
    let body = json!({ "name": new_name, "migration": false });
    context
        .client
        .run(Method::POST, &path, Some(&body), &format!("Renaming {name}"))
        .await?;
    Ok(())
}
