//! What is special to x86-64 PCs: where things are in memory, tables and registers at boot.

pub mod acpi;
pub mod apic;
pub mod boot_params;
pub mod cpuid;
pub mod layout;
pub mod msrs;
pub mod registers;
pub mod smbios;
pub mod topology;
