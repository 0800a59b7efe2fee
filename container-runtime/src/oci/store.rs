//! What is kept about OCI containers: one directory each, with `state.json` and while it waits to be started a socket.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Error, Result, process, run_dir};

const STATE: &str = "state.json";
pub(super) const START_SOCKET: &str = "start.sock";
const MAX_ID: usize = 1024;

/// One container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) oci_version: String,
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) start_time: u64,
    pub(super) bundle: PathBuf,
    pub(super) cgroup: String,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Record {
    pub(super) fn is_alive(&self) -> bool {
        process::is_alive(self.pid, self.start_time)
    }

    /// The lifecycle's word for where it is (runtime.md, "State").
    pub(super) fn status(&self, start_socket: &Path) -> &'static str {
        match (self.is_alive(), start_socket.exists()) {
            (false, _) => "stopped",
            (true, true) => "created",
            (true, false) => "running",
        }
    }

    /// The state document.
    pub(super) fn state(&self, status: &str) -> serde_json::Value {
        let mut state = json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status,
            "bundle": self.bundle,
            "annotations": self.annotations,
        });
        if status != "stopped" {
            state["pid"] = json!(self.pid);
        }
        state
    }
}

/// All containers below a root directory.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// The id becomes a directory's name.
    fn dir(&self, id: &str) -> Result<PathBuf> {
        let fine = !id.is_empty()
            && id.len() <= MAX_ID
            && id != "."
            && id != ".."
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_+-.".contains(&b));
        if fine {
            Ok(self.root.join(id))
        } else {
            Err(Error::spec("id", format!("{id:?} is not a container id")))
        }
    }

    /// Makes the container's directory; fails when the id is taken.
    pub(super) fn reserve(&self, id: &str) -> Result<PathBuf> {
        let dir = self.dir(id)?;
        fs::create_dir_all(&self.root).map_err(|e| Error::file("make", &self.root, e))?;
        std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700)
            .create(&dir)
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::AlreadyExists => Error::spec("id", format!("{id} exists already")),
                _ => Error::file("make", &dir, e),
            })?;
        Ok(dir)
    }

    pub(super) fn start_socket(&self, id: &str) -> Result<PathBuf> {
        Ok(self.dir(id)?.join(START_SOCKET))
    }

    pub(super) fn write(&self, record: &Record) -> Result<()> {
        run_dir::write_document(&self.dir(&record.id)?, STATE, record, false)
    }

    pub(super) fn read(&self, id: &str) -> Result<Record> {
        run_dir::read_document(&self.dir(id)?, STATE)?
            .ok_or_else(|| Error::spec("id", format!("{id} does not exist")))
    }

    pub(super) fn remove(&self, id: &str) -> Result<()> {
        let dir = self.dir(id)?;
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::file("remove", dir, error))
            }
            _ => Ok(()),
        }
    }
}
