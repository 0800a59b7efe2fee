//! `virga image`.

use http::{Method, header};
use serde_json::{Value, json};

use super::create::resolve_image;
use super::{Context, documents, for_each, key_values};
use crate::args;
use crate::client::upload::{self, Upload};
use crate::client::{build, escape};
use crate::error::{Error, Result};
use crate::output::{self, Column, size, text};
use crate::progress;

const COLUMNS: [Column; 8] = [
    Column {
        title: "ALIAS",
        cell: aliases,
    },
    Column {
        title: "FINGERPRINT",
        cell: |i| text(&i["fingerprint"]).chars().take(12).collect(),
    },
    Column {
        title: "PUBLIC",
        cell: |i| if i["public"] == true { "yes" } else { "no" }.to_owned(),
    },
    Column {
        title: "DESCRIPTION",
        cell: |i| text(&i["properties"]["description"]),
    },
    Column {
        title: "ARCHITECTURE",
        cell: |i| text(&i["architecture"]),
    },
    Column {
        title: "TYPE",
        cell: |i| text(&i["type"]).replace('-', " ").to_uppercase(),
    },
    Column {
        title: "SIZE",
        cell: |i| size(i["size"].as_u64().unwrap_or(0)),
    },
    Column {
        title: "UPLOADED",
        cell: |i| text(&i["uploaded_at"]).chars().take(19).collect(),
    },
];

const ALIAS_COLUMNS: [Column; 4] = [
    Column {
        title: "ALIAS",
        cell: |a| text(&a["name"]),
    },
    Column {
        title: "FINGERPRINT",
        cell: |a| text(&a["target"]).chars().take(12).collect(),
    },
    Column {
        title: "TYPE",
        cell: |a| text(&a["type"]).replace('-', " ").to_uppercase(),
    },
    Column {
        title: "DESCRIPTION",
        cell: |a| text(&a["description"]),
    },
];

fn aliases(image: &Value) -> String {
    let names: Vec<String> = image["aliases"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|a| text(&a["name"]))
        .collect();
    names.join("\n")
}

/// Does one verb.
pub(super) async fn run(context: &Context, verb: args::Image) -> Result<()> {
    match verb {
        args::Image::Import {
            file,
            rootfs,
            alias,
            property,
            public,
        } => {
            let rootfs = match rootfs {
                Some(path) => Some(Upload::new(&path).await?),
                None => None,
            };
            import(
                context,
                Upload::new(&file).await?,
                rootfs,
                &alias,
                &property,
                public,
            )
            .await
        }
        args::Image::List { filter } => {
            let mut images = documents(context.client.get_value("/1.0/images?recursion=1").await?)?;
            images.retain(|image| filter.iter().all(|wanted| fits(image, wanted)));
            output::list(context.format, &COLUMNS, &images)
        }
        args::Image::Info { image } => {
            let fingerprint = resolve_image(context, &image).await?;
            let image = context
                .client
                .get_value(&format!("/1.0/images/{}", escape(&fingerprint)))
                .await?;
            output::document(context.format, &image)
        }
        args::Image::Alias(verb) => alias(context, verb).await,
        args::Image::Delete { images } => {
            for_each(&images, async |image| {
                let fingerprint = resolve_image(context, image).await?;
                let path = format!("/1.0/images/{}", escape(&fingerprint));
                context
                    .client
                    .run(Method::DELETE, &path, None, &format!("Deleting image {image}"))
                    .await?;
                Ok(())
            })
            .await
        }
    }
}

fn fits(image: &Value, wanted: &str) -> bool {
    let lower = wanted.to_lowercase();
    text(&image["fingerprint"]).starts_with(&lower)
        || aliases(image).to_lowercase().contains(&lower)
        || text(&image["properties"]["description"])
            .to_lowercase()
            .contains(&lower)
}

async fn import(
    context: &Context,
    file: Upload,
    rootfs: Option<Upload>,
    alias: &[String],
    properties: &[String],
    public: bool,
) -> Result<()> {
    let total = file.size + rootfs.as_ref().map_or(0, |rootfs| rootfs.size);
    let bar = progress::transfer(context.quiet, total, format!("Importing {}", file.name()));
    let mut request = http::Request::post("/1.0/images")
        .header("X-Incus-filename", file.name())
        .header("X-Incus-public", if public { "1" } else { "0" });
    if !properties.is_empty() {
        let pairs = key_values::object(properties)?;
        let query: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{}={}", escape(key), escape(&text(value))))
            .collect();
        request = request.header("X-Incus-properties", query.join("&"));
    }
    let (body, content_type) = match &rootfs {
        Some(rootfs) => {
            // The name of the field tells a disk image from a root file system.
            let name = rootfs.name();
            let disk = [".qcow2", ".img", ".raw"]
                .iter()
                .any(|ending| name.ends_with(ending));
            let field = if disk { "rootfs.img" } else { "rootfs" };
            upload::multipart(&[("metadata", &file), (field, rootfs)], &bar).await?
        }
        None => (
            upload::single(&file, &bar).await?,
            "application/octet-stream".to_owned(),
        ),
    };
    let request = request.header(header::CONTENT_TYPE, content_type);
    let answer = context.client.call_request(build(request, body)?).await;
    bar.finish_and_clear();
    let operation = context.client.finish(answer?, "Checking the image").await?;
    let fingerprint = operation["metadata"]["fingerprint"]
        .as_str()
        .ok_or_else(|| Error::protocol("POST /1.0/images", "the operation names no fingerprint"))?
        .to_owned();
    for name in alias {
        let body = json!({ "name": name, "target": fingerprint, "description": "" });
        context
            .client
            .call(Method::POST, "/1.0/images/aliases", Some(&body))
            .await?;
    }
    context.remark(format!("Image imported with fingerprint: {fingerprint}"));
    Ok(())
}

async fn alias(context: &Context, verb: args::Alias) -> Result<()> {
    let path = |name: &str| format!("/1.0/images/aliases/{}", escape(name));
    match verb {
        args::Alias::List => {
            let aliases = documents(
                context
                    .client
                    .get_value("/1.0/images/aliases?recursion=1")
                    .await?,
            )?;
            output::list(context.format, &ALIAS_COLUMNS, &aliases)
        }
        args::Alias::Create { alias, fingerprint } => {
            let body = json!({ "name": alias, "target": fingerprint, "description": "" });
            context
                .client
                .call(Method::POST, "/1.0/images/aliases", Some(&body))
                .await?;
            Ok(())
        }
        args::Alias::Delete { alias } => {
            context.client.call(Method::DELETE, &path(&alias), None).await?;
            Ok(())
        }
        args::Alias::Rename { alias, new_name } => {
            context
                .client
                .call(Method::POST, &path(&alias), Some(&json!({ "name": new_name })))
                .await?;
            Ok(())
        }
    }
}
