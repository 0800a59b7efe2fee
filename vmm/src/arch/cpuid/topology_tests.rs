//! The topology that guests see.

use super::super::model::{Changes, Model};
use super::super::{HYPERVISOR, TSC_DEADLINE, Template, X2APIC};
use super::*;
use kvm_bindings::CpuId;

fn entry(function: u32, index: u32, eax: u32, ebx: u32, ecx: u32, edx: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        index,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    }
}

fn host(vendor: &[u8; 4]) -> CpuId {
    CpuId::from_entries(&[
        entry(0, 0, 0x1f, u32::from_le_bytes(*vendor), 0, 0),
        entry(1, 0, 0xabc, 0x1708_0800, 0, 0),
        entry(4, 0, 0x1c00_4121, 1, 2, 3),
        entry(4, 3, 0x1c03_c163, 1, 2, 3),
        entry(4, 4, 0, 0, 0, 0),
        entry(0xa, 0, 7, 7, 7, 7),
        entry(0x8000_0001, 0, 0, 0, 0, 0),
        entry(0x8000_001d, 0, 0x1c00_4121, 1, 2, 3),
        entry(0x8000_001d, 3, 0x1c03_c163, 1, 2, 3),
        entry(0xb, 0, 1, 2, 0x100, 5),
        entry(0xb, 1, 4, 16, 0x201, 5),
        entry(0x8000_0008, 0, 0x3030, 0, 0x4007, 0),
        entry(0x8000_001e, 0, 5, 0x105, 0x700, 0),
    ])
    .unwrap()
}

fn find(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
    *cpuid
        .as_slice()
        .iter()
        .find(|e| e.function == function && e.index == index)
        .unwrap()
}

fn for_vcpu(host: &CpuId, index: u8, topology: Topology, tsc_deadline: bool) -> CpuId {
    let template = Template::new(host, topology, tsc_deadline, Model::Host, &Changes::default());
    template.unwrap().for_vcpu(index).unwrap()
}

#[test]
fn each_vcpu_has_its_own_apic_id_in_every_leaf() {
    let cpuid = for_vcpu(&host(b"Auth"), 2, Topology::flat(3), true);
    assert_eq!(find(&cpuid, 1, 0).ebx, 0x0203_0800);
    assert_eq!(find(&cpuid, 1, 0).ecx, HYPERVISOR | X2APIC | TSC_DEADLINE);
    assert_eq!(find(&cpuid, 1, 0).edx, HTT);
    let (thread, core, end) = (find(&cpuid, 0xb, 0), find(&cpuid, 0xb, 1), find(&cpuid, 0xb, 2));
    assert_eq!((thread.eax, thread.ebx, thread.ecx, thread.edx), (0, 1, 0x100, 2));
    assert_eq!((core.eax, core.ebx, core.ecx, core.edx), (2, 3, 0x201, 2));
    assert_eq!((end.ebx, end.ecx >> 8), (0, 0));
    assert_eq!(
        (find(&cpuid, 0x8000_001e, 0).eax, find(&cpuid, 0x8000_001e, 0).ebx),
        (2, 2)
    );
    assert_eq!(find(&cpuid, 0x8000_0008, 0).ecx, 0x2002);
}

#[test]
fn caches_are_shared_within_the_package_only() {
    let cpuid = for_vcpu(&host(b"Genu"), 0, Topology::flat(4), false);
    assert_eq!(
        find(&cpuid, 4, 0).eax >> 14,
        (3 << 12),
        "level 1: one sharer, four cores"
    );
    assert_eq!(
        find(&cpuid, 4, 3).eax >> 14,
        (3 << 12) | 3,
        "level 3: four sharers"
    );
    assert_eq!(find(&cpuid, 4, 4).eax, 0);
    assert_eq!(find(&cpuid, 0x8000_0008, 0).ecx, 0x4007, "reserved on Intel");
}

#[test]
fn a_single_vcpu_has_no_hyperthreads_and_no_performance_counters() {
    let cpuid = for_vcpu(&host(b"Genu"), 0, Topology::flat(1), false);
    assert_eq!(find(&cpuid, 1, 0).edx & HTT, 0);
    assert_eq!(find(&cpuid, 1, 0).ecx & TSC_DEADLINE, 0);
    assert_eq!((find(&cpuid, 0xb, 1).eax, find(&cpuid, 0xb, 1).ebx), (0, 1));
    assert!(cpuid.as_slice().iter().all(|entry| entry.function != 0xa));
}

const TWO_OF_THREE_OF_TWO: Topology = Topology {
    sockets: 2,
    cores: 3,
    threads: 2,
};

#[test]
fn sockets_cores_and_threads_agree_in_every_leaf_of_amd() {
    // The second thread of the second core of the second socket.
    let cpuid = for_vcpu(&host(b"Auth"), 9, TWO_OF_THREE_OF_TWO, true);
    let leaf = find(&cpuid, 1, 0);
    assert_eq!((leaf.ebx >> 24, leaf.ebx >> 16 & 0xff), (11, 6));
    let (thread, core) = (find(&cpuid, 0xb, 0), find(&cpuid, 0xb, 1));
    assert_eq!((thread.eax, thread.ebx, thread.edx), (1, 2, 11));
    assert_eq!((core.eax, core.ebx, core.edx), (3, 6, 11));
    let leaf = find(&cpuid, 0x8000_001e, 0);
    assert_eq!((leaf.eax, leaf.ebx & 0xffff, leaf.ecx & 0x7ff), (11, 0x0101, 1));
    assert_eq!(find(&cpuid, 0x8000_0008, 0).ecx, 0x3005);
    assert_eq!(find(&cpuid, 0x8000_0001, 0).ecx, CMP_LEGACY);
    assert_eq!(
        find(&cpuid, 0x8000_001d, 0).eax >> 14 & 0xfff,
        1,
        "level 1: a core"
    );
    assert_eq!(
        find(&cpuid, 0x8000_001d, 3).eax >> 14 & 0xfff,
        7,
        "level 3: a socket"
    );
}

#[test]
fn sockets_cores_and_threads_agree_in_every_leaf_of_intel() {
    let cpuid = for_vcpu(&host(b"Genu"), 9, TWO_OF_THREE_OF_TWO, true);
    let leaf = find(&cpuid, 1, 0);
    assert_eq!((leaf.ebx >> 24, leaf.ebx >> 16 & 0xff), (11, 8));
    assert_eq!(find(&cpuid, 4, 0).eax >> 14, (3 << 12) | 1);
    assert_eq!(find(&cpuid, 4, 3).eax >> 14, (3 << 12) | 7);
    assert_eq!(find(&cpuid, 0x8000_0001, 0).ecx, 0, "AMD's bit");
}
