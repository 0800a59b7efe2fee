use super::test_image::{assert_same, check, create, open_chain, qemu_img, qemu_io};
use super::*;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// Small enough for many cases, large enough for several L2 tables with small clusters.
const SIZE: u64 = 1 << 20;

/// What a guest may ask for.
#[derive(Debug, Clone)]
enum Step {
    Write { sector: u64, count: u64, byte: u8 },
    Zero { sector: u64, count: u64, unmap: bool },
    Discard { sector: u64, count: u64 },
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..SIZE / 512, prop_oneof![1u64..16, 1u64..400]);
    let range = range.prop_map(|(sector, count)| (sector, count.min(SIZE / 512 - sector)));
    prop_oneof![
        6 => (range.clone(), 1u8..).prop_map(|((sector, count), byte)| Step::Write { sector, count, byte }),
        2 => (range.clone(), any::<bool>())
            .prop_map(|((sector, count), unmap)| Step::Zero { sector, count, unmap }),
        2 => range.prop_map(|(sector, count)| Step::Discard { sector, count }),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

/// Kinds of images that `qemu-img` makes. The last cannot stand on another.
const KINDS: [&str; 6] = [
    "cluster_size=64k",
    "cluster_size=512",
    "cluster_size=4k,refcount_bits=1",
    "compat=0.10,cluster_size=1k",
    "cluster_size=2M,lazy_refcounts=on",
    "cluster_size=8k,refcount_bits=64,preallocation=metadata",
];

/// What the disk has, and where its contents are unspecified.
struct Model {
    bytes: Vec<u8>,
    discarded: Vec<bool>,
}

impl Model {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            discarded: vec![false; bytes.len() / 512],
            bytes,
        }
    }

    fn set(&mut self, sector: u64, count: u64, byte: u8) {
        let (from, to) = (sector as usize, (sector + count) as usize);
        self.bytes[from * 512..to * 512].fill(byte);
        self.discarded[from..to].fill(false);
    }

    fn discard(&mut self, sector: u64, count: u64) {
        self.discarded[sector as usize..(sector + count) as usize].fill(true);
    }

    /// Takes what the disk has where anything may be.
    fn settle(&mut self, found: &[u8]) {
        for (index, discarded) in self.discarded.iter_mut().enumerate() {
            if std::mem::take(discarded) {
                let sector = index * 512..(index + 1) * 512;
                self.bytes[sector.clone()].copy_from_slice(&found[sector]);
            }
        }
    }
}

