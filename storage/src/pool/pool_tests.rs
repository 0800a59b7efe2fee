use super::*;
use crate::volume::{ContentType::*, VolumeKind::*};

fn config(name: &str) -> PoolConfig {
    PoolConfig {
        name: name.into(),
        driver: "dir".into(),
        source: None,
        config: BTreeMap::new(),
    }
}

fn pool() -> (tempfile::TempDir, Pool) {
    let state = tempfile::tempdir().unwrap();
    let pool = Pool::create(&config("default"), state.path()).unwrap();
    (state, pool)
}

fn container(name: &str) -> VolumeId {
    VolumeId::new(Container, Filesystem, name)
}

fn disk(name: &str) -> VolumeId {
    VolumeId::new(VirtualMachine, Block, name)
}

fn make(pool: &Pool, id: &VolumeId, text: &str) {
    pool.create_volume(id, None, &mut |path| {
        let file = if id.content == Filesystem {
            path.join("file")
        } else {
            path.to_path_buf()
        };
        Ok(fs::write(file, text)?)
    })
    .unwrap();
}

fn text(path: &Path) -> String {
    let file = if path.is_dir() {
        path.join("file")
    } else {
        path.to_path_buf()
    };
    String::from_utf8(fs::read(file).unwrap())
        .unwrap()
        .trim_end_matches('\0')
        .to_owned()
}

/// All that lies in the pool, temporaries included.
fn everything(pool: &Pool) -> Vec<String> {
    let mut found = Vec::new();
    for folder in folders() {
        for name in place::names(&pool.root().join(folder)).unwrap() {
            found.push(format!("{folder}/{name}"));
        }
    }
    found
}

#[test]
fn a_pool_is_made_opened_and_destroyed() {
    let state = tempfile::tempdir().unwrap();
    assert!(matches!(
        Pool::open(&config("p"), state.path()),
        Err(Error::PoolMissing { .. })
    ));
    let pool = Pool::create(&config("p"), state.path()).unwrap();
    make(&pool, &container("c1"), "one");
    assert!(matches!(pool.destroy(), Err(Error::PoolInUse { count: 1, .. })));
    assert!(matches!(
        Pool::create(&config("p"), state.path()),
        Err(Error::SourceNotEmpty(_))
    ));
    let again = Pool::open(&config("p"), state.path()).unwrap();
    assert_eq!(again.list().unwrap(), [container("c1")]);
    let room = again.resources().unwrap();
    assert!(room.space.total > room.space.used && room.space.used > 0);
    again.delete_volume(&container("c1")).unwrap();
    again.destroy().unwrap();
    assert!(!state.path().join("storage-pools/p").exists());
}

#[test]
fn a_source_must_be_an_empty_directory_and_outlives_its_pool() {
    let state = tempfile::tempdir().unwrap();
    let source = state.path().join("disk");
    let with_source = PoolConfig {
        source: Some(source.clone()),
        ..config("p")
    };
    assert!(matches!(
        Pool::create(&with_source, state.path()),
        Err(Error::InvalidConfig(_))
    ));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("precious"), "").unwrap();
    assert!(matches!(
        Pool::create(&with_source, state.path()),
        Err(Error::SourceNotEmpty(_))
    ));
    fs::remove_file(source.join("precious")).unwrap();
    let pool = Pool::create(&with_source, state.path()).unwrap();
    make(&pool, &container("c1"), "x");
    assert!(source.join("containers/c1/file").exists());
    pool.delete_volume(&container("c1")).unwrap();
    pool.destroy().unwrap();
    assert_eq!(fs::read_dir(&source).unwrap().count(), 0);
    let relative = PoolConfig {
        source: Some("disk".into()),
        ..config("p")
    };
    assert!(matches!(
        Pool::create(&relative, state.path()),
        Err(Error::InvalidConfig(_))
    ));
}

#[test]
fn unknown_drivers_and_unfit_directories_leave_nothing_behind() {
    let state = tempfile::tempdir().unwrap();
    let zfs = PoolConfig {
        driver: "zfs".into(),
        ..config("p")
    };
    assert!(matches!(
        Pool::create(&zfs, state.path()),
        Err(Error::UnknownDriver(_))
    ));
    assert!(!state.path().join("storage-pools/p").exists());
    assert!(matches!(
        Pool::create(&config("../p"), state.path()),
        Err(Error::InvalidName { .. })
    ));
}

