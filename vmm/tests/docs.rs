//! `docs/vmm.md` as a reader takes it: what it shows is run, and what it names is there.
//!
//! The reader has a folder for what the guide has in `/tmp`, in `ci/build`'s place a script that has built this program already, and
//! a guest of a few instructions for a kernel. In each section the VM is the first one with the section's JSON on top.
//! A fence's second word says why a block is not run here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use common::docs::{Block, blocks, text};
use common::payload::Payload;
use common::vm::{eventually, has_kvm};
use serde_json::Value;
use vmm::client::Client;
use vmm::control::requests::ROUTES;

const GUIDE: &str = "vmm.md";
const VMM: &str = env!("CARGO_BIN_EXE_virga-vmm");
/// Blocks that are not run here: why, and how many.
const ELSEWHERE: [(&str, usize); 3] = [
    // virga-vhost-user's own tests run it.
    ("sh back-end", 1),
    // vmm/tests/network.rs and devices' tests have one.
    ("sh macvtap", 1),
    // vmm/tests/gdb.rs asks for the same of guests without symbols.
    ("console", 1),
];

/// A reader at work. Processes that are left are ended with it.
struct Reader {
    folder: tempfile::TempDir,
    vm: Option<Child>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop();
    }
}

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Reader {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root, dist) = (folder.path(), folder.path().join("dist"));
        program(
            &root.join("ci/build"),
            &format!("#!/bin/sh\necho {}\n", dist.display()),
        );
        // What is refused is an error here, unless it is up to the guest, which has no drivers.
        let curl = concat!(
            "#!/bin/sh\nPATH=${PATH#*:}\n",
            "answer=$(curl --silent --show-error --fail-with-body --max-time 20 \"$@\") && status=0 || status=$?\n",
            "echo \"$answer\"\n",
            "case $answer in *\"the guest's driver does not\"*) status=0;; esac\n",
            "exit $status\n",
        );
        program(&root.join("bin/curl"), curl);
        for folder in ["dist/bin", "dist/share/virga", "vm"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        symlink(VMM, dist.join("bin/virga-vmm")).unwrap();
        let kernel = Payload::new().print("up").forever().elf();
        fs::write(dist.join("share/virga/vmlinux"), kernel).unwrap();
        Self { folder, vm: None }
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.path().join("vm")
    }

    /// The block in its interpreter.
    fn command(&self, block: &Block) -> Command {
        let root = self.folder.path().to_str().unwrap();
        let text = block.text.replace("/tmp/", &format!("{root}/"));
        let mut command = match block.info.as_str() {
            "sh" => Command::new("bash"),
            "python" => Command::new("python3"),
            other => panic!("line {}: who runs {other:?}?", block.line),
        };
        if block.info == "sh" {
            command.args(["-e", "-u"]);
        }
        command
            .args(["-c", &text])
            .env("PATH", format!("{root}/bin:{}", std::env::var("PATH").unwrap()))
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn spec(&self) -> PathBuf {
        self.run_dir().join("spec.json")
    }

    /// The first VM's configuration with the section's documents on top.
    fn spec_of(&self, section: &[&Block]) -> Value {
        let mut spec: Value = serde_json::from_slice(&fs::read(self.spec()).unwrap()).unwrap();
        for block in section {
            let document: Value = serde_json::from_str(&block.text)
                .unwrap_or_else(|error| panic!("line {}: {error}", block.line));
            spec.as_object_mut()
                .unwrap()
                .extend(document.as_object().unwrap().clone());
        }
        spec
    }

    fn validate(&self, spec: &Value) -> Output {
        let path = self.run_dir().join("section.json");
        fs::write(&path, spec.to_string()).unwrap();
        Command::new(VMM)
            .arg("--config")
            .arg(path)
            .arg("--validate")
            .output()
            .unwrap()
    }

    /// Starts the VM as the section has it.
    fn start(&mut self, spec: &Value) {
        self.stop();
        let path = self.run_dir().join("section.json");
        fs::write(&path, spec.to_string()).unwrap();
        let mut command = Command::new(VMM);
        let command = command.arg("--config").arg(path).stderr(Stdio::piped());
        let run_dir = self.run_dir();
        wait_until_up(&run_dir, self.vm.insert(command.spawn().unwrap()));
    }

    fn stop(&mut self) {
        if let Some(mut vm) = self.vm.take() {
            let _ = vm.kill();
            let _ = vm.wait();
        }
    }
}

