//! The single questions that `virga doctor` asks about the host.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::ForkResult;

use super::{Check, Verdict};

/// Every check, in the order a person reads them.
pub(super) fn all() -> Vec<Check> {
    vec![
        kernel(),
        virtual_machines(),
        containers(),
        cgroup(),
        id_mapped_mounts(),
        tool(
            "network",
            &["nft", "dnsmasq"],
            "managed networks cannot be made; install nftables and dnsmasq-base",
        ),
        device(
            "taps",
            "/dev/net/tun",
            Verdict::Missing,
            "virtual machines get no network card (modprobe tun)",
        ),
        tool(
            "disk images",
            &["mkfs.ext4", "resize2fs"],
            "container images cannot boot as microVMs; install e2fsprogs",
        ),
        device(
            "vhost-net",
            "/dev/vhost-net",
            Verdict::Lacking,
            "guest networks cost more CPU (modprobe vhost_net)",
        ),
        iommu(),
        security_modules(),
        io_uring(),
        copy_on_write(),
    ]
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn good(name: &'static str, found: impl Into<String>) -> Check {
    Check {
        name,
        verdict: Verdict::Good,
        found: found.into(),
        cost: "",
    }
}

fn kernel() -> Check {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 19) {
        return good("kernel", release);
    }
    Check {
        name: "kernel",
        verdict: Verdict::Lacking,
        found: release,
        cost: "older than 5.19: id-mapped mounts and Landlock are incomplete",
    }
}

fn virtual_machines() -> Check {
    use vmm::probe::KvmKind;
    let name = "virtual machines";
    match vmm::probe::probe() {
        KvmKind::Hardware { .. } => good(name, "hardware KVM"),
        KvmKind::Software { reason } => Check {
            name,
            verdict: Verdict::Missing,
            found: format!("software KVM: {reason}"),
            cost: "ordinary guests cannot run on it; containers can",
        },
        KvmKind::None { reason } => Check {
            name,
            verdict: Verdict::Missing,
            found: format!("no KVM: {reason}"),
            cost: "only containers run here; on hardware, enable virtualisation in the firmware and load kvm_intel or kvm_amd",
        },
    }
}

fn containers() -> Check {
    let flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET;
    // SAFETY: the child calls only unshare and _exit, both async-signal-safe, on its own copy of the process.
    let works = match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Child) => {
            let status = i32::from(nix::sched::unshare(flags).is_err());
            // SAFETY: _exit does not return and runs no destructors.
            unsafe { libc::_exit(status) }
        }
        Ok(ForkResult::Parent { child }) => matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0))),
        Err(_) => false,
    };
    if works {
        return good("containers", "user, mount, pid and network namespaces");
    }
    Check {
        name: "containers",
        verdict: Verdict::Missing,
        found: "no user namespaces".into(),
        cost: "unprivileged containers cannot run (see /proc/sys/user/max_user_namespaces and your distribution's switch)",
    }
}

fn cgroup() -> Check {
    const WANTED: [&str; 4] = ["cpu", "io", "memory", "pids"];
    if let Some(controllers) = read("/sys/fs/cgroup/cgroup.controllers") {
        let lacking: Vec<_> = WANTED
            .iter()
            .filter(|wanted| !controllers.split(' ').any(|c| c == **wanted))
            .copied()
            .collect();
        if lacking.is_empty() {
            return good("cgroup", "version 2");
        }
        return Check {
            name: "cgroup",
            verdict: Verdict::Lacking,
            found: format!("version 2 without {}", lacking.join(", ")),
            cost: "limits of these kinds are not kept",
        };
    }
    if Path::new("/sys/fs/cgroup/memory").exists() {
        return Check {
            name: "cgroup",
            verdict: Verdict::Lacking,
            found: "version 1".into(),
            cost: "limits work; I/O weights, pressure figures and delegation to systemd in containers do not",
        };
    }
    Check {
        name: "cgroup",
        verdict: Verdict::Missing,
        found: "none mounted".into(),
        cost: "no limit is kept",
    }
}

