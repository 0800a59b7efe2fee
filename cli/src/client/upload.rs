//! Bodies that are read from files, with a progress bar.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use indicatif::ProgressBar;
use tokio_util::io::ReaderStream;

use super::Body;
use crate::error::{Error, Result};

const CHUNK: usize = 256 << 10;

/// A file to send: its path and size in bytes.
pub(crate) struct Upload {
    path: PathBuf,
    /// Size in bytes.
    pub(crate) size: u64,
}

impl Upload {
    /// Looks at the file.
    pub(crate) async fn new(path: &Path) -> Result<Self> {
        let metadata = tokio::fs::metadata(path)
            .await
            .map_err(|err| Error::io(format!("read {}", path.display()), err))?;
        if !metadata.is_file() {
            return Err(Error::Usage(format!("{} is not a file", path.display())));
        }
        Ok(Self {
            path: path.to_owned(),
            size: metadata.len(),
        })
    }

    /// The file's own name.
    pub(crate) fn name(&self) -> String {
        self.path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    async fn stream(
        &self,
        bar: &ProgressBar,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + 'static + use<>> {
        let file = tokio::fs::File::open(&self.path)
            .await
            .map_err(|err| Error::io(format!("open {}", self.path.display()), err))?;
        let bar = bar.clone();
        Ok(ReaderStream::with_capacity(file, CHUNK).inspect_ok(move |chunk| bar.inc(chunk.len() as u64)))
    }
}

/// One file as the whole body.
pub(crate) async fn single(upload: &Upload, bar: &ProgressBar) -> Result<Body> {
    let stream = upload.stream(bar).await?;
    Ok(StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync())
}

/// Files as the fields of a multipart form, and the content type that says so.
pub(crate) async fn multipart(parts: &[(&str, &Upload)], bar: &ProgressBar) -> Result<(Body, String)> {
    // 122 random bits: no file contains it by chance.
    let boundary = format!("virga-{}", random_hex()?);
    let mut chained: std::pin::Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>> =
        Box::pin(futures::stream::empty());
    for (field, upload) in parts {
        let name = upload.name().replace(['"', '\r', '\n'], "_");
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let body = upload.stream(bar).await?;
        chained = Box::pin(
            chained
                .chain(text(head))
                .chain(body)
                .chain(text("\r\n".to_owned())),
        );
    }
    let chained = chained.chain(text(format!("--{boundary}--\r\n")));
    let body = StreamBody::new(chained.map_ok(Frame::data)).boxed_unsync();
    Ok((body, format!("multipart/form-data; boundary={boundary}")))
}

fn text(text: String) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    futures::stream::once(async move { Ok(Bytes::from(text)) })
}

fn random_hex() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|err| Error::io("read /dev/urandom", err))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
