use super::*;

#[test]
fn the_driver_writes_only_where_it_may() {
    let space = ConfigSpace::new(vec![1; 8]).with_writable(2..5);
    space.write(0, &[9; 4]);
    space.write(4, &[9; 4]);
    space.write(u64::MAX, &[9; 4]);
    let mut bytes = [0; 10];
    space.read(0, &mut bytes);
    assert_eq!(bytes, [1, 1, 9, 9, 9, 1, 1, 1, 0, 0]);
    assert_eq!(space.generation(), 0, "the driver knows what it wrote");
}
