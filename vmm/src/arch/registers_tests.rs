//! Segments and page tables.

use super::*;
use crate::config::MemoryConfig;
use vm_memory::{Bytes, GuestAddress};

#[test]
fn descriptors_have_the_textbook_encoding() {
    let [code, data, task] = segments(BootProtocol::Linux64).map(|segment| descriptor(&segment));
    assert_eq!(code, 0x00af_9b00_0000_ffff);
    assert_eq!(data, 0x00cf_9300_0000_ffff);
    assert_eq!(task, 0x0000_8b00_0000_0067);
    assert_eq!(descriptor(&segments(BootProtocol::Pvh)[0]), 0x00cf_9b00_0000_ffff);
}

#[test]
fn the_first_four_gibibytes_are_mapped_to_themselves() {
    let memory = memory::create(4 << 20, &MemoryConfig::default()).unwrap();
    write_tables(&memory, BootProtocol::Linux64).unwrap();
    let word = |address: u64| memory.read_obj::<u64>(GuestAddress(address)).unwrap();
    for address in [0u64, 0x20_0000, 0x3fff_ffff, 0x4000_0000, 0xfee0_0000] {
        let pdpt = word(layout::PAGE_TABLES) & !0xfff;
        let directory = word(pdpt + (address >> 30) * 8) & !0xfff;
        let entry = word(directory + (address >> 21 & 511) * 8);
        assert_eq!(entry, (address & !0x1f_ffff) | 0x83, "entry for {address:#x}");
    }
    assert_eq!(word(layout::PAGE_TABLES + 8), 0);
}

#[test]
fn pvh_is_entered_without_paging() {
    let mut sregs = kvm_sregs {
        cr4: 0x20,
        efer: 0x500,
        ..Default::default()
    };
    fill_sregs(&mut sregs, BootProtocol::Pvh);
    assert_eq!((sregs.cr0 & CR0_PG, sregs.cr4, sregs.efer), (0, 0, 0));
    assert_eq!((sregs.cs.db, sregs.cs.l, sregs.tr.limit), (1, 0, 0x67));
}
