//! How an instance is: status, use of processor, memory, disk and network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{
    InstanceState, InstanceStateCpu, InstanceStateDisk, InstanceStateMemory, InstanceStateNetwork,
    InstanceStateNetworkAddress, InstanceStateNetworkCounters, InstanceStateOsInfo, InstanceType, StatusCode,
    Timestamp,
};
use guest_agent::state::{GuestState, NetworkState};

use super::driver::Usage;
use super::manager::{Running, blocking};
use super::record::InstanceRecord;
use super::{agent, limits, netns, ports};
use crate::{ApiError, Daemon};

/// How long an agent may take to answer; one that does not is left out of the picture.
const AGENT_PATIENCE: Duration = Duration::from_millis(1500);

/// The state of an instance. What cannot be found out is left out: an instance can always be asked.
pub async fn state(daemon: &Arc<Daemon>, record: &InstanceRecord) -> InstanceState {
    let status = daemon.instances.status(&record.project, &record.name);
    let Some(running) = daemon.instances.running(&record.project, &record.name) else {
        return stopped(status, disk(daemon, record).await);
    };
    let run_dir = running.run_dir.clone();
    let usage = daemon
        .instances
        .with_driver(running.kind, move |driver| driver.usage(&run_dir))
        .await;
    let usage = usage.unwrap_or_default();
    let guest = match running.kind {
        InstanceType::VirtualMachine => guest_state(daemon, &running).await,
        InstanceType::Container => None,
    };
    let mut network = match (&guest, running.kind) {
        (Some(guest), _) => guest
            .network
            .iter()
            .map(|(name, state)| (name.clone(), interface(state)))
            .collect(),
        (None, InstanceType::Container) => {
            let pid = running.pid;
            blocking(move || Ok(netns::interfaces(pid)))
                .await
                .unwrap_or_default()
        }
        (None, InstanceType::VirtualMachine) => BTreeMap::new(),
    };
    name_host_ends(record, &mut network);
    InstanceState {
        status: status.text().to_owned(),
        status_code: status,
        disk: Some(disk(daemon, record).await),
        memory: memory(&usage, guest.as_ref()),
        network: Some(network),
        pid: running.pid.into(),
        processes: match (&guest, usage.processes) {
            (Some(guest), _) => guest.processes,
            (None, Some(processes)) => signed(processes),
            (None, None) => -1,
        },
        cpu: cpu(&usage, daemon, record),
        started_at: running.started_at,
        os_info: guest.map(|guest| InstanceStateOsInfo {
            os: guest.os_info.os,
            os_version: guest.os_info.os_version,
            kernel_version: guest.os_info.kernel_version,
            hostname: guest.os_info.hostname,
            fqdn: guest.os_info.fqdn,
        }),
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn stopped(status: StatusCode, disk: BTreeMap<String, InstanceStateDisk>) -> InstanceState {
    InstanceState {
        status: status.text().to_owned(),
        status_code: status,
        disk: Some(disk),
        memory: InstanceStateMemory::default(),
        network: None,
        pid: 0,
        processes: 0,
        cpu: InstanceStateCpu::default(),
        started_at: Timestamp::never(),
        os_info: None,
    }
}

fn cpu(usage: &Usage, daemon: &Arc<Daemon>, record: &InstanceRecord) -> InstanceStateCpu {
    let host = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let limit = super::expand::expand(&*daemon.store, record)
        .ok()
        .and_then(|config| limits::cpus(config.get("limits.cpu")).ok().flatten())
        .map(|cpus| match cpus {
            limits::Cpus::Count(count) => count,
            limits::Cpus::Set(set) => limits::count_of_set(&set),
        });
    let count = limit
        .unwrap_or(if record.is_vm() { 1 } else { host })
        .min(host.max(1));
    InstanceStateCpu {
        usage: signed(usage.cpu_ns),
        allocated_time: signed(count.saturating_mul(1_000_000_000)),
    }
}

fn memory(usage: &Usage, guest: Option<&GuestState>) -> InstanceStateMemory {
    match guest {
        Some(guest) => InstanceStateMemory {
            usage: guest.memory.usage,
            usage_peak: guest.memory.usage_peak,
            total: guest.memory.total,
            swap_usage: guest.memory.swap_usage,
            swap_usage_peak: guest.memory.swap_usage_peak,
        },
        None => InstanceStateMemory {
            usage: signed(usage.memory),
            usage_peak: signed(usage.memory_peak),
            total: signed(usage.memory_limit.unwrap_or_else(limits::host_memory)),
            swap_usage: signed(usage.swap),
            swap_usage_peak: 0,
        },
    }
}

/// Use of the root disk where it costs nothing to find out: disks are files with a size, directories would have to be walked.
async fn disk(daemon: &Arc<Daemon>, record: &InstanceRecord) -> BTreeMap<String, InstanceStateDisk> {
    if !record.is_vm() {
        return BTreeMap::new();
    }
    let Ok(pool) = daemon.pools.get(&record.pool) else {
        return BTreeMap::new();
    };
    let volume = record.volume();
    let found = blocking(move || {
        let total = pool.size(&volume).ok().flatten().unwrap_or_default();
        let usage = pool.usage(&volume).unwrap_or_default();
        Ok(InstanceStateDisk {
            usage: signed(usage),
            total: signed(total),
        })
    });
    found
        .await
        .map(|disk| [("root".to_owned(), disk)].into())
        .unwrap_or_default()
}

async fn guest_state(daemon: &Arc<Daemon>, running: &Arc<Running>) -> Option<GuestState> {
    if running.is_frozen() {
        return None;
    }
    let asked = async {
        let stream = agent::connect(daemon, running).await?;
        guest_agent::client::state(stream)
            .await
            .map_err(|error| agent::failed(&error))
    };
    tokio::time::timeout(AGENT_PATIENCE, asked).await.ok()?.ok()
}

fn interface(state: &NetworkState) -> InstanceStateNetwork {
    InstanceStateNetwork {
        addresses: state
            .addresses
            .iter()
            .map(|address| InstanceStateNetworkAddress {
                family: address.family.clone(),
                address: address.address.clone(),
                netmask: address.netmask.clone(),
                scope: address.scope.clone(),
            })
            .collect(),
        counters: InstanceStateNetworkCounters {
            bytes_received: state.counters.bytes_received,
            bytes_sent: state.counters.bytes_sent,
            packets_received: state.counters.packets_received,
            packets_sent: state.counters.packets_sent,
            errors_received: state.counters.errors_received,
            errors_sent: state.counters.errors_sent,
            packets_dropped_outbound: state.counters.packets_dropped_outbound,
            packets_dropped_inbound: state.counters.packets_dropped_inbound,
        },
        hwaddr: state.hwaddr.clone(),
        host_name: String::new(),
        mtu: state.mtu,
        state: state.state.clone(),
        kind: state.kind.clone(),
    }
}

/// Interfaces are matched with their host ends by hardware address, because the inside may have renamed them.
fn name_host_ends(record: &InstanceRecord, network: &mut BTreeMap<String, InstanceStateNetwork>) {
    for (device, host_name) in ports::noted(record) {
        let own = record
            .devices
            .get(&device)
            .and_then(|keys| keys.get("hwaddr"))
            .map(String::as_str);
        let hwaddr = own.or_else(|| record.volatile(&format!("{device}.hwaddr")));
        for interface in network.values_mut() {
            if hwaddr.is_some_and(|hwaddr| hwaddr.eq_ignore_ascii_case(&interface.hwaddr)) {
                interface.host_name.clone_from(&host_name);
            }
        }
    }
}

/// The states of many instances, asked for at the same time but not all at once.
pub async fn states(
    daemon: &Arc<Daemon>,
    records: &[InstanceRecord],
) -> Result<Vec<InstanceState>, ApiError> {
    let asked = records.iter().map(|record| async move {
        let _permit = daemon.instances.queries.acquire().await;
        state(daemon, record).await
    });
    Ok(futures::future::join_all(asked).await)
}
