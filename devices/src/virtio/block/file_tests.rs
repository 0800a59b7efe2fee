use super::*;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

/// A file on a disk, opened both ways; nothing where the file system of temporary files has no direct I/O.
fn direct_file() -> Option<(tempfile::NamedTempFile, HostFile)> {
    let named = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    named.as_file().set_len(1 << 20).unwrap();
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let ordinary = options.open(named.path()).unwrap();
    let direct = options.custom_flags(libc::O_DIRECT).open(named.path()).ok()?;
    let file = HostFile::with_direct(ordinary, direct).ok()?;
    Some((named, file))
}

fn vector(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    }
}

#[test]
fn aligned_requests_go_past_the_cache_and_others_see_the_same() {
    let Some((_named, file)) = direct_file() else {
        eprintln!("skipped: no direct I/O here");
        return;
    };
    let align = file.align() as usize;
    assert!(align == 512 || align == 4096);
    let mut memory = vec![0u8; 4 * 4096];
    let start = memory.as_ptr().align_offset(4096);
    let page = &mut memory[start..start + 2 * 4096];
    page.fill(7);
    assert_ne!(file.fd_for(&[vector(page)], 4096), file.fd());
    // SAFETY: the vectors name memory that lives on.
    unsafe {
        assert_eq!(file.transfer(true, &[vector(page)], 4096, false).unwrap(), 8192);
    }
    // Neither address nor length nor offset are aligned.
    let odd = &mut page[1..1 + 700];
    odd.fill(0);
    assert_eq!(file.fd_for(&[vector(odd)], 4096 + 8192 - 350), file.fd());
    // SAFETY: the same.
    unsafe {
        assert_eq!(
            file.transfer(false, &[vector(odd)], 4096 + 8192 - 350, false)
                .unwrap(),
            700
        );
    }
    assert_eq!(odd[..350], [7; 350]);
    assert_eq!(odd[350..], [0; 350]);
    odd.fill(9);
    // SAFETY: the same.
    unsafe {
        assert_eq!(file.transfer(true, &[vector(odd)], 1, false).unwrap(), 700);
        assert_eq!(
            file.transfer(false, &[vector(&mut page[..4096])], 0, false)
                .unwrap(),
            4096
        );
    }
    assert_eq!(page[..702], [&[0][..], &[9; 700], &[0]].concat());
}

#[test]
fn a_file_without_direct_io_is_refused_with_what_to_do() {
    // A descriptor that can be read by no alignment at all stands for such a file system.
    let ordinary = tempfile::tempfile().unwrap();
    let direct = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let error = HostFile::with_direct(ordinary, direct).unwrap_err();
    assert!(error.to_string().contains("leave `direct` out"), "{error}");
}
