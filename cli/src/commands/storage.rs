//! `virga storage`.

use http::Method;
use serde_json::{Value, json};

use super::profile::USED_BY;
use super::{Context, documents, for_each, key_values};
use crate::args;
use crate::client::escape;
use crate::error::Result;
use crate::output::{self, Column, Format, size, text};

const COLUMNS: [Column; 6] = [
    Column {
        title: "NAME",
        cell: |p| text(&p["name"]),
    },
    Column {
        title: "DRIVER",
        cell: |p| text(&p["driver"]),
    },
    Column {
        title: "SOURCE",
        cell: |p| text(&p["config"]["source"]),
    },
    Column {
        title: "DESCRIPTION",
        cell: |p| text(&p["description"]),
    },
    USED_BY,
    Column {
        title: "STATE",
        cell: |p| text(&p["status"]).to_uppercase(),
    },
];

/// Does one verb.
pub(super) async fn run(context: &Context, verb: args::Storage) -> Result<()> {
    match verb {
        args::Storage::List => {
            let pools = documents(context.client.get_value("/1.0/storage-pools?recursion=1").await?)?;
            output::list(context.format, &COLUMNS, &pools)
        }
        args::Storage::Info { name } => info(context, &name).await,
        args::Storage::Create {
            name,
            driver,
            config,
            description,
        } => {
            let config = key_values::object(&config)?;
            let body =
                json!({ "name": name, "driver": driver, "description": description, "config": config });
            let what = format!("Creating storage pool {name}");
            context
                .client
                .run(Method::POST, "/1.0/storage-pools", Some(&body), &what)
                .await?;
            context.remark(format!("Storage pool {name} created"));
            Ok(())
        }
        args::Storage::Delete(args) => {
            for_each(&args.names, async |name| {
                let path = format!("/1.0/storage-pools/{}", escape(name));
                context
                    .client
                    .run(
                        Method::DELETE,
                        &path,
                        None,
                        &format!("Deleting storage pool {name}"),
                    )
                    .await?;
                context.remark(format!("Storage pool {name} deleted"));
                Ok(())
            })
            .await
        }
    }
}

async fn info(context: &Context, name: &str) -> Result<()> {
    let path = format!("/1.0/storage-pools/{}", escape(name));
    let mut pool = context.client.get_value(&path).await?;
    let resources = context.client.get_value(&format!("{path}/resources")).await?;
    if context.format == Format::Table {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let space = &resources["space"];
        pool["space"] =
            json!({ "used": size(number(&space["used"])), "total": size(number(&space["total"])) });
        pool["inodes"] = resources["inodes"].clone();
    } else {
        pool["resources"] = resources;
    }
    output::document(context.format, &pool)
}
