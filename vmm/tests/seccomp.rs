//! System call filters are not too wide: what is not in a thread's table is refused. That they are not too narrow is
//! shown by all tests that run VMs, which have their filters on.
//!
//! Each filter is installed on a thread of this process, which then tries everything. A refused call is turned into an
//! error by the handler of SIGSYS here, which stands in for the VMM's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::atomic::{AtomicI64, Ordering};

use vmm::sandbox::filters;
use vmm::sandbox::seccomp::{Filters, ThreadKind};
use vmm_sys_util::signal::register_signal_handler;

/// Beyond the last system call that any kernel knows.
const CALLS: i64 = 700;
/// clone3(2) is answered instead of refused: callers then use clone(2).
const CLONE3: i64 = 435;
/// uretprobe and uprobe, which no filter ever sees: the kernel kills those who call them from where it did not put them.
const PROBES: [i64; 2] = [335, 336];

thread_local! {
    static REFUSED: AtomicI64 = const { AtomicI64::new(-1) };
}

extern "C" fn refused(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a filled siginfo_t, in which `si_syscall` follows three ints, padding and a pointer.
    let number = unsafe { info.cast::<i32>().add(6).read() };
    REFUSED.with(|cell| cell.store(i64::from(number), Ordering::SeqCst));
}

/// Whether the filter refuses a call. It must be one that does no harm if it is not refused.
fn is_refused(call: i64, arguments: [u64; 3]) -> bool {
    REFUSED.with(|cell| cell.store(-1, Ordering::SeqCst));
    let [first, second, third] = arguments;
    // SAFETY: the filter refuses the call, or it fails: its pointers are null and its descriptors are not open.
    unsafe { libc::syscall(call, first, second, third, 0, 0, 0) };
    REFUSED.with(|cell| cell.load(Ordering::SeqCst)) == call
}

/// Runs `test` on a thread with this filter.
fn filtered<T: Send + 'static>(name: &'static str, test: impl FnOnce() -> T + Send + 'static) -> T {
    register_signal_handler(libc::SIGSYS, refused).unwrap();
    let thread = std::thread::spawn(move || {
        nix::sys::prctl::set_no_new_privs().unwrap();
        let kind = match name {
            "control" => ThreadKind::Control,
            "vcpu" => ThreadKind::Vcpu,
            "debugger" => ThreadKind::Debugger,
            "device-manager" => ThreadKind::DeviceManager,
            "back-end" => ThreadKind::BackEnd,
            worker => ThreadKind::DeviceWorker(worker),
        };
        Filters::On.install(kind).unwrap();
        test()
    });
    thread.join().unwrap()
}

#[test]
fn calls_that_are_in_no_table_are_refused_on_every_kind_of_thread() {
    for (name, _, allowed) in filters::ALL {
        let passed: Vec<i64> = filtered(name, || {
            (0..CALLS)
                .filter(|call| !allowed.contains(call) && *call != CLONE3 && !PROBES.contains(call))
                .filter(|call| !is_refused(*call, [u64::MAX, 0, 0]))
                .collect()
        });
        assert!(passed.is_empty(), "{name} lets these calls pass: {passed:?}");
    }
}

#[test]
fn no_table_lists_what_nobody_may_do() {
    let never = [
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_clone3,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_kill,
        libc::SYS_setuid,
        libc::SYS_setresuid,
        libc::SYS_capset,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_open,
        libc::SYS_open_by_handle_at,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_keyctl,
        libc::SYS_init_module,
        libc::SYS_kexec_load,
        libc::SYS_bind,
        libc::SYS_listen,
    ];
    for (name, _, allowed) in filters::ALL {
        let listed: Vec<_> = never.iter().filter(|call| allowed.contains(call)).collect();
        assert!(listed.is_empty(), "{name} allows {listed:?}");
        let opens = allowed.contains(&libc::SYS_openat);
        let rings = allowed.contains(&libc::SYS_io_uring_setup);
        assert!(!rings || *name == "device-manager", "{name} can make rings");
        assert!(!opens || *name == "control", "{name} can open files");
        let dials = allowed.contains(&libc::SYS_connect);
        let may = ["virtio-vsock", "virtio-vhost-user", "device-manager"];
        assert!(!dials || may.contains(name), "{name} can connect");
        let unshares = allowed.contains(&libc::SYS_unshare);
        let may = ["virtio-vhost-user", "device-manager"];
        assert!(!unshares || may.contains(name), "{name} can have namespaces");
    }
}

#[test]
fn arguments_are_looked_at() {
    const NOT_OPEN: u64 = 999_999;
    const SIOCGIFCONF: u64 = 0x8912;
    const KVM_RUN: u64 = 0xae80;
    const TUNSETOFFLOAD: u64 = 0x4004_54d0;
    for (name, _, _) in filters::ALL {
        filtered(name, || {
            assert!(
                is_refused(libc::SYS_ioctl, [NOT_OPEN, SIOCGIFCONF, 0]),
                "a request of no device"
            );
            assert!(
                is_refused(libc::SYS_mmap, [0, 0, libc::PROT_EXEC as u64]),
                "executable memory"
            );
            assert!(
                is_refused(libc::SYS_mprotect, [0, 0, libc::PROT_EXEC as u64]),
                "executable memory"
            );
            let signal = [u64::MAX, u64::MAX, libc::SIGKILL as u64];
            assert!(
                is_refused(libc::SYS_tgkill, signal),
                "a signal to another process"
            );
            assert!(
                is_refused(libc::SYS_socket, [libc::AF_INET as u64, 1, 0]),
                "a socket that reaches other hosts"
            );
            assert!(
                is_refused(libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0]),
                "a new namespace"
            );
            assert!(
                is_refused(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0]),
                "a new process"
            );
        });
    }
    let refuses = |name, request| filtered(name, move || is_refused(libc::SYS_ioctl, [NOT_OPEN, request, 0]));
    assert!(!refuses("vcpu", KVM_RUN) && refuses("virtio-net", KVM_RUN) && refuses("control", KVM_RUN));
    assert!(!refuses("virtio-net", TUNSETOFFLOAD) && refuses("virtio-block", TUNSETOFFLOAD));
}

#[test]
fn callers_of_clone3_are_sent_to_clone() {
    for (name, _, _) in filters::ALL {
        let error = filtered(name, || {
            // SAFETY: without arguments the call fails whoever answers it.
            unsafe { libc::syscall(libc::SYS_clone3, 0, 0) };
            std::io::Error::last_os_error().raw_os_error()
        });
        assert_eq!(error, Some(libc::ENOSYS), "{name}");
    }
}
