//! Images as files: one for a unified image, two parts for a split one.

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderName, HeaderValue, header};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::{project_of, url};
use crate::events::Lifecycle;
use crate::image_files::find;
use crate::request::{Project, Requestor};
use crate::response::Reply;
use crate::{ApiError, Daemon};

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

pub(super) async fn export(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(fingerprint): Path<String>,
) -> Reply {
    let (image, _) = find(&*daemon.store, &project_of(&daemon, &project)?, &fingerprint)?;
    let fingerprint = &image.fingerprint;
    let (meta, rootfs) = (
        daemon.paths.image(fingerprint),
        daemon.paths.image_rootfs(fingerprint),
    );
    let response = if tokio::fs::try_exists(&rootfs).await? {
        split(fingerprint, &meta, &rootfs, &image.kind).await?
    } else {
        unified(fingerprint, &meta).await?
    };
    let event = Lifecycle::new("image-retrieved", url(&image.project, fingerprint)).project(&image.project);
    daemon.events.lifecycle(event.requestor(&requestor));
    Ok(response)
}

/// An open file, how long it is and how its name ends.
struct Part {
    file: tokio::fs::File,
    length: u64,
    extension: &'static str,
}

impl Part {
    async fn open(path: &FilePath) -> Result<Self, ApiError> {
        let mut file = tokio::fs::File::open(path)
            .await
            .map_err(|error| ApiError::internal(format!("Image file {}: {error}", path.display())))?;
        let length = file.metadata().await?.len();
        let mut head = Vec::new();
        (&mut file).take(8).read_to_end(&mut head).await?;
        tokio::io::AsyncSeekExt::rewind(&mut file).await?;
        Ok(Self {
            file,
            length,
            extension: extension(&head),
        })
    }

    fn into_stream(self) -> impl Stream<Item = std::io::Result<Bytes>> {
        ReaderStream::with_capacity(self.file, CHUNK)
    }
}

/// How files that begin like this are called.
fn extension(head: &[u8]) -> &'static str {
    match head {
        [0x1f, 0x8b, ..] => ".tar.gz",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => ".tar.xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ".tar.zst",
        [b'B', b'Z', b'h', ..] => ".tar.bz2",
        [b'h', b's', b'q', b's', ..] => ".squashfs",
        [b'Q', b'F', b'I', 0xfb, ..] => ".qcow2",
        _ => ".tar",
    }
}

fn headers(mut response: Response, length: Option<u64>, pairs: &[(HeaderName, String)]) -> Response {
    let headers = response.headers_mut();
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    for (name, value) in pairs {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name.clone(), value);
        }
    }
    headers.insert(
        HeaderName::from_static("x-incus-type"),
        HeaderValue::from_static("incus"),
    );
    response
}

async fn unified(fingerprint: &str, meta: &FilePath) -> Result<Response, ApiError> {
    let part = Part::open(meta).await?;
    let pairs = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("inline;filename={fingerprint}{}", part.extension),
        ),
    ];
    let length = part.length;
    Ok(headers(
        Response::new(Body::from_stream(part.into_stream())),
        Some(length),
        &pairs,
    ))
}

async fn split(
    fingerprint: &str,
    meta: &FilePath,
    rootfs: &FilePath,
    kind: &str,
) -> Result<Response, ApiError> {
    let (meta, rootfs) = (Part::open(meta).await?, Part::open(rootfs).await?);
    let boundary = uuid::Uuid::new_v4().simple().to_string();
    let rootfs_name = if kind == "virtual-machine" {
        "rootfs.img"
    } else {
        "rootfs"
    };
    let head = |start: &str, name: &str, filename: String| {
        Bytes::from(format!(
            "{start}--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{filename}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        ))
    };
    let first = head("", "metadata", format!("meta-{fingerprint}{}", meta.extension));
    let second = head("\r\n", rootfs_name, format!("{fingerprint}{}", rootfs.extension));
    let last = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let length = (first.len() + second.len() + last.len()) as u64 + meta.length + rootfs.length;
    let text = |bytes: Bytes| stream::once(std::future::ready(Ok(bytes)));
    let body = text(first)
        .chain(meta.into_stream())
        .chain(text(second))
        .chain(rootfs.into_stream())
        .chain(text(last));
    let pairs = [(
        header::CONTENT_TYPE,
        format!("multipart/form-data; boundary={boundary}"),
    )];
    Ok(headers(
        Response::new(Body::from_stream(body)),
        Some(length),
        &pairs,
    ))
}
