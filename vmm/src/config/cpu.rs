//! Processors: what they look like, beside how many there are.

use serde::{Deserialize, Serialize};

use super::MAX_VCPUS;
use super::error::{ConfigError, refuse};
use super::numbers::Numbers;
use crate::arch::cpuid::features::{find, similar};
use crate::arch::cpuid::model::{Changes, Model};
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
    /// Which features they have: the host's, or those of a level that many hosts have in common.
    #[serde(default)]
    pub model: Model,
    /// Changes to the model: `+NAME` for what it has besides, `-NAME` for what it does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// CPUs of the host on which threads run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinning: Option<PinningConfig>,
}

/// CPUs of the host on which threads run, as lists like `0-3,8`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinningConfig {
    /// For each vCPU, those that may be added included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vcpus: Vec<Numbers>,
    /// For the threads of all devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Numbers>,
}

impl CpuConfig {
    /// Checks the section for a VM that starts with `vcpus`.
    pub(super) fn check(&self, vcpus: u8) -> Result<(), ConfigError> {
        let max = self.max.unwrap_or(vcpus);
        if !(vcpus..=MAX_VCPUS).contains(&max) {
            let problem = format!("use {vcpus} (`vcpus`) to {MAX_VCPUS}");
            return Err(refuse("cpu.max", max, problem));
        }
        self.check_topology(max)?;
        self.changes()?;
        match &self.pinning {
            Some(pinning) if !pinning.vcpus.is_empty() && pinning.vcpus.len() != usize::from(max) => {
                let problem = format!("give one for each of the {max} vCPUs (cpu.max counts, if it is set)");
                Err(refuse(
                    "cpu.pinning.vcpus",
                    format!("{} lists", pinning.vcpus.len()),
                    problem,
                ))
            }
            _ => Ok(()),
        }
    }

    fn check_topology(&self, max: u8) -> Result<(), ConfigError> {
        let Some(topology) = self.topology else {
            return Ok(());
        };
        let Topology {
            sockets,
            cores,
            threads,
        } = topology;
        if topology.processors() == u32::from(max) {
            return Ok(());
        }
        let value = format!("{sockets} sockets of {cores} cores of {threads} threads");
        let problem =
            format!("their product has to be the number of vCPUs ({max}; cpu.max counts, if it is set)");
        Err(refuse("cpu.topology", value, problem))
    }

    /// The changes to the model.
    pub fn changes(&self) -> Result<Changes, ConfigError> {
        let mut changes = Changes::default();
        let field = |index: usize| format!("cpu.features[{index}]");
        for (index, change) in self.features.iter().enumerate() {
            let (list, name) = match (change.strip_prefix('+'), change.strip_prefix('-')) {
                (Some(name), _) => (&mut changes.added, name),
                (_, Some(name)) => (&mut changes.removed, name),
                _ => {
                    let problem =
                        "begin with + for a feature that is to be there, with - for one that is not";
                    return Err(refuse(field(index), format!("{change:?}"), problem));
                }
            };
            let Some(feature) = find(name) else {
                let problem = match similar(name).as_slice() {
                    [] => "there is no such feature; names are those of /proc/cpuinfo".to_owned(),
                    near => format!("there is no such feature; there are {}", near.join(", ")),
                };
                return Err(refuse(field(index), format!("{change:?}"), problem));
            };
            list.push(feature);
        }
        let without = changes.without();
        let given: Vec<_> = self
            .model
            .features()
            .chain(changes.added.iter().copied())
            .collect();
        for feature in &changes.added {
            let value = format!("\"+{}\"", feature.name);
            if without.contains(feature.name) {
                let problem = "it is left out by another entry, or needs what is; decide for one of both";
                return Err(refuse("cpu.features", value, problem));
            }
            let is_given = |name: &&&str| given.iter().any(|feature| feature.name == **name);
            let missing = feature.needs.iter().find(|name| !is_given(name));
            if let (Some(missing), true) = (missing, self.model != Model::Host) {
                let problem = format!(
                    "it needs {missing}, which {} does not have; add it, too",
                    self.model.name()
                );
                return Err(refuse("cpu.features", value, problem));
            }
        }
        Ok(changes)
    }
}

#[cfg(test)]
#[path = "cpu_tests.rs"]
mod tests;
