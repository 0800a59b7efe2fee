//! Which system calls each kind of thread may make. Everything else ends the VM with a report.
//!
//! New memory is never executable, descriptors are never opened by threads that see guest input, and no thread can
//! start a program.

/// One permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// The call, whatever its arguments.
    Call(i64),
    /// The call, if the low 32 bits of an argument have this value.
    Argument {
        /// Number of the system call.
        call: i64,
        /// Index of the argument, from 0.
        argument: u8,
        /// Its value.
        is: u32,
    },
    /// The call, if an argument has none of these bits.
    WithoutBits {
        /// Number of the system call.
        call: i64,
        /// Index of the argument, from 0.
        argument: u8,
        /// What must not be set.
        bits: u32,
    },
}

use Allowed::Call;

const fn ioctl(request: u32) -> Allowed {
    Allowed::Argument {
        call: libc::SYS_ioctl,
        argument: 1,
        is: request,
    }
}

const fn not_executable(call: i64) -> Allowed {
    Allowed::WithoutBits {
        call,
        argument: 2,
        bits: libc::PROT_EXEC as u32,
    }
}

// KVM's requests (linux/kvm.h).
const KVM_RUN: u32 = 0xae80;
const KVM_GET_REGS: u32 = 0x8090_ae81;
const KVM_GET_SREGS: u32 = 0x8138_ae83;
const KVM_TRANSLATE: u32 = 0xc018_ae85;
const KVM_KVMCLOCK_CTRL: u32 = 0xaead;
const KVM_SET_GSI_ROUTING: u32 = 0x4008_ae6a;
const KVM_IRQFD: u32 = 0x4020_ae76;
const KVM_IOEVENTFD: u32 = 0x4040_ae79;
// Taps' requests (linux/if_tun.h): offloads and queues as the driver negotiates them, and the link's state.
const TUNSETOFFLOAD: u32 = 0x4004_54d0;
const TUNSETVNETHDRSZ: u32 = 0x4004_54d8;
const TUNSETVNETLE: u32 = 0x4004_54dc;
const TUNSETQUEUE: u32 = 0x4004_54d9;
const TUNSETCARRIER: u32 = 0x4004_54e2;
const TUNGETIFF: u32 = 0x8004_54d2;
// Block devices' requests (linux/fs.h): discard and write zeroes.
const BLKDISCARD: u32 = 0x1277;
const BLKZEROOUT: u32 = 0x127f;
const BLKGETSIZE64: u32 = 0x8008_1272;
// Sockets' non-blocking mode.
const FIONBIO: u32 = 0x5421;

/// What the language runtime, the allocator and threads themselves need.
pub const EVERY_THREAD: &[Allowed] = &[
    Call(libc::SYS_read),
    Call(libc::SYS_write),
    Call(libc::SYS_writev),
    Call(libc::SYS_close),
    Call(libc::SYS_futex),
    Call(libc::SYS_brk),
    not_executable(libc::SYS_mmap),
    not_executable(libc::SYS_mprotect),
    Call(libc::SYS_mremap),
    Call(libc::SYS_munmap),
    Call(libc::SYS_madvise),
    Call(libc::SYS_sigaltstack),
    Call(libc::SYS_rt_sigprocmask),
    Call(libc::SYS_rt_sigreturn),
    Call(libc::SYS_restart_syscall),
    Call(libc::SYS_clock_gettime),
    Call(libc::SYS_clock_nanosleep),
    Call(libc::SYS_nanosleep),
    Call(libc::SYS_sched_yield),
    Call(libc::SYS_sched_getaffinity),
    Call(libc::SYS_getrandom),
    Call(libc::SYS_gettid),
    Call(libc::SYS_getpid),
    Call(libc::SYS_exit),
    Call(libc::SYS_exit_group),
    // An allocation failure or a double panic aborts.
    Call(libc::SYS_tgkill),
];

/// The main thread: serves the control socket and consoles, kicks vCPUs, writes `exit.json`.
pub const CONTROL: &[Allowed] = &[
    Call(libc::SYS_epoll_create1),
    Call(libc::SYS_epoll_ctl),
    Call(libc::SYS_epoll_wait),
    Call(libc::SYS_epoll_pwait),
    Call(libc::SYS_accept4),
    Call(libc::SYS_recvfrom),
    // Requests may bring descriptors.
    Call(libc::SYS_recvmsg),
    Call(libc::SYS_sendto),
    Call(libc::SYS_shutdown),
    Call(libc::SYS_eventfd2),
    ioctl(FIONBIO),
    ioctl(KVM_IRQFD),
    ioctl(KVM_IOEVENTFD),
    ioctl(KVM_SET_GSI_ROUTING),
    // exit.json, the console's log and /proc/self for metrics.
    Call(libc::SYS_openat),
    Call(libc::SYS_renameat),
    Call(libc::SYS_renameat2),
    Call(libc::SYS_unlinkat),
    Call(libc::SYS_unlink),
    Call(libc::SYS_fsync),
    Call(libc::SYS_ftruncate),
    Call(libc::SYS_lseek),
    Call(libc::SYS_fstat),
    Call(libc::SYS_newfstatat),
    Call(libc::SYS_statx),
    Call(libc::SYS_fcntl),
    Call(libc::SYS_pread64),
    Call(libc::SYS_pwrite64),
];

