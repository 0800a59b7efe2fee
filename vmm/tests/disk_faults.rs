//! Disks whose host storage misbehaves: it is full, at a limit, cut short, or hangs. The guest gets errors, the VM lives on,
//! and nobody waits for a disk that is of no concern to them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::disk_driver::{
    AVAILABLE, DATA, DESCRIPTORS, FLUSH, STATUS, USED, WRITE_OUT, disk, read_request, request,
};
use common::payload::{LOAD_ADDRESS, Payload};
use common::pci_driver::{FIRST, PciDevice};
use common::vm::{Spec, Vm, eventually, has_kvm};
use common::volume::Volume;
use serde_json::{Value, json};
use vmm::client::{Client, ClientError};
use vmm::exit::{ExitReason, ExitReport};

const SECOND: PciDevice = PciDevice::new(2, 1);
/// Far from the start of a disk: nothing is there yet.
const FAR: u64 = 8192;

const ENGINES: [&str; 2] = ["auto", "threads"];

fn qemu_img(arguments: &[&str], path: &Path) {
    let output = Command::new("qemu-img")
        .args(arguments)
        .arg(path)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}

/// Has the first disk do its n-th request, and prints the status as it is.
fn step(payload: Payload, kind: u64, sector: u64, nth: u16) -> Payload {
    request(payload, kind, sector, nth)
        .store16(FIRST.notify(), 0)
        .wait16(USED + 2, nth)
        .print_memory(STATUS, 1)
}

/// A guest that writes and flushes, writes where nothing is when it is told to, and again, flushes and powers off.
fn writer() -> Payload {
    let payload = FIRST.set_up(Payload::new()).store_text(DATA, "kept");
    let payload = step(payload, WRITE_OUT, 0, 1);
    let payload = step(payload, FLUSH, 0, 2).print("flushed").wait_for_input();
    let payload = payload.store_text(DATA, "late");
    let payload = step(payload, WRITE_OUT, FAR, 3).print("tried").wait_for_input();
    let payload = step(payload, WRITE_OUT, FAR, 4);
    step(payload, FLUSH, 0, 5).power_off()
}

/// Takes all that is left of a volume.
fn fill(volume: &Volume) -> PathBuf {
    let path = volume.path().join("filler");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let _ = file.sync_all();
    while file.write_all(&[1; 1024]).is_ok() {}
    path
}

#[test]
fn a_full_host_is_an_error_for_the_guest_until_there_is_room_again() {
    if !has_kvm() {
        return;
    }
    for (format, engine) in [
        ("raw", "auto"),
        ("raw", "threads"),
        ("qcow2", "auto"),
        ("qcow2", "threads"),
    ] {
        let Some(volume) = Volume::new(12) else { return };
        let path = volume.path().join("disk");
        match format {
            "raw" => File::create(&path).unwrap().set_len(64 << 20).unwrap(),
            _ => qemu_img(&["create", "-q", "-f", "qcow2", "-o", "size=64M"], &path),
        }
        let disk = json!({"id": "d", "path": path, "format": format, "engine": engine});
        let mut vm = Spec::new(&writer()).set("disks", json!([disk])).start();
        let mut console = vm.console();
        vm.wait_for("flushed");
        let filler = fill(&volume);
        console.write_all(b"x").unwrap();
        vm.wait_for("tried");
        fs::remove_file(filler).unwrap();
        console.write_all(b"x").unwrap();
        let ended = vm.end();
        assert_eq!(
            ended.console, "\0\0flushed\u{1}tried\0\0",
            "{format}, {engine}: {}",
            ended.stderr
        );
        if format == "qcow2" {
            qemu_img(&["check"], &path);
            let raw = volume.path().join("raw");
            let converted = ["convert", "-O", "raw", path.to_str().unwrap()];
            qemu_img(&converted, &raw);
            fs::rename(raw, &path).unwrap();
        }
        let file = File::open(&path).unwrap();
        for (sector, text) in [(0, b"kept"), (FAR, b"late")] {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, sector * 512).unwrap();
            assert_eq!(&bytes, text, "{format}, {engine}");
        }
    }
}

