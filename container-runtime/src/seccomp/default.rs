//! The default filter of system containers: what reaches past namespaces is refused, the rest is the kernel's to decide.
//!
//! The list follows what system container managers refuse, so that images which run there run here.

use super::{Comparison, Filter, Operator, Program, Rule};

/// Refused with EPERM, as the kernel would refuse a user without privilege.
const FORBIDDEN: &[&str] = &[
    // Another kernel, more kernel.
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    // Opens any file of a mounted file system by its number, past every directory that hides it.
    "open_by_handle_at",
    // The host's swap, accounting, quotas, clocks and I/O ports.
    "swapon",
    "swapoff",
    "acct",
    "quotactl",
    "quotactl_fd",
    "settimeofday",
    "stime",
    "clock_settime",
    "clock_settime64",
    "iopl",
    "ioperm",
    // Large attack surface that no init system needs.
    "perf_event_open",
    "userfaultfd",
    "lookup_dcookie",
    "uselib",
    "_sysctl",
    "nfsservctl",
    "vm86",
    "vm86old",
];

/// Refused with ENOSYS unless containers may be nested: programs fall back as on a kernel built without them. Key rings of a
/// container without a user namespace would be the host's.
const ONLY_NESTED: &[&str] = &["keyctl", "add_key", "request_key", "bpf"];

/// `MNT_FORCE` of umount2(2): aborts the requests of whoever uses the file system, also outside.
const MNT_FORCE: u64 = 1;
/// `AF_VSOCK` is not namespaced: it leads to the hypervisor and to the host's virtual machines.
const AF_VSOCK: u64 = 40;

/// The filter.
pub(crate) fn filter(nesting: bool) -> Filter {
    let refuse = |errno: i32| libc::SECCOMP_RET_ERRNO | errno as u32;
    let rule = |name: &str, errno| Rule {
        name: name.to_owned(),
        conditions: Vec::new(),
        action: refuse(errno),
    };
    let mut rules: Vec<Rule> = FORBIDDEN.iter().map(|name| rule(name, libc::EPERM)).collect();
    if !nesting {
        rules.extend(ONLY_NESTED.iter().map(|name| rule(name, libc::ENOSYS)));
    }
    rules.push(Rule {
        name: "umount2".to_owned(),
        conditions: vec![Comparison {
            argument: 1,
            operator: Operator::Masked(MNT_FORCE),
            value: MNT_FORCE,
        }],
        action: refuse(libc::EACCES),
    });
    rules.push(Rule {
        name: "socket".to_owned(),
        // The kernel takes the family as an int: the upper half of the register does not count.
        conditions: vec![Comparison {
            argument: 0,
            operator: Operator::Masked(0xffff_ffff),
            value: AF_VSOCK,
        }],
        action: refuse(libc::EAFNOSUPPORT),
    });
    Filter {
        rules,
        default: libc::SECCOMP_RET_ALLOW,
        foreign: libc::SECCOMP_RET_KILL_PROCESS,
        compat: true,
    }
}

/// The compiled filter.
pub(crate) fn program(nesting: bool) -> Program {
    filter(nesting).compile().unwrap_or_default()
}
