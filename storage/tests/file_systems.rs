//! Pools on file systems of their own: full ones, ones that share blocks, ones with quotas. Each is mounted in a mount namespace
//! that only the test's thread is in, so that nothing is left whatever happens.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use storage::{ContentType, Error, Pool, PoolConfig, VolumeId, VolumeKind};

/// A file system on a file, or in memory.
enum Medium {
    Memory {
        options: &'static str,
    },
    Loop {
        mkfs: &'static [&'static str],
        options: &'static str,
        megabytes: u64,
    },
}

const BTRFS: Medium = Medium::Loop {
    mkfs: &["mkfs.btrfs", "-q"],
    options: "loop",
    megabytes: 256,
};
const EXT4_QUOTA: Medium = Medium::Loop {
    mkfs: &[
        "mkfs.ext4",
        "-q",
        "-F",
        "-O",
        "quota,project",
        "-E",
        "quotatype=prjquota",
    ],
    options: "loop,prjquota",
    megabytes: 64,
};

/// Held while a file system is in use. A program that another test starts has our open files until its exec, and what is
/// removed in that moment keeps its room: a test that counts blocks cannot share its process with tests that start programs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a test with a fresh file system, whose top directory it is given. Says so and does nothing where the host cannot mount it.
fn with(medium: Medium, test: impl FnOnce(&Path) + Send) {
    // A test that failed leaves nothing that others could find.
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        scope.spawn(move || {
            let scratch = tempfile::tempdir().unwrap();
            if unshare(CloneFlags::CLONE_NEWNS).is_err() {
                eprintln!("skipped: needs root, to mount file systems");
                return;
            }
            let nothing = None::<&str>;
            mount(
                nothing,
                "/",
                nothing,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                nothing,
            )
            .unwrap();
            let top = scratch.path().join("top");
            fs::create_dir(&top).unwrap();
            if !attach(&medium, scratch.path(), &top) {
                return;
            }
            let _mounted = Mounted(top.clone());
            test(&top);
        });
    });
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // The namespace goes with the thread in any case; this lets the backing file go before.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn attach(medium: &Medium, scratch: &Path, top: &Path) -> bool {
    match medium {
        Medium::Memory { options } => {
            mount(
                Some("tmpfs"),
                top,
                Some("tmpfs"),
                MsFlags::empty(),
                Some(*options),
            )
            .unwrap();
            true
        }
        Medium::Loop {
            mkfs,
            options,
            megabytes,
        } => {
            let disk = scratch.join("disk");
            fs::File::create(&disk).unwrap().set_len(megabytes << 20).unwrap();
            let mut make = Command::new(mkfs[0]);
            make.args(&mkfs[1..]).arg(&disk);
            let mut attach = Command::new("mount");
            attach.args(["-o", options]).arg(&disk).arg(top);
            for command in [&mut make, &mut attach] {
                let done = command
                    .stdout(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success());
                if !done {
                    eprintln!("skipped: {command:?} does not work here");
                    return false;
                }
            }
            true
        }
    }
}

fn pool(driver: &str, top: &Path) -> Pool {
    let source = top.join("pool");
    fs::create_dir(&source).unwrap();
    let config = PoolConfig {
        name: "p".into(),
        driver: driver.into(),
        source: Some(source),
        config: BTreeMap::new(),
    };
    Pool::create(&config, top).unwrap()
}

fn container(name: &str) -> VolumeId {
    VolumeId::new(VolumeKind::Container, ContentType::Filesystem, name)
}

fn disk(name: &str) -> VolumeId {
    VolumeId::new(VolumeKind::VirtualMachine, ContentType::Block, name)
}

/// Makes a volume with so many bytes in it.
fn make(pool: &Pool, id: &VolumeId, bytes: usize) -> storage::Result<()> {
    pool.create_volume(id, None, &mut |path| {
        let file = if path.is_dir() {
            path.join("file")
        } else {
            path.to_path_buf()
        };
        Ok(fs::write(file, vec![7; bytes])?)
    })
}

/// Bytes in use once everything is written out.
fn used(pool: &Pool) -> u64 {
    nix::unistd::syncfs(fs::File::open(pool.root()).unwrap()).unwrap();
    pool.resources().unwrap().space.used
}

