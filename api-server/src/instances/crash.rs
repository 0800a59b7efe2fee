//! The places between two steps of launching, stopping and deleting an instance, by name.
//!
//! A test sets `VIRGA_CRASH_AT` to one of the names: the daemon then kills itself with SIGKILL when it gets there, as if the
//! machine's owner had. The names are all in [`Step::ALL`], so that a test can visit each of them and none is forgotten.
//! Release builds have the names but not the trap.

macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A place between two steps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Step {
            $($(#[$doc])* $variant,)*
        }

        impl Step {
            /// Every place.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name, as `VIRGA_CRASH_AT` has it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

steps! {
    /// Asked to create; nothing has been done.
    CreateBegun = "create-begun",
    /// The record exists, in phase `Creating`.
    CreateRecorded = "create-recorded",
    /// The image's own volume is in the pool.
    CreateImageCached = "create-image-cached",
    /// The instance's volume is complete.
    CreateVolumeMade = "create-volume-made",
    /// The record says `Ready`.
    CreateReady = "create-ready",
    /// Asked to start; nothing has been done.
    StartBegun = "start-begun",
    /// The record says which links there will be.
    StartRecorded = "start-recorded",
    /// Addresses are reserved.
    StartReserved = "start-reserved",
    /// The run directory has all that the supervisor reads.
    StartPrepared = "start-prepared",
    /// The supervisor runs and answers; the instance is held.
    StartSpawned = "start-spawned",
    /// Its network interfaces are in place.
    StartPlugged = "start-plugged",
    /// The instance runs.
    StartReleased = "start-released",
    /// The record says that it runs.
    StartDone = "start-done",
    /// Asked to stop; nothing has been done.
    StopBegun = "stop-begun",
    /// The supervisor has ended.
    StopEnded = "stop-ended",
    /// The links of the instance are gone.
    StopUnplugged = "stop-unplugged",
    /// The run directory is gone.
    StopCleaned = "stop-cleaned",
    /// The record says that it does not run.
    StopDone = "stop-done",
    /// Asked to delete; nothing has been done.
    DeleteBegun = "delete-begun",
    /// The record says `Deleting`.
    DeleteRecorded = "delete-recorded",
    /// Addresses are free again.
    DeleteReleased = "delete-released",
    /// Snapshots are gone.
    DeleteSnapshotsGone = "delete-snapshots-gone",
    /// The volume is gone.
    DeleteVolumeGone = "delete-volume-gone",
    /// Logs are gone.
    DeleteLogsGone = "delete-logs-gone",
    /// The record is gone.
    DeleteDone = "delete-done",
}

/// Kills the daemon here if a test asked for it.
pub(super) fn point(step: Step) {
    #[cfg(debug_assertions)]
    {
        static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        let wanted = WANTED.get_or_init(|| std::env::var("VIRGA_CRASH_AT").ok());
        if wanted.as_deref() == Some(step.name()) {
            tracing::warn!(step = step.name(), "killing this process, as VIRGA_CRASH_AT asks");
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = step;
}
