//! The types by which devices see guest memory. They are named in one place so that a later change (a dirty bitmap
//! for migration) does not meet every device.

/// One snapshot of the guest's memory map.
pub type Ram = vm_memory::GuestMemoryMmap<()>;

/// The guest's memory map as it is now; it may be exchanged while devices run (memory hotplug).
pub type Memory = vm_memory::GuestMemoryAtomic<Ram>;
