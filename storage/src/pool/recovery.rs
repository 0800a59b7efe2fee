//! After an interruption: completing what was written down, sweeping what was half made.

use std::fs;

use super::Pool;
use crate::error::Result;
use crate::place;
use crate::volume::VolumeKind;

impl Pool {
    /// Finishes or undoes what an interrupted daemon left half done. To be called once, before anything else uses the pool.
    pub fn recover(&self) -> Result<()> {
        self.complete_intents()?;
        self.sweep(&self.root)?;
        for kind in VolumeKind::ALL {
            self.sweep(&self.root.join(kind.folder()))?;
            let snapshots = self.root.join(kind.snapshot_folder());
            self.sweep(&snapshots)?;
            for owner in self.snapshot_owners(kind)? {
                let folder = snapshots.join(owner);
                self.sweep(&folder)?;
                // Made for a first snapshot that never came. Stays where there are some.
                let _ = fs::remove_dir(&folder);
            }
        }
        Ok(())
    }

    fn sweep(&self, folder: &std::path::Path) -> Result<()> {
        for name in place::names(folder)? {
            if place::is_temporary(&name) {
                let path = folder.join(&name);
                tracing::info!(?path, "removing what an interrupted change left");
                self.driver.remove(&path)?;
            }
        }
        Ok(())
    }
}