fn run(path: &Path, mut model: Model, steps: &[Step]) -> Model {
    let mut image = open_chain(path);
    for step in steps {
        match *step {
            Step::Write { sector, count, byte } => {
                image.test_write(sector * 512, &vec![byte; count as usize * 512]);
                model.set(sector, count, byte);
            }
            Step::Zero { sector, count, unmap } => {
                image.zero(sector * 512..(sector + count) * 512, unmap).unwrap();
                model.set(sector, count, 0);
            }
            Step::Discard { sector, count } => {
                image.discard(sector * 512..(sector + count) * 512).unwrap();
                model.discard(sector, count);
            }
            Step::Flush => image.write_back().unwrap(),
            Step::Reopen => {
                image.write_back().unwrap();
                // What was abandoned is free by now, and that is to be written, too.
                image.write_back().unwrap();
                image = open_chain(path);
            }
        }
    }
    let found = image.test_read(0, SIZE as usize);
    model.settle(&found);
    assert_same(&found, &model.bytes);
    image.write_back().unwrap();
    image.write_back().unwrap();
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn qemu_finds_what_was_written_and_no_mistake_in_the_tables(
        kind in 0..KINDS.len(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = create(folder.path(), "disk.qcow2", &["-o", KINDS[kind], "1M"]);
        let model = run(&path, Model::new(vec![0; SIZE as usize]), &steps);
        check(&path, &model.bytes, false);
    }

    #[test]
    fn an_image_on_a_chain_keeps_what_is_below_and_changes_nothing_there(
        kind in 0..KINDS.len() - 1,
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let folder = tempfile::tempdir().unwrap();
        // A raw file, shorter than what stands on it, and an image with a part of its own.
        let mut bytes: Vec<u8> = (0..SIZE).map(|at| (at / 512) as u8 | 1).collect();
        let raw = &bytes[..SIZE as usize / 2 + 1000];
        fs::write(folder.path().join("base.raw"), raw).unwrap();
        bytes[SIZE as usize / 2 + 1000..].fill(0);
        let middle = create(folder.path(), "middle.qcow2", &["-F", "raw", "-b", "base.raw", "1M"]);
        qemu_io(&middle, &["write -P 7 100k 50k", "write -P 9 700k 1k", "write -z 300k 128k"]);
        bytes[100 << 10..150 << 10].fill(7);
        bytes[700 << 10..701 << 10].fill(9);
        bytes[300 << 10..428 << 10].fill(0);
        let arguments = ["-o", KINDS[kind], "-F", "qcow2", "-b", "middle.qcow2", "1M"];
        let path = create(folder.path(), "disk.qcow2", &arguments);
        let below = (fs::read(folder.path().join("base.raw")).unwrap(), fs::read(&middle).unwrap());
        let model = run(&path, Model::new(bytes), &steps);
        check(&path, &model.bytes, false);
        assert!(below == (fs::read(folder.path().join("base.raw")).unwrap(), fs::read(&middle).unwrap()));
    }
}

#[test]
fn an_image_with_compressed_clusters_is_read_and_changed() {
    let folder = tempfile::tempdir().unwrap();
    let raw: Vec<u8> = (0..SIZE).map(|at| (at / 100 % 251) as u8).collect();
    fs::write(folder.path().join("raw"), &raw).unwrap();
    for options in ["cluster_size=64k", "cluster_size=4k", "cluster_size=512"] {
        let path = folder.path().join("disk.qcow2");
        let names = [folder.path().join("raw"), path.clone()].map(|path| path.to_str().unwrap().to_owned());
        let (status, text) = qemu_img(&[
            "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, &names[0], &names[1],
        ]);
        assert_eq!(status, 0, "{text}");
        let mut expected = raw.clone();
        let mut image = open_chain(&path);
        assert_same(&image.test_read(0, SIZE as usize), &expected);
        assert_same(
            &image.test_read(70_000 & !511, 512),
            &expected[70_000 & !511..][..512],
        );
        image.test_write(100 * 512, &[0xab; 3 * 512]);
        expected[100 * 512..103 * 512].fill(0xab);
        image.zero(200 * 512..201 * 512, true).unwrap();
        expected[200 * 512..201 * 512].fill(0);
        assert_same(&image.test_read(0, SIZE as usize), &expected);
        image.write_back().unwrap();
        image.write_back().unwrap();
        check(&path, &expected, false);
    }
}

#[test]
fn a_snapshot_inside_of_the_image_keeps_its_contents() {
    let folder = tempfile::tempdir().unwrap();
    let path = create(folder.path(), "disk.qcow2", &["-o", "cluster_size=4k", "1M"]);
    qemu_io(&path, &["write -P 1 0 1M"]);
    let name = path.to_str().unwrap();
    assert_eq!(qemu_img(&["snapshot", "-c", "before", name]).0, 0);
    let mut image = open_chain(&path);
    image.test_write(4096 * 3 + 512, &[2; 8192]);
    image.discard(500 << 10..600 << 10).unwrap();
    image.write_back().unwrap();
    image.write_back().unwrap();
    let mut expected = vec![1; SIZE as usize];
    expected[4096 * 3 + 512..][..8192].fill(2);
    expected[500 << 10..600 << 10].fill(0);
    assert_same(&image.test_read(0, SIZE as usize), &expected);
    check(&path, &expected, false);
    assert_eq!(qemu_img(&["snapshot", "-a", "before", name]).0, 0);
    check(&path, &vec![1; SIZE as usize], false);
}

#[test]
fn what_is_given_back_is_used_again_and_the_file_does_not_grow() {
    let folder = tempfile::tempdir().unwrap();
    let path = create(folder.path(), "disk.qcow2", &["1M"]);
    let mut image = open_chain(&path);
    let mut len = 0;
    for round in 1..10u8 {
        image.test_write(0, &vec![round; SIZE as usize]);
        image.discard(0..SIZE).unwrap();
        image.write_back().unwrap();
        if round == 2 {
            len = fs::metadata(&path).unwrap().len();
        }
    }
    image.write_back().unwrap();
    assert!(fs::metadata(&path).unwrap().len() <= len.max(SIZE));
    check(&path, &vec![0; SIZE as usize], false);
}

#[test]
fn a_refcount_table_that_is_full_grows() {
    let folder = tempfile::tempdir().unwrap();
    // One cluster of the table covers 64 blocks of 64 clusters of 512 bytes: two megabytes.
    let path = create(
        folder.path(),
        "disk.qcow2",
        &["-o", "cluster_size=512,refcount_bits=64", "24M"],
    );
    let mut image = open_chain(&path);
    let bytes: Vec<u8> = (0..24u64 << 20).map(|at| (at >> 12) as u8).collect();
    for (chunk, at) in bytes.chunks(100 * 512).zip(0u64..) {
        image.test_write(at * 100 * 512, chunk);
    }
    image.write_back().unwrap();
    image.write_back().unwrap();
    check(&path, &bytes, false);
}

#[test]
fn a_disk_grows_with_zeroes_behind_its_end() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("base.raw"), vec![3; 2 << 20]).unwrap();
    for backing in [&[][..], &["-F", "raw", "-b", "base.raw"]] {
        let arguments = [backing, &["-o", "cluster_size=4k", "513k"]].concat();
        let path = create(folder.path(), "disk.qcow2", &arguments);
        let mut image = open_chain(&path);
        image.test_write(510 << 10, &[5; 3 << 10]);
        let mut expected = vec![if backing.is_empty() { 0 } else { 3 }; 513 << 10];
        expected[510 << 10..].fill(5);
        // Within the L1 table's cluster, and beyond it.
        for size in [1 << 20, 5 << 30, (5 << 30) + 512] {
            image.grow(size).unwrap();
            assert_eq!(image.size(), size);
        }
        assert!(image.grow(512).is_err());
        image.test_write(4 << 30, &[6; 512]);
        image.write_back().unwrap();
        expected.resize(3 << 20, 0);
        assert_same(&image.test_read(0, 3 << 20), &expected);
        assert_eq!(image.test_read((5 << 30) - 512, 1024), [0; 1024]);
        image.write_back().unwrap();
        let (status, text) = qemu_img(&["check", path.to_str().unwrap()]);
        assert_eq!(status, 0, "{text}");
        let mut image = open_chain(&path);
        assert_eq!(image.test_read(4 << 30, 512), [6; 512]);
        assert_eq!(image.size(), (5 << 30) + 512);
    }
}

