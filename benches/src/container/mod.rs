//! Containers by the OCI command line: `virga-run oci` beside crun and runc, with the same bundle.
//!
//! Two things are measured, from outside and in turns: the time of `create`, `start` and `delete` for a container that
//! runs `true`; and for a container that stays, the time from the start of `create` to the first thing its process
//! says. Each is done as root's own container and with a user namespace, as system containers have it.

mod bundle;
mod hierarchy;
mod runtime;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::interrupt;
use crate::process;
use crate::report::{Better, Outcome, Row};
use crate::setting::Setting;
use crate::stats::median;
use bundle::{Bundle, Task};
use hierarchy::OneHierarchy;
use runtime::Runtime;

/// Rounds, unless the user says otherwise.
const ROUNDS: usize = 15;

/// The kernel takes the namespaces of a container apart in the background, and holds up whoever makes the next one.
const PAUSE: Duration = Duration::from_millis(60);

/// One kind of measurement.
struct Case {
    name: &'static str,
    task: Task,
    user_namespace: bool,
}

const CASES: [Case; 4] = [
    Case {
        name: "container: create + start + delete of true",
        task: Task::True,
        user_namespace: false,
    },
    Case {
        name: "container: create to first output",
        task: Task::Stay,
        user_namespace: false,
    },
    Case {
        name: "container: create + start + delete of true, user namespace",
        task: Task::True,
        user_namespace: true,
    },
    Case {
        name: "container: create to first output, user namespace",
        task: Task::Stay,
        user_namespace: true,
    },
];

/// Measures all runtimes that are there.
pub fn measure(setting: &Setting) -> Result<Vec<Row>> {
    process::adopt_orphans()?;
    let _view = OneHierarchy::enter()?;
    let scratch = TempDir::with_prefix("virga-bench-oci.").context("cannot make a scratch folder")?;
    let runtimes = Runtime::all(setting, scratch.path());
    let rootfs = bundle::rootfs(setting, scratch.path());
    let mut rows = Vec::new();
    for case in &CASES {
        let rootfs = match &rootfs {
            Ok(rootfs) => rootfs,
            Err(error) => {
                rows.push(row(
                    case,
                    vec![Err(format!("{error:#}")); runtimes.len()],
                    &runtimes,
                ));
                continue;
            }
        };
        let bundle = Bundle::create(scratch.path(), rootfs, case.task, case.user_namespace)?;
        let rounds = setting.rounds(ROUNDS);
        let mut samples: Vec<Result<Vec<f64>, String>> = runtimes
            .iter()
            .map(|runtime| runtime.missing().map_or(Ok(Vec::new()), Err))
            .collect();
        for round in 0..=rounds {
            setting.progress(case.name, round, rounds);
            for (runtime, samples) in runtimes.iter().zip(&mut samples) {
                interrupt::check()?;
                let Ok(values) = samples else { continue };
                thread::sleep(PAUSE);
                let took = once(runtime, &bundle, case.task);
                process::reap_orphans();
                match took {
                    // The first round brings files into the page cache.
                    Ok(_) if round == 0 => {}
                    Ok(took) => values.push(took.as_secs_f64() * 1e3),
                    Err(error) => {
                        interrupt::check()?;
                        setting.remark(&format!("{}: {}: {error:#}", case.name, runtime.name));
                        *samples = Err(format!("{error:#}"));
                    }
                }
            }
        }
        let outcomes = samples
            .into_iter()
            .map(|samples| median(&samples?).ok_or_else(|| "no samples".to_owned()))
            .collect();
        rows.push(row(case, outcomes, &runtimes));
    }
    Ok(rows)
}

fn row(case: &Case, mut outcomes: Vec<Outcome>, runtimes: &[Runtime]) -> Row {
    let ours = outcomes.remove(0);
    let names = runtimes.iter().skip(1).map(|runtime| runtime.name.to_owned());
    Row {
        name: case.name.to_owned(),
        unit: "ms",
        better: Better::Lower,
        ours,
        peers: names.zip(outcomes).collect(),
    }
}

/// One container from its creation to its end; the part of it that is measured.
fn once(runtime: &Runtime, bundle: &Bundle, task: Task) -> Result<Duration> {
    let container = runtime.container(bundle);
    let began = Instant::now();
    container.create()?;
    container.start()?;
    match task {
        Task::True => {
            // Some runtimes return from `start` before the process has begun; without this it might never have run.
            container.wait_for_end()?;
            container.delete()?;
            Ok(began.elapsed())
        }
        Task::Stay => {
            container.wait_for_output()?;
            let took = began.elapsed();
            container.delete()?;
            Ok(took)
        }
    }
}