#[test]
fn a_full_disk_is_told_and_leaves_the_pool_as_it_was() {
    with(Medium::Memory { options: "size=16m" }, |top| {
        let pool = pool("dir", top);
        for (id, copy) in [(container("c1"), container("c2")), (disk("v1"), disk("v2"))] {
            let error = make(&pool, &id, 20 << 20).unwrap_err();
            assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
            make(&pool, &id, 10 << 20).unwrap();
            let before = used(&pool);
            for error in [
                pool.copy_volume(&id, &copy, None).unwrap_err(),
                pool.snapshot_create(&id, "snap0").unwrap_err(),
            ] {
                assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
                assert!(error.to_string().contains("no space left"), "{error}");
            }
            assert!(!pool.exists(&copy));
            assert!(pool.snapshots(&id).unwrap().is_empty());
            assert_eq!(used(&pool), before, "something half made was left");
            pool.delete_volume(&id).unwrap();
        }
        pool.destroy().unwrap();
    });
}

#[test]
fn no_inodes_left_is_a_full_disk_too() {
    with(
        Medium::Memory {
            options: "size=16m,nr_inodes=60",
        },
        |top| {
            let pool = pool("dir", top);
            pool.create_volume(&container("c1"), None, &mut |path| {
                (0..25).try_for_each(|number| fs::write(path.join(number.to_string()), ""))?;
                Ok(())
            })
            .unwrap();
            let error = pool
                .copy_volume(&container("c1"), &container("c2"), None)
                .unwrap_err();
            assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
            assert_eq!(pool.list().unwrap(), [container("c1")]);
        },
    );
}

#[test]
fn copies_on_a_file_system_that_can_share_blocks_take_no_room() {
    for driver in ["dir", "btrfs"] {
        with(BTRFS, |top| {
            let pool = pool(driver, top);
            for (id, copy) in [(container("c1"), container("c2")), (disk("v1"), disk("v2"))] {
                make(&pool, &id, 40 << 20).unwrap();
                let before = used(&pool);
                pool.copy_volume(&id, &copy, None).unwrap();
                pool.snapshot_create(&id, "snap0").unwrap();
                pool.snapshot_restore(&id, "snap0").unwrap();
                assert!(
                    used(&pool) < before + (4 << 20),
                    "{driver}: {} bytes were copied",
                    used(&pool) - before
                );
            }
        });
    }
}

#[test]
fn a_btrfs_pool_does_all_that_a_dir_pool_does() {
    with(BTRFS, |top| {
        let pool = pool("btrfs", top);
        make(&pool, &container("c1"), 5).unwrap();
        let subvolume = fs::metadata(pool.path(&container("c1"))).unwrap();
        assert_eq!(subvolume.ino(), 256, "the volume is no subvolume");
        pool.snapshot_create(&container("c1"), "snap0").unwrap();
        let kept = pool.snapshot_path(&container("c1"), "snap0").join("file");
        assert!(
            fs::write(&kept, "changed").is_err(),
            "the snapshot can be written to"
        );
        fs::write(pool.path(&container("c1")).join("file"), "later").unwrap();
        pool.copy_from_snapshot(&container("c1"), "snap0", &container("c2"), None)
            .unwrap();
        pool.copy_snapshot(&container("c1"), "snap0", &container("c2"))
            .unwrap();
        pool.snapshot_restore(&container("c1"), "snap0").unwrap();
        assert_eq!(
            fs::read(pool.path(&container("c1")).join("file")).unwrap(),
            [7; 5]
        );
        fs::write(pool.path(&container("c1")).join("file"), "and is writable again").unwrap();
        pool.rename(&container("c1"), "c3").unwrap();
        assert_eq!(pool.snapshots(&container("c3")).unwrap(), ["snap0"]);
        pool.snapshot_rename(&container("c3"), "snap0", "old").unwrap();
        pool.snapshot_delete(&container("c3"), "old").unwrap();
        assert!(pool.exists(&container("c2")));
        for name in ["c2", "c3"] {
            pool.delete_volume(&container(name)).unwrap();
        }
        assert_eq!(pool.list().unwrap(), []);
        pool.recover().unwrap();
        pool.destroy().unwrap();
    });
}

