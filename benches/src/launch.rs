//! The life of a container through the API: `launch` (create and start until the operation has ended), `exec true` and
//! `delete -f`, of the same image beside Incus; and what the daemons cost while they do nothing.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::api::row;
use crate::daemon::{self, Daemon};
use crate::interrupt;
use crate::report::{Better, Outcome, Row};
use crate::setting::Setting;
use crate::stats::median;

/// Rounds, unless the user says otherwise.
const ROUNDS: usize = 9;
/// How long a daemon is left alone before its memory is looked at.
const IDLE: Duration = Duration::from_secs(1);

const STEPS: [&str; 3] = ["launch", "exec true", "delete -f"];

/// Measures both daemons.
pub fn measure(setting: &Setting) -> Result<Vec<Row>> {
    let rounds = setting.rounds(ROUNDS);
    let mut daemons = daemon::all(setting);
    let each = |daemons: &[Result<Daemon, String>], get: &dyn Fn(&Daemon) -> Outcome| -> Vec<Outcome> {
        daemons
            .iter()
            .map(|daemon| daemon.as_ref().map_err(Clone::clone).and_then(get))
            .collect()
    };
    let starts = each(&daemons, &|daemon| Ok(daemon.start.as_secs_f64() * 1e3));
    std::thread::sleep(IDLE);
    let idle = each(&daemons, &|daemon| {
        let bytes = daemon.resident_bytes().map_err(|error| format!("{error:#}"))?;
        Ok(bytes as f64 / 1_048_576.0)
    });
    // Milliseconds: by daemon, by step.
    let mut samples = vec![[const { Vec::new() }; STEPS.len()]; daemons.len()];
    for round in 0..=rounds {
        setting.progress("launch", round, rounds);
        for (daemon, samples) in daemons.iter_mut().zip(&mut samples) {
            interrupt::check()?;
            let Ok(running) = daemon else { continue };
            match life(running, &format!("bench{round}")) {
                // The first round unpacks and caches.
                Ok(_) if round == 0 => {}
                Ok(times) => times
                    .iter()
                    .zip(samples)
                    .for_each(|(time, samples)| samples.push(time.as_secs_f64() * 1e3)),
                Err(error) => {
                    interrupt::check()?;
                    setting.remark(&format!("launch: {}: {error:#}", running.name));
                    *daemon = Err(format!("{error:#}"));
                }
            }
        }
    }
    let mut rows = Vec::new();
    for (step, name) in STEPS.into_iter().enumerate() {
        let outcomes = daemons
            .iter()
            .zip(&samples)
            .map(|(daemon, samples)| match daemon {
                Ok(_) => median(&samples[step]).ok_or_else(|| "no samples".to_owned()),
                Err(reason) => Err(reason.clone()),
            });
        rows.push(row(
            format!("launch: {name}"),
            "ms",
            Better::Lower,
            outcomes.collect(),
        ));
    }
    rows.push(row(
        "daemon: first start to ready".to_owned(),
        "ms",
        Better::Lower,
        starts,
    ));
    rows.push(row(
        "daemon: resident memory, idle".to_owned(),
        "MiB",
        Better::Lower,
        idle,
    ));
    Ok(rows)
}

fn life(daemon: &Daemon, name: &str) -> Result<[Duration; STEPS.len()]> {
    let mut client = daemon.client()?;
    let began = Instant::now();
    client.create(name, true)?;
    let launched = Instant::now();
    client.exec(name, &["true"])?;
    let executed = Instant::now();
    client.delete(name)?;
    Ok([launched - began, executed - launched, executed.elapsed()])
}
