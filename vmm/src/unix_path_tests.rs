//! Sockets with long paths.

use super::*;

#[test]
fn sockets_with_long_paths_connect_and_stale_ones_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    for path in [folder.path().join("s"), deep.join("s")] {
        drop(bind(&path).unwrap());
        let listener = bind(&path).unwrap();
        connect(&path).unwrap();
        listener.accept().unwrap();
    }
}