fn id_mapped_mounts() -> Check {
    // Known by mount_setattr(2) being there: an empty call on a bad descriptor says EBADF, not ENOSYS.
    // SAFETY: mount_setattr with size 0 reads nothing through the null pointer: the size is checked first.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            -1,
            c"".as_ptr(),
            0,
            std::ptr::null::<libc::c_void>(),
            0_usize,
        )
    };
    let errno = nix::errno::Errno::last_raw();
    if result == 0 || errno != libc::ENOSYS {
        return good("id-mapped mounts", "in the kernel");
    }
    Check {
        name: "id-mapped mounts",
        verdict: Verdict::Missing,
        found: "not in this kernel".into(),
        cost: "root file systems cannot be shared between id ranges: only privileged containers run",
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| file.exists())
}

fn tool(name: &'static str, programs: &[&str], cost: &'static str) -> Check {
    let (there, missing): (Vec<&str>, Vec<&str>) =
        programs.iter().partition(|program| find(program).is_some());
    if missing.is_empty() {
        return good(name, there.join(", "));
    }
    Check {
        name,
        verdict: Verdict::Missing,
        found: format!("no {}", missing.join(", ")),
        cost,
    }
}

fn device(name: &'static str, path: &str, verdict: Verdict, cost: &'static str) -> Check {
    match CString::new(path) {
        Ok(_) if Path::new(path).exists() => good(name, path),
        _ => Check {
            name,
            verdict,
            found: format!("no {path}"),
            cost,
        },
    }
}

fn iommu() -> Check {
    let groups = fs::read_dir("/sys/kernel/iommu_groups").map_or(0, Iterator::count);
    if groups > 0 {
        return good("IOMMU", format!("{groups} groups"));
    }
    Check {
        name: "IOMMU",
        verdict: Verdict::Lacking,
        found: "no groups".into(),
        cost: "no device can be passed through; enable it in the firmware and boot with intel_iommu=on where needed",
    }
}

fn security_modules() -> Check {
    let active = read("/sys/kernel/security/lsm").unwrap_or_default();
    let has = |wanted: &str| active.split(',').any(|module| module == wanted);
    // SAFETY: landlock_create_ruleset with a null attribute, size 0 and the version flag reads no memory.
    let landlock = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            1_u32,
        )
    };
    let mut found = Vec::new();
    if landlock > 0 {
        found.push(format!("Landlock ABI {landlock}"));
    }
    if has("apparmor") {
        found.push("AppArmor".to_owned());
        return good("confinement", found.join(", "));
    }
    found.push("no AppArmor".to_owned());
    Check {
        name: "confinement",
        verdict: Verdict::Lacking,
        found: found.join(", "),
        cost: "containers are held by namespaces, capabilities and seccomp only",
    }
}

fn io_uring() -> Check {
    let disabled = read("/proc/sys/kernel/io_uring_disabled").unwrap_or_else(|| "0".into());
    // SAFETY: io_uring_setup with 0 entries and a null pointer fails before it reads anything.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 0_u32, std::ptr::null::<u8>()) };
    let there = result >= 0 || nix::errno::Errno::last_raw() != libc::ENOSYS;
    if there && disabled != "2" {
        return good("io_uring", "allowed");
    }
    Check {
        name: "io_uring",
        verdict: Verdict::Lacking,
        found: "forbidden".into(),
        cost: "disks of virtual machines use a slower path",
    }
}

fn copy_on_write() -> Check {
    let folder = if Path::new("/var/lib/virga").exists() {
        "/var/lib/virga"
    } else {
        "/var/lib"
    };
    let kind = nix::sys::statfs::statfs(folder).map(|stat| stat.filesystem_type());
    let name = "copy-on-write";
    match kind {
        Ok(nix::sys::statfs::BTRFS_SUPER_MAGIC) => good(name, format!("{folder} is btrfs")),
        Ok(nix::sys::statfs::XFS_SUPER_MAGIC) => good(name, format!("{folder} is XFS, which clones files")),
        _ => Check {
            name,
            verdict: Verdict::Lacking,
            found: format!("{folder} is neither btrfs nor XFS"),
            cost: "instances and snapshots are full copies; put a pool on btrfs to make them instant",
        },
    }
}
