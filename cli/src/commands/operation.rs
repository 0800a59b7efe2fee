//! `virga operation`.

use http::Method;

use super::Context;
use crate::args;
use crate::client::escape;
use crate::error::Result;
use crate::output::{self, Column, text};

const COLUMNS: [Column; 6] = [
    Column {
        title: "ID",
        cell: |o| text(&o["id"]),
    },
    Column {
        title: "TYPE",
        cell: |o| text(&o["class"]).to_uppercase(),
    },
    Column {
        title: "DESCRIPTION",
        cell: |o| text(&o["description"]),
    },
    Column {
        title: "STATE",
        cell: |o| text(&o["status"]).to_uppercase(),
    },
    Column {
        title: "CANCELABLE",
        cell: |o| if o["may_cancel"] == true { "YES" } else { "NO" }.to_owned(),
    },
    Column {
        title: "CREATED",
        cell: |o| text(&o["created_at"]).chars().take(19).collect(),
    },
];

/// Does one verb.
pub(super) async fn run(context: &Context, verb: args::Operation) -> Result<()> {
    match verb {
        args::Operation::List => {
            // The API groups operations by state.
            let groups = context.client.get_value("/1.0/operations?recursion=1").await?;
            let operations: Vec<_> = groups
                .as_object()
                .into_iter()
                .flat_map(|groups| groups.values())
                .filter_map(|group| group.as_array())
                .flatten()
                .cloned()
                .collect();
            output::list(context.format, &COLUMNS, &operations)
        }
        args::Operation::Show { id } => {
            let operation = context
                .client
                .get_value(&format!("/1.0/operations/{}", escape(&id)))
                .await?;
            output::document(context.format, &operation)
        }
        args::Operation::Cancel { id } => {
            context
                .client
                .call(Method::DELETE, &format!("/1.0/operations/{}", escape(&id)), None)
                .await?;
            context.remark(format!("Operation {id} cancelled"));
            Ok(())
        }
    }
}
