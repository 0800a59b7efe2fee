//! The command line.

use super::*;

fn read(line: &str) -> Result<Command, String> {
    parse(line.split_whitespace().map(OsString::from))
}

#[test]
fn each_form_is_understood() {
    let run = |started_us| {
        Ok(Command::Run {
            config: "a.json".into(),
            started_us,
        })
    };
    assert_eq!(read("--config a.json"), run(None));
    assert_eq!(read("--config=a.json --start-time-us 12"), run(Some(12)));
    assert_eq!(
        read("--validate --config a.json"),
        Ok(Command::Validate("a.json".into()))
    );
    assert_eq!(read("--help --nonsense"), Ok(Command::Help));
    assert_eq!(read("-V"), Ok(Command::Version));
    assert_eq!(read("--probe"), Ok(Command::Probe));
}

#[test]
fn what_is_wrong_is_named() {
    for (line, expected) in [
        ("", "--config FILE is missing"),
        ("--config", "--config needs a value"),
        ("--config a --start-time-us x", "\"x\" is not a number"),
        ("a.json", "\"a.json\" is not an option"),
    ] {
        assert!(read(line).unwrap_err().contains(expected), "{line}");
    }
}

#[test]
fn the_example_in_the_help_is_a_valid_configuration() {
    let start = HELP.find("  { \"name\"").unwrap();
    let end = start + HELP[start..].find("\n\n").unwrap();
    crate::config::VmConfig::from_json(&HELP.as_bytes()[start..end]).unwrap();
}
