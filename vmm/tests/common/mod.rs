//! What the tests of whole VMs share: payload guests and a fixture that runs them.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub(crate) mod disk_driver;
pub(crate) mod docs;
pub(crate) mod payload;
pub(crate) mod pci_driver;
pub(crate) mod vm;
#[path = "../../../devices/src/testing/volume.rs"]
pub(crate) mod volume;
