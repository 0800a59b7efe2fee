//! Processors: what they look like, beside how many there are.

use serde::{Deserialize, Serialize};

use super::MAX_VCPUS;
use super::error::{ConfigError, refuse};
use crate::arch::topology::Topology;

/// What processors look like to the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuConfig {
    /// The most vCPUs the guest may have by hotplug; without it, as many as it starts with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u8>,
    /// How `max` vCPUs are arranged; without it, as cores of one socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
}

impl CpuConfig {
    /// Checks the section for a VM that starts with `vcpus`.
    pub(super) fn check(&self, vcpus: u8) -> Result<(), ConfigError> {
        let max = self.max.unwrap_or(vcpus);
        if !(vcpus..=MAX_VCPUS).contains(&max) {
            let problem = format!("use {vcpus} (`vcpus`) to {MAX_VCPUS}");
            return Err(refuse("cpu.max", max, problem));
        }
        let Some(topology) = self.topology else {
            return Ok(());
        };
        let Topology {
            sockets,
            cores,
            threads,
        } = topology;
        let value = format!("{sockets} sockets of {cores} cores of {threads} threads");
        if topology.processors() != u32::from(max) {
            let problem =
                format!("their product has to be the number of vCPUs ({max}; cpu.max counts, if it is set)");
            return Err(refuse("cpu.topology", value, problem));
        }
        Ok(())
    }
}
