use super::*;

#[test]
fn the_processor_is_named() {
    assert_eq!(
        cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 3GHz\n"),
        "Some CPU @ 3GHz"
    );
    assert_eq!(cpu_model(""), "unknown model");
}

#[test]
fn a_machine_is_described_in_one_line() {
    let line = Machine::note().describe();
    assert!(line.contains(" CPUs (") && !line.contains('\n'), "{line}");
}
