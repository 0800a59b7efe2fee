//! `/1.0/instances/{name}/sftp` and `/1.0/instances/{name}/files`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use russh_sftp::client::SftpSession;
use russh_sftp::protocol::FileAttributes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::events;
use super::super::files::{self, Wanted};
use super::super::record::InstanceRecord;
use crate::request::{Project, Query, Requestor};
use crate::response::{self, Reply};
use crate::{ApiError, Daemon};

/// What is read from a file at once.
const CHUNK: usize = 32 << 10;

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/1.0/instances/{name}/sftp", get(sftp))
        .route(
            "/1.0/instances/{name}/files",
            get(read).head(read).post(write).delete(remove),
        )
}

/// Switches the connection over to SFTP with the inside of the instance.
async fn sftp(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path(name): Path<String>,
    mut request: Request,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let wanted = request
        .headers()
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok());
    if !wanted.is_some_and(|value| value.eq_ignore_ascii_case("sftp")) {
        return Err(ApiError::bad_request("Missing or invalid upgrade header"));
    }
    let mut inside = files::sftp(&daemon, &record).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => {
                // Ends when either side does; how is of no interest to the other.
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(connection), &mut inside).await;
            }
            Err(error) => tracing::debug!(%error, "a client did not follow to sftp"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(header::UPGRADE, HeaderValue::from_static("sftp"));
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    Ok(response)
}

fn path_of(query: &Query) -> Result<String, ApiError> {
    let path = query
        .get_non_empty("path")
        .ok_or_else(|| ApiError::bad_request("Missing path argument"))?;
    if path.contains('\0') {
        return Err(ApiError::bad_request("Invalid path argument"));
    }
    Ok(if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    })
}

async fn read(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    query: Query,
    requestor: Requestor,
    Path(name): Path<String>,
    method: Method,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let path = path_of(&query)?;
    let session = files::session(&daemon, &record).await?;
    let attributes = session
        .symlink_metadata(&path)
        .await
        .map_err(|error| files::failed(&error))?;
    if method == Method::HEAD {
        return Ok(described(Response::new(Body::empty()), &attributes));
    }
    tell_file(&daemon, &record, &path, "instance-file-retrieved", &requestor);
    match files::kind(&attributes) {
        "directory" => {
            let entries = session
                .read_dir(&path)
                .await
                .map_err(|error| files::failed(&error))?;
            let mut names: Vec<String> = entries.map(|entry| entry.file_name()).collect();
            names.sort();
            Ok(described(response::sync(names), &attributes))
        }
        "symlink" => {
            let target = session
                .read_link(&path)
                .await
                .map_err(|error| files::failed(&error))?;
            Ok(described(content(Body::from(target), &path), &attributes))
        }
        _ => {
            let file = session.open(&path).await.map_err(|error| files::failed(&error))?;
            Ok(described(content(stream(session, file), &path), &attributes))
        }
    }
}

/// A file's content, read as it is sent. The session lives as long as the stream.
fn stream(session: SftpSession, file: russh_sftp::client::fs::File) -> Body {
    let chunks = futures::stream::try_unfold((session, file), |(session, mut file)| async move {
        let mut chunk = vec![0; CHUNK];
        let len = file.read(&mut chunk).await?;
        chunk.truncate(len);
        Ok::<_, std::io::Error>((len > 0).then_some((bytes::Bytes::from(chunk), (session, file))))
    });
    Body::from_stream(chunks)
}

