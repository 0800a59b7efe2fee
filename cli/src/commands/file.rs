//! `virga file`: what to copy where. `file_transfer` does the copying.

use std::path::Path;

use russh_sftp::client::SftpSession;

use super::Context;
use super::file_transfer::{Attributes, pull_path, push_path, push_stream};
use crate::args;
use crate::client::escape;
use crate::error::{Error, Result};

/// `INSTANCE/PATH`.
struct Remote<'a> {
    instance: &'a str,
    path: String,
}

fn remote(text: &str) -> Result<Remote<'_>> {
    match text.split_once('/') {
        Some((instance, path)) if !instance.is_empty() && instance != "." && instance != ".." => Ok(Remote {
            instance,
            path: format!("/{path}"),
        }),
        _ => Err(Error::Usage(format!("'{text}' is not of the form INSTANCE/PATH"))),
    }
}

/// Does one verb.
pub(super) async fn run(context: &Context, verb: args::File) -> Result<()> {
    match verb {
        args::File::Push {
            paths,
            recursive,
            create_dirs,
            mode,
            uid,
            gid,
        } => {
            let attributes = Attributes { mode, uid, gid };
            push(context, &paths, recursive, create_dirs, attributes).await
        }
        args::File::Pull { paths, recursive } => pull(context, &paths, recursive).await,
    }
}

async fn session(context: &Context, instance: &str) -> Result<SftpSession> {
    let stream = context
        .client
        .upgrade(&format!("/1.0/instances/{}/sftp", escape(instance)), "sftp")
        .await?;
    let session = SftpSession::new(stream)
        .await
        .map_err(|err| Error::sftp("start a file session", err))?;
    session.set_timeout(60);
    Ok(session)
}

async fn push(
    context: &Context,
    paths: &[String],
    recursive: bool,
    create_dirs: bool,
    attributes: Attributes,
) -> Result<()> {
    let Some((target, sources)) = paths.split_last() else {
        return Ok(());
    };
    let target = remote(target)?;
    let sftp = session(context, target.instance).await?;
    let into_folder = target.path.ends_with('/') || sources.len() > 1 || is_folder(&sftp, &target.path).await;
    if create_dirs {
        let folder = if into_folder {
            target.path.as_str()
        } else {
            parent(&target.path)
        };
        make_folders(&sftp, folder).await?;
    }
    for source in sources {
        if source == "-" {
            if into_folder {
                return Err(Error::Usage(
                    "standard input needs a file name: INSTANCE/PATH/NAME".into(),
                ));
            }
            push_stream(&sftp, tokio::io::stdin(), &target.path, attributes).await?;
            continue;
        }
        let source = Path::new(source);
        let destination = if into_folder {
            let name = source
                .canonicalize()
                .ok()
                .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
                .ok_or_else(|| Error::Usage(format!("{} does not exist or has no name", source.display())))?;
            format!("{}/{name}", target.path.trim_end_matches('/'))
        } else {
            target.path.clone()
        };
        push_path(context, &sftp, source, &destination, recursive, attributes).await?;
    }
    let _ = sftp.close().await;
    Ok(())
}

async fn pull(context: &Context, paths: &[String], recursive: bool) -> Result<()> {
    let Some((target, sources)) = paths.split_last() else {
        return Ok(());
    };
    for source in sources {
        let source = remote(source)?;
        let sftp = session(context, source.instance).await?;
        let local = Path::new(target);
        let into_folder = target != "-" && (local.is_dir() || target.ends_with('/') || sources.len() > 1);
        let destination = if into_folder {
            std::fs::create_dir_all(local)
                .map_err(|err| Error::io(format!("make {}", local.display()), err))?;
            local.join(
                source
                    .path
                    .trim_end_matches('/')
                    .rsplit('/')
                    .next()
                    .unwrap_or_default(),
            )
        } else {
            local.to_owned()
        };
        pull_path(context, &sftp, &source.path, &destination, recursive).await?;
        let _ = sftp.close().await;
    }
    Ok(())
}

async fn is_folder(sftp: &SftpSession, path: &str) -> bool {
    sftp.metadata(path).await.is_ok_and(|metadata| metadata.is_dir())
}

fn parent(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit_once('/')
        .map_or("/", |(parent, _)| parent)
}

async fn make_folders(sftp: &SftpSession, path: &str) -> Result<()> {
    let mut made = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        made = format!("{made}/{part}");
        if !is_folder(sftp, &made).await {
            sftp.create_dir(&made)
                .await
                .map_err(|err| Error::sftp(format!("make the folder {made}"), err))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