#[test]
fn a_file_at_its_size_limit_is_an_error_for_the_guest_and_not_the_end_of_the_vm() {
    if !has_kvm() {
        return;
    }
    for engine in ENGINES {
        let payload = step(FIRST.set_up(Payload::new()), WRITE_OUT, 0, 1);
        let spec = Spec::new(&step(payload, WRITE_OUT, FAR, 2).print("alive").power_off());
        let path = spec.folder.path().join("disk");
        File::create(&path).unwrap().set_len(64 << 20).unwrap();
        let ended = spec
            .set("disks", json!([{"id": "d", "path": path, "engine": engine}]))
            .set("sandbox", json!({"rlimits": {"fsize": 1 << 20}}))
            .run_to_end();
        assert_eq!(ended.console, "\0\u{1}alive", "{engine}: {}", ended.stderr);
        assert_eq!(ended.report.unwrap().reason, ExitReason::Poweroff);
    }
}

/// A guest whose kernel's file is longer than its code, so that the rest of it is memory that the guest can use.
fn with_tail(payload: Payload) -> (Spec, PathBuf) {
    let spec = Spec::new(&payload.raw(&[0; 2 << 20]));
    let kernel = spec.folder.path().join("kernel");
    (spec, kernel)
}

/// In that memory, and in no page that anybody has touched.
const TAIL: u64 = LOAD_ADDRESS + (1 << 20);

fn cut_short(vm: &Vm, kernel: &Path) {
    File::options()
        .write(true)
        .open(kernel)
        .unwrap()
        .set_len(8192)
        .unwrap();
    let mut console = std::os::unix::net::UnixStream::connect(vm.run_dir().join("console.sock")).unwrap();
    console.write_all(b"x").unwrap();
}

#[test]
fn memory_whose_file_was_cut_short_ends_the_vm_with_a_report_that_says_so() {
    if !has_kvm() {
        return;
    }
    // Touched by the guest, and by the device: its descriptor names a header there.
    let guest = Payload::new().print("up").wait_for_input().store8(TAIL, 1);
    let prepared = read_request(Payload::new(), 0).store64(DESCRIPTORS, TAIL);
    let device = FIRST.set_up(emptied(prepared)).print("up").wait_for_input();
    let device = device.store16(AVAILABLE + 2, 1).store16(FIRST.notify(), 0);
    for payload in [guest, device] {
        let (spec, kernel) = with_tail(payload.print("went on").forever());
        let path = spec.file("disk", &disk("text"));
        let mut vm = spec.set("disks", json!([{"id": "d", "path": path}])).start();
        vm.wait_for("up");
        cut_short(&vm, &kernel);
        let ended = vm.end();
        let report = ended.report.unwrap();
        assert_eq!(report.reason, ExitReason::Error);
        assert!(report.message.contains("was cut short"), "{}", report.message);
    }
}

/// A VM with a disk on a volume. The volume goes first: a process cannot end while the kernel holds it there.
struct Stage {
    volume: Volume,
    vm: Vm,
    disk: PathBuf,
}

/// A guest with two disks, on the first of which it is about to hang.
fn stage(payload: Payload, engine: &str) -> Option<Stage> {
    let volume = Volume::new(12)?;
    let path = volume.path().join("disk");
    let contents = vec![7; 1 << 20];
    fs::write(&path, contents).unwrap();
    let spec = Spec::new(&payload);
    let other = spec.file("other", &disk("the other disk works"));
    let mut vm = spec
        .set(
            "disks",
            json!([{"id": "d", "path": path, "engine": engine}, {"id": "other", "path": other}]),
        )
        .start();
    vm.wait_for("up");
    Some(Stage {
        volume,
        vm,
        disk: path,
    })
}

impl Stage {
    /// Freezes the volume, and has the guest write to it.
    fn hang(&mut self) -> Client {
        let client = self.vm.client();
        self.volume.freeze();
        self.vm.console().write_all(b"x").unwrap();
        self.vm.wait_for("written");
        // What the kernel has not begun yet could still be cancelled.
        let tasks = format!("/proc/{}/task", self.vm.process.id());
        eventually("a thread that hangs", || {
            let mut tasks = fs::read_dir(&tasks).unwrap().flatten();
            let hangs = |task: fs::DirEntry| {
                let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.contains(") D ")
            };
            tasks.any(hangs).then_some(())
        });
        client
    }
}

