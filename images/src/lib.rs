//! Incus images: what is in them, how to unpack and how to make them.
//!
//! An image is either *unified* (one tarball with `metadata.yaml`, `rootfs/` and `templates/`) or *split* (a metadata
//! tarball, and beside it the root as squashfs, tarball or disk image). The daemon [inspects](inspect_unified) what a client uploads,
//! [unpacks](unpack) it once into an image volume and clones that for every instance. Images come from strangers:
//! every path, count and size is bounded before it is acted upon. All calls block.

mod error;
mod inspect;
mod metadata;
mod pack;
mod root_disk;
mod unpack;

pub use error::{Error, Result};
pub use inspect::{ImageInfo, ImageKind, inspect_split, inspect_unified};
pub use metadata::{Metadata, Template};
pub use pack::{Compression, PackSource, Packed, pack, pack_unified};
pub use root_disk::make_root_disk;
pub use unpack::{Limits, unpack, unpack_within};
