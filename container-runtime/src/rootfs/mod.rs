//! The container's file system: finding one's way in a hostile image, and what is mounted over it.

pub mod lookup;