/// vCPUs: run the guest, route its interrupts, and read registers for a report.
pub const VCPU: &[Allowed] = &[
    ioctl(KVM_RUN),
    ioctl(KVM_GET_REGS),
    ioctl(KVM_GET_SREGS),
    ioctl(KVM_TRANSLATE),
    ioctl(KVM_KVMCLOCK_CTRL),
    ioctl(KVM_SET_GSI_ROUTING),
    ioctl(KVM_IRQFD),
    ioctl(KVM_IOEVENTFD),
    // A queue that the driver sets up gets a descriptor for its notifications.
    Call(libc::SYS_eventfd2),
    Allowed::Argument {
        call: libc::SYS_fcntl,
        argument: 1,
        is: libc::F_DUPFD_CLOEXEC as u32,
    },
    // A queue that cannot be takes its descriptor with it; with debug assertions that is looked at before it is closed.
    Allowed::Argument {
        call: libc::SYS_fcntl,
        argument: 1,
        is: libc::F_GETFD as u32,
    },
];

/// Device workers: disks, taps, sockets and random numbers.
pub const DEVICE_WORKER: &[Allowed] = &[
    Call(libc::SYS_epoll_ctl),
    Call(libc::SYS_epoll_wait),
    Call(libc::SYS_epoll_pwait),
    Call(libc::SYS_eventfd2),
    Call(libc::SYS_readv),
    Call(libc::SYS_preadv),
    Call(libc::SYS_preadv2),
    Call(libc::SYS_pwritev),
    Call(libc::SYS_pwritev2),
    Call(libc::SYS_pread64),
    Call(libc::SYS_pwrite64),
    Call(libc::SYS_fdatasync),
    Call(libc::SYS_fsync),
    Call(libc::SYS_fallocate),
    Call(libc::SYS_lseek),
    Call(libc::SYS_fstat),
    Call(libc::SYS_statx),
    Call(libc::SYS_io_uring_enter),
    ioctl(BLKDISCARD),
    ioctl(BLKZEROOUT),
    ioctl(TUNSETOFFLOAD),
    ioctl(TUNSETVNETHDRSZ),
    ioctl(TUNSETVNETLE),
    ioctl(TUNSETQUEUE),
    ioctl(TUNSETCARRIER),
    ioctl(TUNGETIFF),
    // Sockets of the vsock device: local ones only.
    Allowed::Argument {
        call: libc::SYS_socket,
        argument: 0,
        is: libc::AF_UNIX as u32,
    },
    Call(libc::SYS_connect),
    Call(libc::SYS_accept4),
    Call(libc::SYS_recvfrom),
    Call(libc::SYS_recvmsg),
    Call(libc::SYS_sendto),
    Call(libc::SYS_sendmsg),
    Call(libc::SYS_shutdown),
    Call(libc::SYS_getsockopt),
    Call(libc::SYS_fcntl),
    ioctl(FIONBIO),
    // Rate limits.
    Call(libc::SYS_timerfd_create),
    Call(libc::SYS_timerfd_settime),
];

/// The thread that starts and stops workers, and makes devices that come while the guest runs of descriptors that it is
/// given.
pub const DEVICE_MANAGER: &[Allowed] = &[
    Call(libc::SYS_flock),
    Call(libc::SYS_io_uring_setup),
    Call(libc::SYS_io_uring_register),
    ioctl(BLKGETSIZE64),
    Call(libc::SYS_clone),
    Call(libc::SYS_clone3),
    Call(libc::SYS_rseq),
    Call(libc::SYS_set_robust_list),
    Call(libc::SYS_epoll_create1),
    // The new thread's name, and its own filter.
    Call(libc::SYS_prctl),
    Call(libc::SYS_seccomp),
    ioctl(KVM_IRQFD),
    ioctl(KVM_IOEVENTFD),
    ioctl(KVM_SET_GSI_ROUTING),
];
