//! The filters, on threads of the test.

use super::*;
use crate::exit::ExitReason;
use crate::exit_signal::ExitSignal;

#[test]
fn every_filter_is_small_and_every_thread_has_one() {
    for (name, program, _) in filters::ALL {
        assert!((20..1000).contains(&program.len()), "{name}: {}", program.len());
    }
    for kind in [ThreadKind::Control, ThreadKind::Vcpu, ThreadKind::DeviceManager] {
        assert!(!kind.filter().is_empty(), "{kind:?}");
    }
    let worker = |name| ThreadKind::DeviceWorker(name).filter().as_ptr();
    assert_eq!(worker("virtio-net-12"), worker("virtio-net"));
    assert_ne!(worker("virtio-net"), worker("virtio-block"));
    assert_eq!(worker("virtio-rng"), worker("device-worker"));
}

#[test]
fn a_filtered_thread_does_its_work_and_what_it_may_not_ends_the_vm_with_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let exit = ExitSignal::new().unwrap();
    faults::install_reporter(exit.clone(), std::fs::File::open(folder.path()).unwrap()).unwrap();
    std::thread::Builder::new()
        .name("vcpu7".into())
        .spawn(move || {
            // In the VMM this is set when privileges are dropped.
            nix::sys::prctl::set_no_new_privs().unwrap();
            Filters::On.install(ThreadKind::Vcpu).unwrap();
            let mut grown = vec![0u8; 8 << 20];
            grown[1] = 1;
            std::thread::sleep(std::time::Duration::from_millis(1));
            let _ = std::fs::File::open("/etc/passwd");
        })
        .unwrap();
    let start = std::time::Instant::now();
    while !exit.is_raised() && start.elapsed().as_secs() < 10 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let report = exit.report().expect("the refused call is reported");
    assert_eq!(report.reason, ExitReason::Error);
    assert!(
        report
            .message
            .contains(&format!("system call {} ", libc::SYS_openat)),
        "{}",
        report.message
    );
    assert!(report.message.contains("thread vcpu7"), "{}", report.message);
}
