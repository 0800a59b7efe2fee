//! What each request of the control socket does.

use serde::Serialize;
use serde_json::json;

use super::http::{Request, Response};
use super::state::StateInfo;
use crate::exit::{ExitReason, ExitReport};
use crate::exit_signal::ExitSignal;
use crate::machine::{LifeError, Machine};

/// Answers one request.
pub fn handle(machine: &mut Machine, exit: &ExitSignal, request: &Request) -> Response {
    let refused = !request.body.is_empty() && !only_empty_object(&request.body);
    if refused {
        return Response::error(400, "requests of the control socket take no body");
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/state") => document(&StateInfo {
            state: machine.state(),
            pid: std::process::id(),
            vcpus: machine.config().vcpus,
            memory_bytes: machine.config().memory_bytes,
        }),
        ("GET", "/devices") => document(&machine.devices()),
        ("GET", "/metrics") => document(&machine.metrics()),
        ("GET", "/config") => document(machine.config()),
        ("PUT", "/start") => done(machine.start()),
        ("PUT", "/pause") => done(machine.pause()),
        ("PUT", "/resume") => done(machine.resume()),
        ("PUT", "/power-button") => done(machine.press_power_button()),
        ("PUT", "/stop") => {
            machine.stopping();
            exit.raise(ExitReport::new(ExitReason::Killed, "stopped by request"));
            Response::ok(json!({}))
        }
        (method, "/state" | "/devices" | "/metrics" | "/config") => Response::error(
            405,
            format!("{method} is not possible on {}; use GET", request.path),
        ),
        (method, "/start" | "/pause" | "/resume" | "/power-button" | "/stop") => Response::error(
            405,
            format!("{method} is not possible on {}; use PUT", request.path),
        ),
        (_, path) => Response::error(
            404,
            format!(
                "there is no {path}; GET state, devices, metrics, config; PUT start, pause, resume, power-button, stop"
            ),
        ),
    }
}

/// Some clients send `{}` where nothing is asked for.
fn only_empty_object(body: &[u8]) -> bool {
    body.trim_ascii() == b"{}"
}

fn document(value: &impl Serialize) -> Response {
    match serde_json::to_value(value) {
        Ok(value) => Response::ok(value),
        Err(error) => Response::error(500, format!("cannot encode the answer: {error}")),
    }
}

fn done(result: Result<(), LifeError>) -> Response {
    match result {
        Ok(()) => Response::ok(json!({})),
        Err(error @ LifeError::Phase { .. }) => Response::error(409, error.to_string()),
        Err(error @ LifeError::NotStill(_)) => Response::error(503, error.to_string()),
        Err(error) => Response::error(500, error.to_string()),
    }
}
