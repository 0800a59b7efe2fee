//! The VM generation id (Microsoft, "Virtual Machine Generation ID"): a number in guest memory that changes when the VM
//! becomes another one, by a restored snapshot or a fork. A guest that sees it change mixes it into its random numbers and
//! forgets what must not be used twice.
//!
//! The guest finds its address in the ACPI tables, in a range that the memory map reserves.

use uuid::Uuid;

use crate::arch::layout;
use crate::memory::{self, MemoryError, Ram};

/// Writes the id where the guest reads it. A guest that runs has to be told.
pub fn write(memory: &Ram, id: Uuid) -> Result<(), MemoryError> {
    memory::write(memory, layout::GENERATION_ID, &id.to_bytes_le())
}
