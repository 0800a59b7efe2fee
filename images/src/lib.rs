//! Incus images: what is in them, how to unpack and how to make them.
//!
//! An image is either *unified* (one tarball with `metadata.yaml`, `rootfs/` and `templates/`) or *split* (a metadata
//! tarball, and beside it the root as squashfs, tarball or disk image). The daemon [inspects](inspect_unified) what a
//! client uploads, [unpacks](unpack) it once into an image volume and clones that for every instance. Images come from
//! strangers: every path, count and size is bounded before it is acted upon. All calls block.

mod architecture;
mod archive;
mod compression;
mod error;
mod inspect;
mod limits;
mod metadata;
mod pack;
mod place;
mod root_disk;
mod squashfs;
mod tool;
mod unpack;

pub use architecture::canonical_architecture;
pub use compression::Compression;
pub use error::{Error, Result};
pub use inspect::{ImageInfo, ImageKind, inspect_split, inspect_unified};
pub use limits::Limits;
pub use metadata::{Metadata, Template};
pub use pack::{PackSource, Packed, pack, pack_unified};
pub use root_disk::{convert_disk, make_root_disk};
pub use unpack::{unpack, unpack_within};
