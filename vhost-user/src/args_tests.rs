use super::*;

fn read(arguments: &[&str]) -> Result<Command, String> {
    parse(arguments.iter().map(OsString::from))
}

#[test]
fn the_command_line_is_understood() {
    let command = read(&[
        "--socket",
        "a.sock",
        "--device",
        "{}",
        "--sandbox",
        "{}",
        "--once",
    ])
    .unwrap();
    let Command::Serve(arguments) = command else {
        panic!("{command:?}")
    };
    assert_eq!(arguments.socket, PathBuf::from("a.sock"));
    assert_eq!((arguments.sandbox.as_deref(), arguments.once), (Some("{}"), true));
    let Ok(Command::Print(help)) = read(&["--help"]) else {
        panic!("no help")
    };
    assert!(help.contains("vhost-user-blk-pci"));
}

#[test]
fn what_is_wrong_is_said() {
    for (arguments, problem) in [
        (&["--device", "x"][..], "--socket PATH is missing"),
        (&["--socket", "x"], "--device FILE is missing"),
        (&["--socket"], "--socket needs a value"),
        (&["disk"], "not an option"),
    ] {
        let error = read(arguments).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}