/// Writes to the first disk when it is told to, and does not wait for that.
fn hanging() -> Payload {
    let payload = FIRST.set_up(Payload::new()).print("up").wait_for_input();
    // The flush that follows the write is what a guest waits for.
    request(payload, WRITE_OUT, 0, 1)
        .store16(FIRST.notify(), 0)
        .print("written")
}

/// Takes what another device was asked out of the queue, lest the next one that gets it does that.
fn emptied(payload: Payload) -> Payload {
    payload.store16(AVAILABLE + 2, 0).store16(USED + 2, 0)
}

/// Whether nobody else holds the file: disks are locked while a VM has them.
fn is_free(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).is_ok()
}

#[test]
fn a_guest_that_resets_a_disk_that_hangs_goes_on_and_sees_when_the_reset_is_done() {
    if !has_kvm() {
        return;
    }
    let text = "the other disk works";
    for engine in ENGINES {
        let payload = hanging()
            .wait_for_input()
            .store8(FIRST.bar + 20, 0)
            .print("asked")
            .print_memory(FIRST.bar + 20, 1);
        // In the same memory: whoever was reset leaves it alone.
        let payload = read_request(SECOND.set_up(emptied(payload)), 2)
            .store16(SECOND.notify(), 0)
            .wait16(USED + 2, 1)
            .print_memory(DATA, text.len() as u32)
            .wait16(FIRST.bar + 20, 0)
            .print("done");
        let payload = read_request(FIRST.set_up(emptied(payload.store8(SECOND.bar + 20, 0))), 2)
            .store16(FIRST.notify(), 0)
            .wait16(USED + 2, 1)
            .print_memory(STATUS, 1)
            .power_off();
        let Some(mut stage) = stage(payload, engine) else {
            return;
        };
        let client = stage.hang();
        stage.vm.console().write_all(b"x").unwrap();
        stage.vm.wait_for(text);
        assert!(client.metrics().unwrap().devices.contains_key("d"));
        let limits = json!({"limits": {"operations_per_second": 100}});
        client.update_device("other", &limits).unwrap();
        assert!(!stage.vm.log().contains("done"));
        stage.volume.thaw();
        stage.vm.wait_for("done");
        let Stage { volume, vm, .. } = stage;
        let ended = vm.end();
        let expected = format!("upwrittenasked\u{f}{text}done\0");
        assert_eq!(ended.console, expected, "{engine}: {}", ended.stderr);
        drop(volume);
    }
}

#[test]
fn a_disk_that_hangs_can_be_pulled_out_while_all_others_live() {
    if !has_kvm() {
        return;
    }
    for engine in ENGINES {
        let payload = hanging().wait_for_input().print("alive").forever();
        let Some(mut stage) = stage(payload, engine) else {
            return;
        };
        let client = stage.hang();
        // It cannot be paused, says so, and goes on.
        let refused: Result<Value, _> = client.call("PUT", "/pause", None, &[]);
        match refused {
            Err(ClientError::Refused { message, .. }) => assert!(message.contains("try again"), "{message}"),
            other => panic!("{other:?}"),
        }
        client.call("DELETE", "/devices/d?force=true", None, &[]).unwrap();
        assert!(client.devices().unwrap().iter().all(|device| device.id != "d"));
        assert!(!is_free(&stage.disk), "the kernel still has a request");
        stage.vm.console().write_all(b"x").unwrap();
        stage.vm.wait_for("alive");
        stage.volume.thaw();
        eventually("the end of the disk", || is_free(&stage.disk).then_some(()));
        client.stop().unwrap();
        let Stage { volume, vm, .. } = stage;
        vm.end();
        drop(volume);
    }
}

