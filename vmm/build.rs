//! Compiles the system call filters of the VMM's threads from the tables in `seccomp/` to BPF programs, which the
//! library embeds: a VM's start then costs no compiling, and the program has no compiler in it.
//!
//! A table lists what is allowed, one permission a line:
//!
//! ```text
//! # A comment.
//! read                                the call, whatever its arguments
//! ioctl   1 is 0xae80                 argument 1 (they count from 0) has this value
//! mmap    2 without 0x4   PROT_EXEC   argument 2 has none of these bits
//! clone   0 with 0x10000  CLONE_THREAD   argument 0 has all of these bits
//! ```
//!
//! Only the low 32 bits of arguments are looked at, and all that follows the number is for people. A call on several lines
//! is allowed if one of them allows it. `every-thread.txt` belongs to every filter. Names that begin with `virtio-` are those
//! of device workers; each of them has `device-worker.txt`, too. The thread that starts workers, and vCPUs that come later, has
//! all of theirs, because its filter stays on them. `back-end.txt` is for the main thread of `virga-vhost-user`.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use seccompiler::{BpfMap, TargetArch, compile_from_json};
use serde_json::{Value, json};

/// The tables' folder.
const TABLES: &str = "seccomp";
/// clone3(2) has its flags in memory, where no filter sees them. As if the kernel did not know it, callers use clone(2).
const CLONE3: u32 = 435;
/// `SECCOMP_RET_ERRNO` with `ENOSYS`.
const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;
// Instructions (linux/bpf_common.h): load a word of the call's data, jump if equal, return.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// One line of a table.
struct Allowed {
    call: String,
    /// Argument, operator, value.
    condition: Option<(u8, String, u64)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={TABLES}");
    println!("cargo:rerun-if-changed=build.rs");
    let mut tables = BTreeMap::new();
    for entry in fs::read_dir(TABLES)? {
        let path = entry?.path();
        if let Some(name) = name_of_table(&path) {
            let table = read_table(&path).map_err(|problem| format!("{}: {problem}", path.display()))?;
            tables.insert(name, table);
        }
    }
    let names: Vec<String> = tables.keys().cloned().collect();
    let workers = names.iter().filter(|name| name.starts_with("virtio-"));
    let mut filters: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in ["control", "vcpu", "debugger", "device-worker"] {
        filters.insert(name.to_owned(), vec!["every-thread", name]);
    }
    let mut manager = vec!["every-thread", "device-manager", "device-worker", "vcpu"];
    for name in workers {
        filters.insert(name.clone(), vec!["every-thread", "device-worker", name]);
        manager.push(name);
    }
    filters.insert("device-manager".to_owned(), manager);
    // A vhost-user back end's main thread starts the workers of one disk or network interface.
    let back_end = [
        "every-thread",
        "back-end",
        "device-worker",
        "virtio-block",
        "virtio-net",
    ];
    filters.insert("back-end".to_owned(), back_end.to_vec());

    let mut source = String::new();
    let mut list = String::new();
    for (name, parts) in &filters {
        let mut allowed: Vec<&Allowed> = Vec::new();
        for part in parts {
            allowed.extend(
                tables
                    .get(*part)
                    .ok_or_else(|| format!("there is no {TABLES}/{part}.txt"))?,
            );
        }
        let constant = name.replace('-', "_").to_uppercase();
        write_program(&mut source, &constant, &allowed)?;
        writeln!(list, "    (\"{name}\", {constant}, {constant}_CALLS),")?;
    }
    write!(
        source,
        "/// All filters: name, program, and the calls that are allowed with any or with some arguments.\n\
         pub static ALL: &[(&str, &[sock_filter], &[libc::c_long])] = &[\n{list}];\n"
    )?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("filters.rs"), source)?;
    Ok(())
}

fn name_of_table(path: &Path) -> Option<String> {
    let is_table = path.extension().is_some_and(|extension| extension == "txt");
    Some(path.file_stem().filter(|_| is_table)?.to_str()?.to_owned())
}

fn read_table(path: &Path) -> Result<Vec<Allowed>, Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let lines = lines.filter(|line| !line.trim().is_empty());
    lines
        .map(|line| read_line(line).map_err(|problem| format!("{line:?}: {problem}").into()))
        .collect()
}

fn read_line(line: &str) -> Result<Allowed, Box<dyn Error>> {
    let mut words = line.split_whitespace();
    let call = words.next().ok_or("there is no call")?.to_owned();
    let Some(argument) = words.next() else {
        return Ok(Allowed {
            call,
            condition: None,
        });
    };
    let operator = words
        .next()
        .ok_or("an argument needs `is`, `with` or `without`")?;
    let value = words.next().ok_or("a value is missing")?;
    let value = match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16)?,
        None => value.parse()?,
    };
    Ok(Allowed {
        call,
        condition: Some((argument.parse()?, operator.to_owned(), value.into())),
    })
}

fn rule(allowed: &Allowed) -> Result<Value, Box<dyn Error>> {
    let Some((argument, operator, value)) = &allowed.condition else {
        return Ok(json!({ "syscall": allowed.call }));
    };
    let (operator, value) = match operator.as_str() {
        "is" => (json!("eq"), *value),
        "with" => (json!({ "masked_eq": value }), *value),
        "without" => (json!({ "masked_eq": value }), 0),
        other => return Err(format!("{other:?} is not `is`, `with` or `without`").into()),
    };
    let condition = json!({ "index": argument, "type": "dword", "op": operator, "val": value });
    Ok(json!({ "syscall": allowed.call, "args": [condition] }))
}

/// Writes a filter's program and the calls in it as constants.
fn write_program(source: &mut String, name: &str, allowed: &[&Allowed]) -> Result<(), Box<dyn Error>> {
    // What one line allows without conditions gets none from another.
    let any: BTreeSet<&str> = allowed
        .iter()
        .filter(|line| line.condition.is_none())
        .map(|line| line.call.as_str())
        .collect();
    let mut rules: Vec<Value> = any.iter().map(|call| json!({ "syscall": call })).collect();
    for line in allowed.iter().filter(|line| !any.contains(line.call.as_str())) {
        let rule = rule(line)?;
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    let filter = json!({ "filter": { "mismatch_action": "trap", "match_action": "allow", "filter": rules } });
    let arch = TargetArch::try_from(env::var("CARGO_CFG_TARGET_ARCH")?.as_str())?;
    let programs: BpfMap = compile_from_json(filter.to_string().as_bytes(), arch)?;
    let program = programs.get("filter").ok_or("the compiler gives no program")?;

    writeln!(source, "static {name}: &[sock_filter] = &[")?;
    let answer_clone3 = [
        (LOAD, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, CLONE3),
        (RETURN, 0, 0, NO_SUCH_CALL),
    ];
    let compiled = program.iter().map(|step| (step.code, step.jt, step.jf, step.k));
    for (code, jt, jf, k) in answer_clone3.into_iter().chain(compiled) {
        writeln!(
            source,
            "    sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: {k:#x} }},"
        )?;
    }
    writeln!(source, "];")?;
    let calls: BTreeSet<&str> = allowed.iter().map(|line| line.call.as_str()).collect();
    writeln!(source, "static {name}_CALLS: &[libc::c_long] = &[")?;
    for call in calls {
        writeln!(source, "    libc::SYS_{call},")?;
    }
    writeln!(source, "];")?;
    Ok(())
}
