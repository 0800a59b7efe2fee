use super::*;

fn key(name: &str) -> InstanceKey {
    ("default".into(), name.into())
}

#[test]
fn nobody_shares_ids_and_everybody_keeps_theirs() {
    let ranges = IdRanges::default();
    let a = ranges.take(&key("a"), None, BLOCK).unwrap();
    let b = ranges.take(&key("b"), None, NESTING).unwrap();
    let c = ranges.take(&key("c"), None, BLOCK).unwrap();
    assert_eq!((a, b, c), (FIRST, FIRST + BLOCK, FIRST + BLOCK + NESTING));
    // The gap that b leaves is used again, by whoever fits.
    ranges.release(&key("b"));
    assert_eq!(ranges.take(&key("d"), None, BLOCK).unwrap(), b);
    assert_eq!(
        ranges.take(&key("e"), Some(c), BLOCK).unwrap(),
        b + BLOCK,
        "c still has its range"
    );
    ranges.release(&key("c"));
    assert_eq!(ranges.take(&key("c"), Some(c), BLOCK).unwrap(), c);
    assert_eq!(
        ranges.take(&key("c"), Some(c), BLOCK).unwrap(),
        c,
        "asking again changes nothing"
    );
}

#[test]
fn ranges_that_overlap_are_not_given_out() {
    let ranges = IdRanges::default();
    ranges.adopt(&key("a"), FIRST + BLOCK, BLOCK);
    let wide = ranges.take(&key("b"), Some(FIRST), 2 * BLOCK).unwrap();
    assert_eq!(wide, FIRST + 2 * BLOCK);
    assert_eq!(
        ranges.take(&key("c"), Some(5), BLOCK).unwrap(),
        FIRST,
        "low ids belong to the host"
    );
    assert!(ranges.take(&key("d"), None, u32::MAX).is_err());
}

#[test]
fn the_map_is_written_as_incus_writes_it() {
    assert_eq!(volatile_map(None), "[]");
    assert_eq!(
        volatile_map(Some((1_000_000, 65_536))),
        r#"[{"Isuid":true,"Isgid":false,"Hostid":1000000,"Nsid":0,"Maprange":65536},{"Isuid":false,"Isgid":true,"Hostid":1000000,"Nsid":0,"Maprange":65536}]"#
    );
}
