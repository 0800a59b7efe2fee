//! `virga profile`.

use super::{Context, documents};
use crate::args;
use crate::client::escape;
use crate::error::Result;
use crate::output::{self, Column, text};

/// Number of things that use a resource.
pub(super) const USED_BY: Column = Column {
    title: "USED BY",
    cell: |d| d["used_by"].as_array().map_or(0, Vec::len).to_string(),
};

const COLUMNS: [Column; 3] = [
    Column {
        title: "NAME",
        cell: |p| text(&p["name"]),
    },
    Column {
        title: "DESCRIPTION",
        cell: |p| text(&p["description"]),
    },
    USED_BY,
];

/// Does one verb.
pub(super) async fn run(context: &Context, verb: args::Profile) -> Result<()> {
    match verb {
        args::Profile::List => {
            let profiles = documents(context.client.get_value("/1.0/profiles?recursion=1").await?)?;
            output::list(context.format, &COLUMNS, &profiles)
        }
        args::Profile::Show { name } => {
            let profile = context
                .client
                .get_value(&format!("/1.0/profiles/{}", escape(&name)))
                .await?;
            output::document(context.format, &profile)
        }
    }
}
