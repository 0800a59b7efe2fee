//! Reading the API: requests per second and latency of `virgad` and Incus' daemon, over keep-alive connections on their
//! unix sockets, with the same instances: one that runs and some that do not.
//!
//! The client is the same for both and costs about 10 µs a request. Each measurement is bounded by a number of
//! requests and by time; the two daemons take turns.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::daemon::{self, Client, Daemon};
use crate::http::Connection;
use crate::interrupt;
use crate::report::{Better, Outcome, Row};
use crate::setting::Setting;
use crate::stats::median;

/// Instances that are stopped.
const STOPPED: usize = 10;
/// The one that runs.
const RUNNING: &str = "running";
/// Bounds of one measurement.
const MOST_REQUESTS: usize = 20_000;
const MOST_TIME: Duration = Duration::from_millis(700);
/// Rounds, unless the user says otherwise.
const ROUNDS: usize = 3;

/// What is asked for, and how it is called in the report.
const PATHS: [(&str, &str); 5] = [
    ("/1.0", "GET /1.0"),
    ("/1.0/instances", "GET instances"),
    ("/1.0/instances?recursion=1", "GET instances?recursion=1"),
    ("/1.0/instances/running", "GET one instance"),
    ("/1.0/instances/running/state", "GET its state"),
];

/// Requests per second and median latency in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    latency_ms: f64,
}

/// Measures both daemons.
pub fn measure(setting: &Setting) -> Result<Vec<Row>> {
    let daemons: Vec<Result<Daemon, String>> = daemon::all(setting)
        .into_iter()
        .map(|daemon| {
            daemon.and_then(|daemon| prepare(&daemon).map(|()| daemon).map_err(|e| format!("{e:#}")))
        })
        .collect();
    let rounds = setting.rounds(ROUNDS);
    let mut rows = Vec::new();
    for (path, label) in PATHS {
        let of = |connections: usize| -> Result<Vec<Result<Rate, String>>> {
            setting.progress(&format!("api: {label}, {connections} connections"), 0, 1);
            let mut rates = vec![Vec::new(); daemons.len()];
            for _ in 0..rounds {
                for (daemon, rates) in daemons.iter().zip(&mut rates) {
                    rates.push(rate(daemon, path, connections)?);
                }
            }
            Ok(rates.into_iter().map(middle).collect())
        };
        let (one, four) = (of(1)?, of(4)?);
        let value = |rates: &[Result<Rate, String>], get: fn(Rate) -> f64| -> Vec<Outcome> {
            rates.iter().map(|rate| rate.clone().map(get)).collect()
        };
        let higher = Better::Higher;
        rows.push(row(
            format!("api: {label}, 1 connection"),
            "1/s",
            higher,
            value(&one, |rate| rate.per_second),
        ));
        rows.push(row(
            format!("api: {label}, 4 connections"),
            "1/s",
            higher,
            value(&four, |rate| rate.per_second),
        ));
        rows.push(row(
            format!("api: {label}, median latency"),
            "ms",
            Better::Lower,
            value(&one, |rate| rate.latency_ms),
        ));
    }
    Ok(rows)
}

pub(crate) fn row(name: String, unit: &'static str, better: Better, outcomes: Vec<Outcome>) -> Row {
    let mut outcomes = outcomes.into_iter();
    let ours = outcomes.next().unwrap_or_else(|| Err("not measured".to_owned()));
    Row {
        name,
        unit,
        better,
        ours,
        peers: outcomes.map(|outcome| ("incus".to_owned(), outcome)).collect(),
    }
}

fn prepare(daemon: &Daemon) -> Result<()> {
    eprintln!("api: {}: making {} instances", daemon.name, STOPPED + 1);
    let mut client: Client = daemon.client()?;
    for number in 0..STOPPED {
        interrupt::check()?;
        client.create(&format!("stopped{number}"), false)?;
    }
    client.create(RUNNING, true)
}

/// An interruption is an error of the whole; anything else is a reason not to have this number.
fn rate(daemon: &Result<Daemon, String>, path: &str, connections: usize) -> Result<Result<Rate, String>> {
    let daemon = match daemon {
        Ok(daemon) => daemon,
        Err(reason) => return Ok(Err(reason.clone())),
    };
    let outcome = load(&daemon.socket, path, connections);
    interrupt::check()?;
    Ok(outcome.map_err(|error| format!("{error:#}")))
}

/// The median of the rounds; or the first reason why one failed.
fn middle(rounds: Vec<Result<Rate, String>>) -> Result<Rate, String> {
    let rounds = rounds.into_iter().collect::<Result<Vec<_>, _>>()?;
    let of = |get: fn(&Rate) -> f64| {
        let values: Vec<f64> = rounds.iter().map(get).collect();
        median(&values).ok_or_else(|| "no samples".to_owned())
    };
    Ok(Rate {
        per_second: of(|rate| rate.per_second)?,
        latency_ms: of(|rate| rate.latency_ms)?,
    })
}

fn load(socket: &Path, path: &str, connections: usize) -> Result<Rate> {
    let began = Instant::now();
    let samples: Vec<Result<Vec<f64>>> = thread::scope(|scope| {
        let each = MOST_REQUESTS / connections;
        let threads: Vec<_> = (0..connections)
            .map(|_| scope.spawn(move || requests(socket, path, each)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a client panicked")))
            })
            .collect()
    });
    let took = began.elapsed().as_secs_f64();
    let samples: Vec<f64> = samples.into_iter().collect::<Result<Vec<_>>>()?.concat();
    Ok(Rate {
        per_second: samples.len() as f64 / took,
        latency_ms: median(&samples).context("no request was answered")?,
    })
}

fn requests(socket: &Path, path: &str, most: usize) -> Result<Vec<f64>> {
    let mut connection = Connection::open(socket)?;
    let began = Instant::now();
    let mut samples = Vec::with_capacity(most);
    while samples.len() < most && began.elapsed() < MOST_TIME && !interrupt::requested() {
        let sent = Instant::now();
        let answer = connection.get(path)?;
        samples.push(sent.elapsed().as_secs_f64() * 1e3);
        ensure!(
            answer.status == 200,
            "{path} was answered with status {}",
            answer.status
        );
    }
    Ok(samples)
}
