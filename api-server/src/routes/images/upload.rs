//! New images: uploaded whole or in two parts, or made from an instance.

use std::sync::Arc;

use api::{ImageAlias, ImagesPost, Timestamp};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State};
use axum::response::Response;
use futures::TryStreamExt;
use http::{HeaderMap, header};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{project_of, url};
use crate::events::Lifecycle;
use crate::image_files::{Incoming, Wishes, import, new_upload};
use crate::operations::OperationSpec;
use crate::request::{Project, Query, Requestor, parse_json, read_document};
use crate::response::{self, Reply};
use crate::{ApiError, Daemon};

pub(super) async fn create(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    request: Request,
) -> Reply {
    let project_name = project_of(&daemon, &project)?;
    let content_type = header_text(request.headers(), header::CONTENT_TYPE.as_str());
    if content_type.starts_with("application/json") {
        let post: ImagesPost = parse_json(&read_document(request).await?)?;
        return from_source(&daemon, &project, &project_name, requestor, post);
    }
    let wishes = wishes(request.headers())?;
    let incoming = if content_type.starts_with("multipart/form-data") {
        receive_parts(&daemon, request).await?
    } else {
        receive_whole(&daemon, request.into_body()).await?
    };
    Ok(import_later(&daemon, project_name, requestor, incoming, wishes))
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// What the client says in `X-Incus-*` headers. Lists are written like query strings.
fn wishes(headers: &HeaderMap) -> Result<Wishes, ApiError> {
    let text = |name: &str| header_text(headers, name);
    let pairs = |name: &str| Query::parse(text(name)).into_pairs();
    let expires_at = match text("x-incus-expires-at") {
        "" => Timestamp::never(),
        time => time
            .parse()
            .map_err(|_| ApiError::bad_request(format!("Invalid expiry date {time:?}")))?,
    };
    let profiles: Vec<String> = pairs("x-incus-profiles")
        .into_iter()
        .filter(|(key, _)| key == "profile")
        .map(|(_, value)| value)
        .collect();
    Ok(Wishes {
        fingerprint: text("x-incus-fingerprint").to_owned(),
        filename: text("x-incus-filename").to_owned(),
        public: crate::config_keys::is_true(text("x-incus-public")),
        properties: pairs("x-incus-properties").into_iter().collect(),
        expires_at,
        profiles: (!profiles.is_empty()).then_some(profiles),
        aliases: pairs("x-incus-aliases")
            .into_iter()
            .filter(|(key, _)| key == "alias")
            .map(|(_, name)| ImageAlias {
                name,
                description: String::new(),
            })
            .collect(),
    })
}

async fn receive_whole(daemon: &Daemon, body: Body) -> Result<Incoming, ApiError> {
    let (mut file, path) = new_upload(daemon)?;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.try_next().await.map_err(broken_upload)? {
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    Ok(Incoming {
        meta: path,
        rootfs: None,
    })
}

fn broken_upload(error: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("Failed receiving the image: {error}"))
}

/// A split image: the part `metadata`, then the part `rootfs` (or `rootfs.img` for a virtual machine's).
async fn receive_parts(daemon: &Daemon, mut request: Request) -> Result<Incoming, ApiError> {
    DefaultBodyLimit::disable().apply(&mut request);
    let mut parts = Multipart::from_request(request, &())
        .await
        .map_err(broken_upload)?;
    let mut received = Vec::new();
    for wanted in [&["metadata"][..], &["rootfs", "rootfs.img"][..]] {
        let mut part = parts.next_field().await.map_err(broken_upload)?.ok_or_else(|| {
            ApiError::bad_request(format!("Invalid multipart image: no part {:?}", wanted[0]))
        })?;
        let name = part.name().unwrap_or_default().to_owned();
        if !wanted.contains(&name.as_str()) {
            return Err(ApiError::bad_request(format!(
                "Invalid multipart image: unexpected part {name:?}"
            )));
        }
        let (mut file, path) = new_upload(daemon)?;
        while let Some(chunk) = part.chunk().await.map_err(broken_upload)? {
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        received.push(path);
    }
    let rootfs = received.pop();
    let meta = received
        .pop()
        .ok_or_else(|| ApiError::bad_request("Invalid multipart image"))?;
    Ok(Incoming { meta, rootfs })
}

fn import_later(
    daemon: &Arc<Daemon>,
    project: String,
    requestor: Requestor,
    incoming: Incoming,
    wishes: Wishes,
) -> Response {
    let spec = OperationSpec::task("Downloading image").project(&project);
    let work_daemon = Arc::clone(daemon);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        let image = import(&work_daemon, &project, incoming, wishes).await?;
        tell_created(&work_daemon, &image, &requestor);
        Ok(Some(
            json!({"fingerprint": image.fingerprint, "size": image.size.to_string()}),
        ))
    });
    response::async_op(&operation)
}

fn tell_created(daemon: &Daemon, image: &api::Image, requestor: &Requestor) {
    daemon.events.lifecycle(
        Lifecycle::new("image-created", url(&image.project, &image.fingerprint))
            .project(&image.project)
            .context(json!({"type": image.kind}))
            .requestor(requestor),
    );
}

fn from_source(
    daemon: &Arc<Daemon>,
    project: &str,
    image_project: &str,
    requestor: Requestor,
    post: ImagesPost,
) -> Reply {
    let source = post.source.clone().unwrap_or_default();
    match source.kind.as_str() {
        "instance" | "container" | "virtual-machine" | "snapshot" => {
            let source_project = if source.project.is_empty() {
                project
            } else {
                &source.project
            }
            .to_owned();
            let snapshot = source.kind == "snapshot";
            if snapshot != source.name.contains('/') {
                return Err(ApiError::bad_request(format!(
                    "Invalid source name {:?}",
                    source.name
                )));
            }
            let wishes = Wishes {
                filename: post.filename,
                public: post.put.public,
                properties: post.put.properties,
                expires_at: post.put.expires_at,
                profiles: post.put.profiles,
                aliases: post.aliases,
                fingerprint: String::new(),
            };
            let spec = OperationSpec::task("Downloading image").project(image_project);
            let (work_daemon, image_project) = (Arc::clone(daemon), image_project.to_owned());
            let compression = post.compression_algorithm;
            let operation = daemon.operations.spawn(spec, move |_| async move {
                let daemon = work_daemon;
                let packed =
                    crate::publish::pack(&daemon, &source_project, &source.name, &compression, &wishes)
                        .await?;
                let incoming = Incoming {
                    meta: packed,
                    rootfs: None,
                };
                let image = import(&daemon, &image_project, incoming, wishes).await?;
                tell_created(&daemon, &image, &requestor);
                Ok(Some(
                    json!({"fingerprint": image.fingerprint, "size": image.size.to_string()}),
                ))
            });
            Ok(response::async_op(&operation))
        }
        "image" | "url" => Err(ApiError::not_implemented(
            "Images of other servers are not supported: download the image and import its file",
        )),
        other => Err(ApiError::bad_request(format!("Invalid source type {other:?}"))),
    }
}