#[test]
fn users_cannot_reach_into_volumes() {
    use std::os::unix::fs::MetadataExt;
    let (_state, pool) = pool();
    for folder in folders() {
        let mode = fs::metadata(pool.root().join(folder)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}

#[test]
fn a_volume_whose_filling_fails_was_never_there() {
    let (_state, pool) = pool();
    for id in [container("c1"), disk("v1")] {
        let outcome = pool.create_volume(&id, Some(8192), &mut |path| {
            if path.is_dir() {
                fs::write(path.join("file"), "half")?;
            }
            Err("the image is damaged".into())
        });
        let error = outcome.unwrap_err();
        assert!(matches!(&error, Error::Fill { source, .. } if source.to_string() == "the image is damaged"));
        assert!(!pool.exists(&id));
    }
    assert_eq!(everything(&pool), Vec::<String>::new());
}

#[test]
fn copies_are_independent_of_their_source() {
    let (_state, pool) = pool();
    make(&pool, &container("c1"), "one");
    pool.copy_volume(&container("c1"), &container("c2"), None)
        .unwrap();
    fs::write(pool.path(&container("c1")).join("file"), "changed").unwrap();
    assert_eq!(text(&pool.path(&container("c2"))), "one");
    let again = pool.copy_volume(&container("c1"), &container("c2"), None);
    assert!(matches!(again, Err(Error::VolumeExists(_))));
    let missing = pool.copy_volume(&container("nope"), &container("c3"), None);
    assert!(matches!(missing, Err(Error::VolumeNotFound(_))));
    let mixed = pool.copy_volume(&container("c1"), &disk("v1"), None);
    assert!(matches!(mixed, Err(Error::ContentMismatch { .. })));
}

#[test]
fn copies_cross_pools() {
    let (state, one) = pool();
    let other = Pool::create(&config("other"), state.path()).unwrap();
    make(&one, &container("c1"), "one");
    one.snapshot_create(&container("c1"), "snap0").unwrap();
    fs::write(one.path(&container("c1")).join("file"), "later").unwrap();
    other
        .copy_volume_from(&one, &container("c1"), &container("c1"), None)
        .unwrap();
    other
        .copy_snapshot_from(&one, &container("c1"), "snap0", &container("c1"))
        .unwrap();
    assert_eq!(text(&other.path(&container("c1"))), "later");
    assert_eq!(text(&other.snapshot_path(&container("c1"), "snap0")), "one");
}

#[test]
fn disks_are_sparse_grow_and_do_not_shrink() {
    let (_state, pool) = pool();
    pool.create_volume(&disk("v1"), Some(1 << 30), &mut |path| {
        Ok(fs::metadata(path).map(|_| ())?)
    })
    .unwrap();
    assert_eq!(pool.size(&disk("v1")).unwrap(), Some(1 << 30));
    assert!(pool.usage(&disk("v1")).unwrap() < 1 << 20);
    pool.resize(&disk("v1"), (2 << 30) + 1).unwrap();
    assert_eq!(pool.size(&disk("v1")).unwrap(), Some((2 << 30) + 4096));
    let error = pool.resize(&disk("v1"), 1 << 30).unwrap_err();
    assert!(error.to_string().contains("cannot be shrunk"), "{error}");
    pool.copy_volume(&disk("v1"), &disk("v2"), Some(3 << 30)).unwrap();
    assert_eq!(pool.size(&disk("v2")).unwrap(), Some(3 << 30));
    let smaller = pool.copy_volume(&disk("v1"), &disk("v3"), Some(1 << 30));
    assert!(matches!(smaller, Err(Error::Shrink { .. })));
    assert!(!pool.exists(&disk("v3")));
    assert!(pool.resize(&disk("v2"), u64::MAX).is_err());
}

#[test]
fn an_image_may_be_there_as_tree_and_as_disk() {
    let (_state, pool) = pool();
    let (tree, raw) = (
        VolumeId::new(Image, Filesystem, "f00"),
        VolumeId::new(Image, Block, "f00"),
    );
    make(&pool, &tree, "tree");
    make(&pool, &raw, "disk");
    assert_eq!(pool.list().unwrap(), [tree.clone(), raw.clone()]);
    pool.delete_volume(&tree).unwrap();
    assert!(!pool.exists(&tree) && pool.exists(&raw));
}

#[test]
fn snapshots_keep_restore_copy_rename_and_delete() {
    let (_state, pool) = pool();
    for id in [container("c1"), disk("v1")] {
        make(&pool, &id, "first");
        pool.snapshot_create(&id, "snap0").unwrap();
        assert!(matches!(
            pool.snapshot_create(&id, "snap0"),
            Err(Error::SnapshotExists { .. })
        ));
        let file = if id.content == Filesystem {
            pool.path(&id).join("file")
        } else {
            pool.path(&id)
        };
        fs::write(file, "second").unwrap();
        pool.snapshot_create(&id, "snap1").unwrap();
        assert_eq!(pool.snapshots(&id).unwrap(), ["snap0", "snap1"]);
        pool.snapshot_restore(&id, "snap0").unwrap();
        assert_eq!(text(&pool.path(&id)), "first");
        pool.snapshot_rename(&id, "snap1", "later").unwrap();
        let taken = pool.snapshot_rename(&id, "later", "snap0");
        assert!(matches!(taken, Err(Error::SnapshotExists { .. })));
        let copy = VolumeId {
            name: "copy".into(),
            ..id.clone()
        };
        pool.copy_from_snapshot(&id, "later", &copy, None).unwrap();
        assert_eq!(text(&pool.path(&copy)), "second");
        pool.copy_snapshot(&id, "snap0", &copy).unwrap();
        assert_eq!(text(&pool.snapshot_path(&copy, "snap0")), "first");
        assert!(pool.snapshot_usage(&copy, "snap0").unwrap() > 0);
        pool.snapshot_delete(&id, "snap0").unwrap();
        pool.snapshot_delete(&id, "snap0").unwrap();
        pool.snapshot_delete(&id, "later").unwrap();
        assert_eq!(pool.snapshots(&id).unwrap(), Vec::<String>::new());
        assert!(matches!(
            pool.snapshot_restore(&id, "snap0"),
            Err(Error::SnapshotNotFound { .. })
        ));
        pool.delete_volume(&id).unwrap();
        pool.delete_volume(&copy).unwrap();
        pool.delete_volume(&copy).unwrap();
    }
    assert_eq!(everything(&pool), Vec::<String>::new());
}

#[test]
fn renaming_takes_the_snapshots_along() {
    let (_state, pool) = pool();
    make(&pool, &container("old"), "x");
    make(&pool, &container("taken"), "y");
    pool.snapshot_create(&container("old"), "snap0").unwrap();
    assert!(matches!(
        pool.rename(&container("old"), "taken"),
        Err(Error::VolumeExists(_))
    ));
    pool.rename(&container("old"), "new").unwrap();
    assert!(!pool.exists(&container("old")));
    assert_eq!(pool.snapshots(&container("new")).unwrap(), ["snap0"]);
    assert_eq!(pool.snapshots(&container("old")).unwrap(), Vec::<String>::new());
    pool.rename(&container("taken"), "free").unwrap();
    assert_eq!(text(&pool.path(&container("free"))), "y");
}

#[test]
fn names_that_lead_elsewhere_are_refused_by_every_operation() {
    let (_state, pool) = pool();
    make(&pool, &container("c1"), "x");
    for name in ["", "..", "../images/x", "/etc", ".tmp-1-1", "a\0"] {
        let bad = container(name);
        assert!(matches!(
            pool.create_volume(&bad, None, &mut |_| Ok(())),
            Err(Error::InvalidName { .. })
        ));
        assert!(matches!(
            pool.copy_volume(&container("c1"), &bad, None),
            Err(Error::InvalidName { .. })
        ));
        assert!(matches!(
            pool.copy_volume(&bad, &container("c2"), None),
            Err(Error::InvalidName { .. })
        ));
        assert!(matches!(pool.delete_volume(&bad), Err(Error::InvalidName { .. })));
        assert!(matches!(
            pool.rename(&container("c1"), name),
            Err(Error::InvalidName { .. })
        ));
        assert!(matches!(
            pool.snapshot_create(&container("c1"), name),
            Err(Error::InvalidName { .. })
        ));
        assert!(matches!(
            pool.snapshot_delete(&container("c1"), name),
            Err(Error::InvalidName { .. })
        ));
        assert!(!pool.exists(&bad));
        assert!(pool.path(&bad).starts_with(pool.root().join("containers")));
        assert!(!pool.path(&bad).exists());
    }
    assert_eq!(everything(&pool), ["containers/c1"]);
}

#[test]
fn what_lies_about_in_a_pool_is_not_offered() {
    let (_state, pool) = pool();
    fs::write(pool.root().join("containers/notes.txt"), "").unwrap();
    std::os::unix::fs::symlink("/etc", pool.root().join("containers/link")).unwrap();
    assert_eq!(pool.list().unwrap(), Vec::<VolumeId>::new());
    assert!(!pool.exists(&container("link")));
}
