//! `virga network`.

use http::Method;
use serde_json::json;

use super::profile::USED_BY;
use super::{Context, documents, for_each, key_values};
use crate::args;
use crate::client::escape;
use crate::error::Result;
use crate::output::{self, Column, text};

const COLUMNS: [Column; 8] = [
    Column {
        title: "NAME",
        cell: |n| text(&n["name"]),
    },
    Column {
        title: "TYPE",
        cell: |n| text(&n["type"]),
    },
    Column {
        title: "MANAGED",
        cell: |n| if n["managed"] == true { "YES" } else { "NO" }.to_owned(),
    },
    Column {
        title: "IPV4",
        cell: |n| text(&n["config"]["ipv4.address"]),
    },
    Column {
        title: "IPV6",
        cell: |n| text(&n["config"]["ipv6.address"]),
    },
    Column {
        title: "DESCRIPTION",
        cell: |n| text(&n["description"]),
    },
    USED_BY,
    Column {
        title: "STATE",
        cell: |n| text(&n["status"]).to_uppercase(),
    },
];

/// Does one verb.
pub(super) async fn run(context: &Context, verb: args::Network) -> Result<()> {
    match verb {
        args::Network::List => {
            let networks = documents(context.client.get_value("/1.0/networks?recursion=1").await?)?;
            output::list(context.format, &COLUMNS, &networks)
        }
        args::Network::Show { name } => {
            let network = context
                .client
                .get_value(&format!("/1.0/networks/{}", escape(&name)))
                .await?;
            output::document(context.format, &network)
        }
        args::Network::Create {
            name,
            config,
            description,
        } => {
            let config = key_values::object(&config)?;
            let body =
                json!({ "name": name, "type": "bridge", "description": description, "config": config });
            context
                .client
                .run(
                    Method::POST,
                    "/1.0/networks",
                    Some(&body),
                    &format!("Creating network {name}"),
                )
                .await?;
            context.remark(format!("Network {name} created"));
            Ok(())
        }
        args::Network::Delete(args) => {
            for_each(&args.names, async |name| {
                let path = format!("/1.0/networks/{}", escape(name));
                context
                    .client
                    .run(Method::DELETE, &path, None, &format!("Deleting network {name}"))
                    .await?;
                context.remark(format!("Network {name} deleted"));
                Ok(())
            })
            .await
        }
    }
}
