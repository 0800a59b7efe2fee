//! How a VM's processors are arranged in sockets, cores and threads, and numbered.
//!
//! A processor has two numbers: its *index*, which counts in the order threads, cores, sockets, and its *APIC id*, in
//! which each level has bits of its own (SDM vol. 3 §10.9.1), so that ids have gaps where a level's size is no power of
//! two. KVM's vCPU ids are APIC ids; everything else goes by index.

use serde::{Deserialize, Serialize};

/// An arrangement of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Packages.
    pub sockets: u8,
    /// Cores of each package.
    pub cores: u8,
    /// Threads of each core.
    pub threads: u8,
}

fn bits(count: u8) -> u32 {
    u32::from(count).next_power_of_two().trailing_zeros()
}

impl Topology {
    /// One package of cores with one thread each, so that the guest's scheduler treats all alike.
    #[must_use]
    pub fn flat(cores: u8) -> Self {
        Self {
            sockets: 1,
            cores,
            threads: 1,
        }
    }

    /// Number of processors.
    #[must_use]
    pub fn processors(&self) -> u32 {
        u32::from(self.sockets) * self.processors_per_socket()
    }

    /// Number of processors of each package.
    #[must_use]
    pub fn processors_per_socket(&self) -> u32 {
        u32::from(self.cores) * u32::from(self.threads)
    }

    /// Bits of an APIC id that tell the threads of a core apart.
    #[must_use]
    pub fn thread_bits(&self) -> u32 {
        bits(self.threads)
    }

    /// Bits of an APIC id that tell the cores of a package apart.
    #[must_use]
    pub fn core_bits(&self) -> u32 {
        bits(self.cores)
    }

    /// Bits of an APIC id that tell the threads of a package apart.
    #[must_use]
    pub fn socket_shift(&self) -> u32 {
        self.thread_bits() + self.core_bits()
    }

    /// Socket, core within it and thread within that of a processor.
    #[must_use]
    pub fn place(&self, index: u8) -> (u8, u8, u8) {
        let (threads, cores) = (self.threads.max(1), self.cores.max(1));
        (index / threads / cores, index / threads % cores, index % threads)
    }

    /// The APIC id of a processor. The configuration has been checked: it fits 8 bits.
    #[must_use]
    pub fn apic_id(&self, index: u8) -> u8 {
        let (socket, core, thread) = self.place(index);
        let id = u32::from(socket) << self.socket_shift()
            | u32::from(core) << self.thread_bits()
            | u32::from(thread);
        id as u8
    }
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
