//! Each change is killed between every two of its steps, in a process of its own; the next to open the pool must find it as before or as after.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::*;
use crate::steps::stop;
use crate::volume::{ContentType::*, VolumeKind::*};

/// What the killed process is told through its environment: the state directory, the change, the number of steps.
const STATE: &str = "STORAGE_TEST_STATE";
const CHANGE: &str = "STORAGE_TEST_CHANGE";
const STEPS: &str = "STORAGE_TEST_STEPS";

/// More steps than any change has.
const STEPS_MAX: i64 = 20;

fn config() -> PoolConfig {
    PoolConfig {
        name: "p".into(),
        driver: "dir".into(),
        source: None,
        config: BTreeMap::new(),
    }
}

fn volume(name: &str) -> VolumeId {
    VolumeId::new(Container, Filesystem, name)
}

fn write(text: &str) -> impl FnMut(&Path) -> std::result::Result<(), crate::BoxError> {
    move |path: &Path| Ok(fs::write(path.join("file"), text)?)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path.join("file")).unwrap()
}

/// Every change starts from the same pool: `c1` says "now", its snapshot `s` says "then".
fn prepare(state: &Path) {
    let pool = Pool::create(&config(), state).unwrap();
    pool.create_volume(&volume("c1"), None, &mut write("then"))
        .unwrap();
    pool.snapshot_create(&volume("c1"), "s").unwrap();
    fs::write(pool.path(&volume("c1")).join("file"), "now").unwrap();
}

fn change(pool: &Pool, name: &str) {
    match name {
        "create" => pool.create_volume(&volume("c2"), None, &mut write("new")),
        "copy" => pool.copy_volume(&volume("c1"), &volume("c2"), None),
        "delete" => pool.delete_volume(&volume("c1")),
        "rename" => pool.rename(&volume("c1"), "c2"),
        "snapshot" => pool.snapshot_create(&volume("c1"), "t"),
        "snapshot-delete" => pool.snapshot_delete(&volume("c1"), "s"),
        "restore" => pool.snapshot_restore(&volume("c1"), "s"),
        other => panic!("no change {other}"),
    }
    .unwrap();
}

/// Not a test by itself: the process that gets killed.
#[test]
#[ignore = "run by the crash tests"]
fn killed_process() {
    let Some(state) = std::env::var_os(STATE) else {
        return;
    };
    let pool = Pool::open(&config(), Path::new(&state)).unwrap();
    stop::after(std::env::var(STEPS).unwrap().parse().unwrap());
    change(&pool, &std::env::var(CHANGE).unwrap());
}

/// Runs a change, killed after so many steps. Returns whether it was.
fn killed(state: &Path, name: &str, steps: i64) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "pool::crash_tests::killed_process",
            "--ignored",
            "--quiet",
        ])
        .env(STATE, state)
        .env(CHANGE, name)
        .env(STEPS, steps.to_string())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(
        status.success() || status.signal() == Some(libc::SIGKILL),
        "{name} after {steps} steps: {status}"
    );
    !status.success()
}

/// Kills a change everywhere, and hands the recovered pool to `check`.
fn kill_everywhere(name: &str, at_least: i64, check: impl Fn(&Pool)) {
    let mut steps = 0;
    loop {
        let state = tempfile::tempdir().unwrap();
        prepare(state.path());
        let was_killed = killed(state.path(), name, steps);
        let pool = Pool::open(&config(), state.path()).unwrap();
        pool.recover().unwrap();
        for folder in folders() {
            let leftovers = place::names(&pool.root().join(folder)).unwrap();
            assert!(
                !leftovers.iter().any(|name| place::is_temporary(name)),
                "{name}, {steps}: {leftovers:?}"
            );
        }
        let leftovers = place::names(pool.root()).unwrap();
        assert!(
            !leftovers.iter().any(|name| name.starts_with('.')),
            "{name}, {steps}: {leftovers:?}"
        );
        check(&pool);
        // What was not done can be done now.
        if matches!(name, "delete" | "snapshot-delete" | "restore") {
            if pool.exists(&volume("c1")) && pool.snapshots(&volume("c1")).unwrap() == ["s"] {
                change(&pool, name);
            }
        } else if !pool.exists(&volume("c2")) && pool.snapshots(&volume("c1")).unwrap() == ["s"] {
            change(&pool, name);
        }
        if !was_killed {
            assert!(steps >= at_least, "{name} had only {steps} steps");
            return;
        }
        steps += 1;
        assert!(steps < STEPS_MAX, "{name} does not end");
    }
}

#[test]
fn a_killed_creation_or_copy_leaves_a_whole_volume_or_none() {
    for (name, expected) in [("create", "new"), ("copy", "now")] {
        kill_everywhere(name, 2, |pool| {
            if pool.exists(&volume("c2")) {
                assert_eq!(text(&pool.path(&volume("c2"))), expected);
            }
            assert_eq!(text(&pool.path(&volume("c1"))), "now");
        });
    }
}

#[test]
fn a_killed_deletion_leaves_the_volume_with_its_snapshots_or_neither() {
    kill_everywhere("delete", 4, |pool| {
        let snapshots = pool.snapshots(&volume("c1")).unwrap();
        assert_eq!(pool.exists(&volume("c1")), snapshots == ["s"], "{snapshots:?}");
        assert_eq!(
            pool.snapshot_owners(Container).unwrap().is_empty(),
            snapshots.is_empty()
        );
    });
}

#[test]
fn a_killed_renaming_leaves_volume_and_snapshots_under_one_name() {
    kill_everywhere("rename", 4, |pool| {
        let (old, new) = (volume("c1"), volume("c2"));
        assert_ne!(pool.exists(&old), pool.exists(&new));
        let (is, is_not) = if pool.exists(&old) { (old, new) } else { (new, old) };
        assert_eq!(pool.snapshots(&is).unwrap(), ["s"]);
        assert!(pool.snapshots(&is_not).unwrap().is_empty());
        assert_eq!(text(&pool.path(&is)), "now");
    });
}

#[test]
fn a_killed_snapshot_is_whole_or_not_there() {
    kill_everywhere("snapshot", 2, |pool| {
        if pool.snapshots(&volume("c1")).unwrap() == ["s", "t"] {
            assert_eq!(text(&pool.snapshot_path(&volume("c1"), "t")), "now");
        }
        assert_eq!(text(&pool.snapshot_path(&volume("c1"), "s")), "then");
    });
    kill_everywhere("snapshot-delete", 2, |pool| {
        if pool.snapshots(&volume("c1")).unwrap() == ["s"] {
            assert_eq!(text(&pool.snapshot_path(&volume("c1"), "s")), "then");
        }
    });
}

#[test]
fn a_killed_restoration_leaves_the_state_before_or_the_snapshots() {
    kill_everywhere("restore", 2, |pool| {
        let text = text(&pool.path(&volume("c1")));
        assert!(text == "now" || text == "then", "{text:?}");
        assert_eq!(pool.snapshots(&volume("c1")).unwrap(), ["s"]);
    });
}
