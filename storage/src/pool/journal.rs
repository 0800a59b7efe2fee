//! Changes that take more than one rename: what is to be done is written down first, so that it can be completed by whoever comes next.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Pool;
use crate::error::{Error, Result};
use crate::volume::VolumeId;
use crate::{place, steps};

/// What the files of intents start with, in the pool's directory.
const JOURNAL: &str = ".journal";

/// A change to a volume and its snapshots at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Intent {
    /// Both get a new name.
    Rename {
        /// The volume.
        from: VolumeId,
        /// The volume with its new name.
        to: VolumeId,
    },
    /// Both go.
    Delete {
        /// The volume.
        id: VolumeId,
    },
}

impl Pool {
    /// Writes the intent down, does it, and strikes it out.
    pub(super) fn carry_out(&self, intent: &Intent) -> Result<()> {
        let entry = place::temporary(&self.root.join(JOURNAL));
        let suffix = entry
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let journal = self.root.join(format!("{JOURNAL}{suffix}"));
        let fail = |error| Error::io("writing", &entry, error);
        let text = serde_json::to_vec(intent).map_err(|error| fail(error.into()))?;
        let mut file = File::create_new(&entry).map_err(fail)?;
        file.write_all(&text)
            .and_then(|()| file.sync_all())
            .map_err(fail)?;
        steps::done("intent written");
        fs::rename(&entry, &journal).map_err(fail)?;
        place::sync_parent(&journal)?;
        steps::done("intent in place");
        self.complete(intent, &journal)
    }

    /// Completes what an earlier daemon had written down.
    pub(super) fn complete_intents(&self) -> Result<()> {
        for name in place::names(&self.root)? {
            if !name.starts_with(JOURNAL) {
                continue;
            }
            let journal = self.root.join(&name);
            let text = fs::read(&journal).map_err(|error| Error::io("reading", &journal, error))?;
            match serde_json::from_slice::<Intent>(&text) {
                Ok(intent) => {
                    tracing::info!(?intent, pool = self.name(), "completing an interrupted change");
                    self.complete(&intent, &journal)?;
                }
                // Written by another version, or damaged. Keeping it would stop every start; what it was about is in the log.
                Err(error) => {
                    let text = String::from_utf8_lossy(&text);
                    tracing::error!(?journal, %error, %text, "dropping an unreadable intent");
                    strike_out(&journal)?;
                }
            }
        }
        Ok(())
    }

    /// Does what is left to do of an intent.
    fn complete(&self, intent: &Intent, journal: &Path) -> Result<()> {
        match intent {
            Intent::Rename { from, to } => {
                move_if_there(&self.path(from), &self.path(to))?;
                steps::done("volume renamed");
                move_if_there(&self.snapshots_dir(from), &self.snapshots_dir(to))?;
                steps::done("snapshots renamed");
                place::sync_parent(&self.path(to))?;
                place::sync_parent(&self.snapshots_dir(to))?;
            }
            Intent::Delete { id } => {
                self.discard(&self.path(id))?;
                self.discard(&self.snapshots_dir(id))?;
            }
        }
        strike_out(journal)
    }
}

/// Renames what has not been renamed yet.
fn move_if_there(from: &Path, to: &Path) -> Result<()> {
    if fs::symlink_metadata(from).is_err() {
        return Ok(());
    }
    place::rename_to_free(from, to).map_err(|error| Error::io("renaming", from, error))
}

fn strike_out(journal: &Path) -> Result<()> {
    fs::remove_file(journal).map_err(|error| Error::io("removing", journal, error))
}