#[test]
fn two_writes_to_one_new_cluster_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = create(folder.path(), "disk.qcow2", &["1M"]);
    let mut image = open_chain(&path);
    let (len, first) = image.begin_write(4096, &[1; 4096]).unwrap();
    assert_eq!(len, 4096);
    assert_eq!(image.map_write(8192, 512).unwrap(), Target::Busy);
    assert!(image.is_busy(&(0..SIZE)) && !image.is_busy(&(65536..SIZE)));
    // Nothing is visible yet, and other clusters are free.
    assert_eq!(image.test_read(4096, 512), [0; 512]);
    let (_, second) = image.begin_write(65536, &[2; 65536]).unwrap();
    image.end_write(&second.unwrap(), true).unwrap();
    // A write before a busy cluster goes as far as that.
    let (len, third) = image.begin_write(2 * 65536, &[3; 512]).unwrap();
    assert_eq!(len, 512);
    image.end_write(&third.unwrap(), false).unwrap();
    image.end_write(&first.unwrap(), true).unwrap();
    image.test_write(8192, &[4; 512]);
    let mut expected = vec![0; SIZE as usize];
    expected[4096..8192].fill(1);
    expected[8192..8704].fill(4);
    expected[65536..2 * 65536].fill(2);
    assert_same(&image.test_read(0, SIZE as usize), &expected);
    image.write_back().unwrap();
    image.write_back().unwrap();
    check(&path, &expected, false);
}