#[test]
fn subvolumes_that_an_instance_made_go_with_it() {
    with(BTRFS, |top| {
        let pool = pool("btrfs", top);
        make(&pool, &container("c1"), 5).unwrap();
        let inside = pool.path(&container("c1")).join("nested");
        let snapshot = pool.path(&container("c1")).join("read-only");
        let btrfs = |arguments: &[&std::ffi::OsStr]| {
            let done = Command::new("btrfs")
                .args(arguments)
                .stdout(Stdio::null())
                .status();
            done.is_ok_and(|status| status.success())
        };
        if !btrfs(&["subvolume".as_ref(), "create".as_ref(), inside.as_os_str()]) {
            eprintln!("skipped: the btrfs tool is not installed");
            return;
        }
        fs::write(inside.join("file"), "x").unwrap();
        let read_only = [
            "subvolume".as_ref(),
            "snapshot".as_ref(),
            "-r".as_ref(),
            inside.as_os_str(),
            snapshot.as_os_str(),
        ];
        assert!(btrfs(&read_only));
        pool.delete_volume(&container("c1")).unwrap();
        assert_eq!(pool.list().unwrap(), []);
        pool.destroy().unwrap();
    });
}

#[test]
fn what_was_interrupted_on_btrfs_is_swept() {
    with(BTRFS, |top| {
        let pool = pool("btrfs", top);
        make(&pool, &container("c1"), 5).unwrap();
        pool.snapshot_create(&container("c1"), "snap0").unwrap();
        let folder = pool.root().join("containers");
        fs::rename(folder.join("c1"), folder.join(".tmp-1-1")).unwrap();
        pool.recover().unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        assert!(pool.snapshot_path(&container("c1"), "snap0").exists());
    });
}

#[test]
fn a_btrfs_volume_holds_no_more_than_its_size() {
    with(BTRFS, |top| {
        let pool = pool("btrfs", top);
        pool.create_volume(&container("c1"), Some(20 << 20), &mut |_| Ok(()))
            .unwrap();
        assert_eq!(pool.size(&container("c1")).unwrap(), Some(20 << 20));
        let write = |megabytes: usize| {
            let mut file = fs::File::create(pool.path(&container("c1")).join("file"))?;
            (0..megabytes).try_for_each(|_| file.write_all(&vec![7; 1 << 20]))?;
            file.sync_all()
        };
        write(5).unwrap();
        used(&pool);
        assert!(pool.usage(&container("c1")).unwrap() >= 5 << 20);
        let error = write(30).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EDQUOT), "{error}");
        pool.copy_volume(&container("c1"), &container("c2"), Some(40 << 20))
            .unwrap();
        assert_eq!(pool.size(&container("c2")).unwrap(), Some(40 << 20));
        pool.snapshot_create(&container("c1"), "snap0").unwrap();
        pool.snapshot_restore(&container("c1"), "snap0").unwrap();
        assert_eq!(
            pool.size(&container("c1")).unwrap(),
            Some(20 << 20),
            "restoring lifted the limit"
        );
        pool.resize(&container("c1"), 0).unwrap();
        assert_eq!(pool.size(&container("c1")).unwrap(), None);
        write(30).unwrap();
    });
}

#[test]
fn a_directory_volume_has_a_size_where_there_are_project_quotas() {
    with(EXT4_QUOTA, |top| {
        let pool = pool("dir", top);
        pool.create_volume(&container("c1"), Some(8 << 20), &mut |path| {
            Ok(fs::write(path.join("file"), vec![7; 1 << 20])?)
        })
        .unwrap();
        assert_eq!(pool.size(&container("c1")).unwrap(), Some(8 << 20));
        assert!(pool.usage(&container("c1")).unwrap() >= 1 << 20);
        // A volume that got its size later, when there was something in it.
        make(&pool, &container("c2"), 3 << 20).unwrap();
        assert_eq!(pool.size(&container("c2")).unwrap(), None);
        pool.resize(&container("c2"), 4 << 20).unwrap();
        used(&pool);
        let usage = pool.usage(&container("c2")).unwrap();
        assert!((3 << 20..4 << 20).contains(&usage), "{usage} bytes are counted");
        let status = without_privileges(&format!(
            "head -c 2000000 /dev/zero >'{}/more' || exit 7",
            pool.path(&container("c2")).display()
        ));
        assert_eq!(status, Some(7), "the limit does not hold");
        pool.snapshot_create(&container("c2"), "snap0").unwrap();
        pool.snapshot_restore(&container("c2"), "snap0").unwrap();
        assert_eq!(pool.size(&container("c2")).unwrap(), Some(4 << 20));
        for name in ["c1", "c2"] {
            pool.delete_volume(&container(name)).unwrap();
        }
        pool.destroy().unwrap();
    });
}

/// Runs a shell without the capability to exceed quotas; returns its exit status.
fn without_privileges(script: &str) -> Option<i32> {
    Command::new("setpriv")
        .args([
            "--bounding-set=-sys_resource",
            "--inh-caps=-sys_resource",
            "sh",
            "-c",
            script,
        ])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .code()
}