#[test]
fn a_vm_whose_disk_hangs_can_be_stopped() {
    if !has_kvm() {
        return;
    }
    for engine in ENGINES {
        let Some(mut stage) = stage(hanging().forever(), engine) else {
            return;
        };
        let client = stage.hang();
        client.stop().unwrap();
        let run_dir = stage.vm.run_dir();
        let report = eventually("the report", || ExitReport::read(&run_dir).unwrap());
        assert_eq!(report.reason, ExitReason::Killed);
        // The kernel lets go of the process with the last request.
        stage.volume.thaw();
        let Stage { volume, vm, .. } = stage;
        vm.end();
        drop(volume);
    }
}

#[test]
fn a_disk_that_hangs_while_it_grows_holds_up_nobody_else() {
    if !has_kvm() {
        return;
    }
    let payload = FIRST.set_up(Payload::new()).print("up").wait_for_input();
    let payload = read_request(payload, 0)
        .store16(FIRST.notify(), 0)
        .wait16(USED + 2, 1)
        .print_memory(STATUS, 1)
        .power_off();
    let Some(mut stage) = stage(payload, "auto") else {
        return;
    };
    let client = stage.vm.client();
    let refusal = |result: Result<Value, ClientError>| match result {
        Err(ClientError::Refused { status, message, .. }) => (status, message),
        other => panic!("{other:?}"),
    };
    client.pause().unwrap();
    stage.volume.freeze();
    let larger = json!({"size_bytes": 2 << 20});
    let (status, message) = refusal(client.update_device("d", &larger));
    assert!(
        status == 503 && message.contains("try again"),
        "{status}: {message}"
    );
    let limits = json!({"limits": {"operations_per_second": 100}});
    client.update_device("other", &limits).unwrap();
    let (_, message) = refusal(client.call("PUT", "/resume", None, &[]));
    assert!(message.contains("try again"), "{message}");
    stage.volume.thaw();
    // What hung has been done by now, or is.
    let grown = eventually("the growth", || client.update_device("d", &larger).ok());
    assert_eq!(grown["size_bytes"], 2 << 20);
    client.resume().unwrap();
    stage.vm.console().write_all(b"x").unwrap();
    let Stage { volume, vm, disk } = stage;
    let ended = vm.end();
    assert_eq!(ended.console, "up\0", "{}", ended.stderr);
    assert_eq!(fs::metadata(disk).unwrap().len(), 2 << 20);
    drop(volume);
}

#[test]
fn a_new_disk_that_hangs_is_given_up_and_all_others_live() {
    if !has_kvm() {
        return;
    }
    let payload = Payload::new()
        .print("up")
        .wait_for_input()
        .print("alive")
        .power_off();
    let Some(mut stage) = stage(payload, "auto") else {
        return;
    };
    let client = stage.vm.client();
    let path = stage.volume.path().join("image");
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", "size=1M"], &path);
    let open = || File::options().read(true).write(true).open(&path).unwrap();
    // Whoever is to write to it makes its last cluster whole first.
    let len = fs::metadata(&path).unwrap().len();
    open().set_len(len + 512).unwrap();
    let (first, again) = (open(), open());
    stage.volume.freeze();
    let document = json!({"disk": {"id": "new", "path": "fd:0", "format": "qcow2"}});
    let add = |file: &File| client.call("POST", "/devices", Some(&document), &[file.as_fd()]);
    match add(&first) {
        Err(ClientError::Refused { status, message, .. }) => {
            assert_eq!(status, 503);
            assert!(message.contains("did not answer within"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    drop(first);
    assert!(client.devices().unwrap().iter().all(|device| device.id != "new"));
    let limits = json!({"limits": {"operations_per_second": 100}});
    client.update_device("other", &limits).unwrap();
    stage.volume.thaw();
    eventually("the end of the one given up", || is_free(&path).then_some(()));
    let added: Value = add(&again).unwrap();
    assert_eq!(added["id"], "new");
    stage.vm.console().write_all(b"x").unwrap();
    let Stage { volume, vm, .. } = stage;
    let ended = vm.end();
    assert_eq!(ended.console, "upalive", "{}", ended.stderr);
    drop(volume);
}