fn content(body: Body, path: &str) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    let name = path.rsplit('/').next().unwrap_or_default();
    if let Ok(value) = HeaderValue::from_str(&format!("inline;filename={name}")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// Adds what clients want to know about a file.
fn described(mut response: Response, attributes: &FileAttributes) -> Response {
    let mode = attributes.permissions.unwrap_or_default() & 0o7777;
    let modified = i64::from(attributes.mtime.unwrap_or_default());
    let modified = jiff::Timestamp::from_second(modified).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let values = [
        ("x-incus-uid", attributes.uid.unwrap_or_default().to_string()),
        ("x-incus-gid", attributes.gid.unwrap_or_default().to_string()),
        ("x-incus-mode", format!("{mode:04o}")),
        ("x-incus-type", files::kind(attributes).to_owned()),
        ("x-incus-size", attributes.size.unwrap_or_default().to_string()),
        (
            "x-incus-modified",
            modified.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        ),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
    }
    response
}

fn wanted(headers: &HeaderMap) -> Result<Wanted, ApiError> {
    let get = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .filter(|value| !value.is_empty())
    };
    let number = |name: &str| match get(name) {
        None => Ok(None),
        Some(text) => text
            .parse::<u32>()
            .map(Some)
            .map_err(|_| ApiError::bad_request(format!("Invalid {name} header {text:?}"))),
    };
    let mode = match get("x-incus-mode") {
        None => None,
        // Go's clients write `0644`, others `644`.
        Some(text) => Some(
            u32::from_str_radix(text, 8)
                .ok()
                .filter(|mode| *mode <= 0o7777)
                .ok_or_else(|| ApiError::bad_request(format!("Invalid X-Incus-mode header {text:?}")))?,
        ),
    };
    let append = match get("x-incus-write") {
        None | Some("overwrite") => false,
        Some("append") => true,
        Some(other) => return Err(ApiError::bad_request(format!("Bad file write mode: {other}"))),
    };
    Ok(Wanted {
        kind: get("x-incus-type").unwrap_or("file").to_owned(),
        uid: number("x-incus-uid")?,
        gid: number("x-incus-gid")?,
        mode,
        append,
    })
}

async fn write(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    query: Query,
    requestor: Requestor,
    Path(name): Path<String>,
    request: Request,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let path = path_of(&query)?;
    let wanted = wanted(request.headers())?;
    let session = files::session(&daemon, &record).await?;
    match wanted.kind.as_str() {
        "directory" => {
            if session.create_dir(&path).await.is_err() {
                // A directory that is there already is fine, anything else is not.
                let there = session
                    .metadata(&path)
                    .await
                    .map_err(|error| files::failed(&error))?;
                if files::kind(&there) != "directory" {
                    return Err(ApiError::bad_request(format!(
                        "{path:?} exists and is no directory"
                    )));
                }
            }
        }
        "symlink" => {
            let target = crate::request::read_document(request).await?;
            let target = String::from_utf8(target.to_vec())
                .map_err(|_| ApiError::bad_request("The target of a symbolic link must be text"))?;
            // What is there is replaced, as with a file.
            let _ = session.remove_file(&path).await;
            let made = guest_agent::client::symlink(&session, &path, target.trim_end_matches('\n')).await;
            made.map_err(|error| files::failed(&error))?;
            tell_file(&daemon, &record, &path, "instance-file-pushed", &requestor);
            return Ok(response::empty());
        }
        "file" => write_file(&session, &path, wanted.append, request).await?,
        other => return Err(ApiError::bad_request(format!("Bad file type: {other}"))),
    }
    files::set_attributes(&session, &path, &wanted).await?;
    tell_file(&daemon, &record, &path, "instance-file-pushed", &requestor);
    Ok(response::empty())
}

async fn write_file(
    session: &SftpSession,
    path: &str,
    append: bool,
    request: Request,
) -> Result<(), ApiError> {
    let mut file = session
        .open_with_flags(path, files::write_flags(append))
        .await
        .map_err(|error| files::failed(&error))?;
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| ApiError::bad_request(format!("Failed reading the request: {error}")))?;
        if let Ok(data) = frame.into_data() {
            file.write_all(&data).await?;
        }
    }
    file.shutdown().await?;
    Ok(())
}

async fn remove(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    query: Query,
    requestor: Requestor,
    Path(name): Path<String>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let path = path_of(&query)?;
    let session = files::session(&daemon, &record).await?;
    let attributes = session
        .symlink_metadata(&path)
        .await
        .map_err(|error| files::failed(&error))?;
    let removed = match files::kind(&attributes) {
        "directory" => session.remove_dir(&path).await,
        _ => session.remove_file(&path).await,
    };
    removed.map_err(|error| files::failed(&error))?;
    tell_file(&daemon, &record, &path, "instance-file-deleted", &requestor);
    Ok(response::empty())
}

fn tell_file(daemon: &Daemon, record: &InstanceRecord, path: &str, action: &str, who: &Requestor) {
    let context = if action == "instance-file-retrieved" {
        json!({ "file-source": path })
    } else {
        json!({ "file-destination": path })
    };
    events::tell(daemon, record, action, Some(context), who);
}
