//! The boot structures, read back at the offsets of the documents.

use super::*;
use crate::config::BootProtocol;
use crate::memory::Loaded;

fn kernel(setup_header: Option<Vec<u8>>) -> Kernel {
    Kernel {
        protocol: BootProtocol::Linux64,
        entry: 0x100_0000,
        end: 0x200_0000,
        initrd_max: 0x7fff_ffff,
        setup_header,
        cmdline_max: 2047,
        loaded: Loaded::default(),
    }
}

fn initrd() -> Initrd {
    Initrd {
        address: 0x700_0000,
        bytes: 12345,
        loaded: Loaded::default(),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn the_zero_page_says_where_everything_is() {
    let kernel = kernel(None);
    let info = BootInfo {
        kernel: &kernel,
        initrd: Some(initrd()),
        cmdline_len: 7,
        memory_bytes: 4 << 30,
        rsdp: 0xe0000,
    };
    let page = zero_page(&info);
    assert_eq!(page.len(), 4096);
    assert_eq!(
        (&page[0x202..0x206], page[0x210], page[0x211]),
        (&b"HdrS"[..], 0xff, 1)
    );
    assert_eq!((u32_at(&page, 0x218), u32_at(&page, 0x21c)), (0x700_0000, 12345));
    assert_eq!((u32_at(&page, 0x228), u64_at(&page, 0x70)), (0x20000, 0xe0000));
    assert_eq!(
        page[0x1ef], 0,
        "the sentinel tells the kernel that the page was cleared"
    );
    assert_eq!(page[0x1e8], 5);
    let entry = |n: usize| {
        (
            u64_at(&page, 0x2d0 + 20 * n),
            u64_at(&page, 0x2d8 + 20 * n),
            u32_at(&page, 0x2e0 + 20 * n),
        )
    };
    assert_eq!(entry(0), (0, 0x9fc00, 1));
    assert_eq!(entry(1), (0x9fc00, 0x60400, 2));
    assert_eq!(entry(2), (0x10_0000, 0xc000_0000 - 0x10_0000, 1));
    assert_eq!(entry(3), (0xe000_0000, 0x10_0000, 2));
    assert_eq!(entry(4), (4 << 30, 1 << 30, 1));
}

#[test]
fn a_bzimages_own_header_is_kept() {
    let mut header = vec![0x5a; 0x26c - HEADER_START];
    header[0x211 - HEADER_START] = 0x81;
    let kernel = kernel(Some(header));
    let page = zero_page(&BootInfo {
        kernel: &kernel,
        initrd: None,
        cmdline_len: 0,
        memory_bytes: 128 << 20,
        rsdp: 0xe0000,
    });
    assert_eq!((page[0x1f1], page[0x26b], page[0x26c]), (0x5a, 0x5a, 0));
    assert_eq!((page[0x210], page[0x211]), (0xff, 0x81));
}

#[test]
fn the_pvh_start_info_points_at_its_tables() {
    let kernel = kernel(None);
    let info = BootInfo {
        kernel: &kernel,
        initrd: Some(initrd()),
        cmdline_len: 7,
        memory_bytes: 128 << 20,
        rsdp: 0xe0000,
    };
    let bytes = pvh_start_info(&info);
    assert_eq!(
        (u32_at(&bytes, 0), u32_at(&bytes, 4), u32_at(&bytes, 12)),
        (0x336e_c578, 1, 1)
    );
    let module = (u64_at(&bytes, 16) - layout::PVH_START_INFO) as usize;
    assert_eq!(
        (u64_at(&bytes, module), u64_at(&bytes, module + 8)),
        (0x700_0000, 12345)
    );
    assert_eq!((u64_at(&bytes, 24), u64_at(&bytes, 32)), (0x20000, 0xe0000));
    let map = (u64_at(&bytes, 40) - layout::PVH_START_INFO) as usize;
    assert_eq!(u32_at(&bytes, 48), 4);
    assert_eq!(bytes.len(), map + 4 * 24);
    assert_eq!(
        (u64_at(&bytes, map + 48), u64_at(&bytes, map + 56)),
        (0x10_0000, (128 << 20) - 0x10_0000)
    );
}