/// A client of the VM, which this process runs.
fn wait_until_up(run_dir: &Path, process: &mut Child) -> Client {
    eventually("the VM", || {
        if let Some(status) = process.try_wait().unwrap() {
            let stderr = process.stderr.take().map(std::io::read_to_string);
            panic!("{status}: {stderr:?}");
        }
        Client::connect(run_dir).ok()
    })
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn what_the_guide_shows_works() {
    if !has_kvm() {
        return;
    }
    let all = blocks(GUIDE);
    let (first, rest) = all.split_first().unwrap();
    let mut reader = Reader::new();

    let mut shell = reader.command(first).spawn().unwrap();
    let client = wait_until_up(&reader.run_dir(), &mut shell);
    client.stop().unwrap();
    let output = shell.wait_with_output().unwrap();
    assert!(
        said(&output).contains("the configuration is valid"),
        "{}",
        said(&output)
    );
    assert!(said(&output).contains("stopped by request"), "{}", said(&output));
    fs::write(reader.run_dir().join("data.raw"), [0; 1 << 20]).unwrap();

    let mut elsewhere = ELSEWHERE.map(|(info, _)| (info, 0));
    for block in rest {
        let section = rest.iter().filter(|other| other.section == block.section);
        let documents: Vec<&Block> = section.filter(|other| other.info == "json").collect();
        let spec = reader.spec_of(&documents);
        if let Some((_, count)) = elsewhere.iter_mut().find(|(info, _)| *info == block.info) {
            *count += 1;
        } else if block.info == "json" {
            let output = reader.validate(&spec);
            assert!(output.status.success(), "line {}: {}", block.line, said(&output));
        } else {
            reader.start(&spec);
            let output = reader.command(block).output().unwrap();
            let said = said(&output);
            assert!(output.status.success(), "line {}: {said}", block.line);
            assert!(
                !said.contains("HTTP/1.1") || said.contains("HTTP/1.1 200"),
                "line {}: {said}",
                block.line
            );
        }
    }
    assert_eq!(elsewhere, ELSEWHERE, "what is not run is known");
}

/// The texts between backticks.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn requests_that_the_guide_names_are_answered() {
    let text = text(GUIDE);
    let mut named = 0;
    for line in text.lines().filter(|line| !line.starts_with("```")) {
        for code in codes(line) {
            let Some((method, path)) = code.split_once(' ').filter(|(_, path)| path.starts_with('/')) else {
                continue;
            };
            let path = path.split('?').next().unwrap();
            let known = ROUTES.iter().any(|route| {
                let pattern = route.path.replace("{id}", "ID");
                route.method == method && (pattern == path || pattern.replace("ID", "balloon") == path)
            });
            assert!(known, "{code:?} in {line:?}");
            named += 1;
        }
    }
    assert!(named > 10, "{named}");
}

/// What `$ref` and `items` lead to.
fn resolve<'a>(openapi: &'a Value, mut schema: &'a Value) -> &'a Value {
    loop {
        if let Some(path) = schema["$ref"].as_str() {
            schema = openapi.pointer(path.trim_start_matches('#')).unwrap();
        } else if schema["items"].is_object() {
            schema = &schema["items"];
        } else {
            return schema;
        }
    }
}

#[test]
fn fields_in_the_guides_table_are_those_of_the_configuration() {
    let openapi: Value = serde_norway::from_str(&text("openapi/virga-vmm.yaml")).unwrap();
    let config = &openapi["components"]["schemas"]["VmConfig"];
    let text = text(GUIDE);
    let (_, table) = text.split_once("## Configuration").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let mut missing: Vec<&str> = config["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let mut before = String::new();
        for field in codes(row.split('|').nth(1).unwrap()) {
            // `.b` after `a.x` means `a.b`.
            let field = match field.strip_prefix('.') {
                Some(last) => format!("{}.{last}", before.rsplit_once('.').unwrap().0),
                None => field.replace("[]", ""),
            };
            let mut schema = config;
            for name in field.split('.') {
                schema = resolve(&openapi, &resolve(&openapi, schema)["properties"][name]);
                assert!(schema.is_object(), "{field} in {row:?}");
            }
            missing.retain(|name| field.split('.').next() != Some(name));
            before = field;
        }
    }
    assert_eq!(missing, [""; 0], "the table has every section");
}
