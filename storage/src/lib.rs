//! Storage pools, volumes and snapshots.
//!
//! A [`Pool`] is a directory of volumes behind one of the [`driver`]s. The daemon makes a volume for every image it
//! unpacks, every container's root file system and every VM's disk, and takes copy-on-write copies of them where the
//! file system below can. All calls block; async callers use a blocking thread.
//!
//! Every change is atomic in the eyes of a later daemon: new things are made under a temporary name beside their
//! place and renamed into it, old things are renamed away before they are removed, and a change of several renames
//! writes its intent down first. [`Pool::recover`] finishes or undoes whatever a `kill -9` or a power cut interrupted.

pub mod driver;
mod error;
mod place;
mod pool;
mod steps;
mod tree;
mod volume;

pub use driver::DriverInfo;
pub use error::{BoxError, Error, Result};
pub use pool::{Pool, PoolConfig};
pub use volume::{ContentType, Resources, Space, VolumeId, VolumeKind};
