//! What happens at each start: directories, half-done changes, what must exist.

use std::sync::Arc;

use crate::daemon::Bootstrap;
use crate::paths::StatePaths;
use crate::{ApiError, Daemon};

/// Makes the directories of a state directory.
pub fn make_directories(paths: &StatePaths) -> Result<(), ApiError> {
    for (directory, mode) in [
        (paths.root().to_owned(), 0o711),
        (paths.images(), 0o700),
        (paths.uploads(), 0o700),
        (paths.storage_pools(), 0o711),
        (paths.networks(), 0o711),
        (paths.all_logs(), 0o700),
        (paths.all_runs(), 0o711),
    ] {
        std::fs::create_dir_all(&directory)
            .and_then(|()| {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(mode))
            })
            .map_err(|error| {
                ApiError::internal(format!(
                    "Failed to make directory {}: {error}",
                    directory.display()
                ))
            })?;
    }
    Ok(())
}

/// Completes or undoes what was begun, adopts what runs, makes what must exist.
pub async fn recover(daemon: &Arc<Daemon>, bootstrap: Bootstrap) -> Result<(), ApiError> {
    let _ = bootstrap;
    daemon.instances.recover(daemon).await
}
