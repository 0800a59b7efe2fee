//! What the control socket can be asked.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Monitor;
use crate::Error;
use crate::http::Request;
use crate::spec::Limits;
use crate::state::Phase;

/// Body of `PUT /kill`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kill {
    signal: i32,
}

/// Body of `PUT /console-size`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    width: u16,
    height: u16,
}

type Answer = (u16, Vec<u8>);

/// The JSON of a refusal.
pub(super) fn error_body(message: &str) -> Vec<u8> {
    json!({ "error": message }).to_string().into_bytes()
}

fn refuse(status: u16, message: &str) -> Answer {
    (status, error_body(message))
}

fn say(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => (200, body),
        Err(error) => refuse(500, &error.to_string()),
    }
}

fn outcome(result: crate::Result<()>) -> Answer {
    match result {
        Ok(()) => (200, b"{}".to_vec()),
        Err(error @ Error::Spec { .. }) => refuse(400, &error.chain()),
        Err(error) => refuse(500, &error.chain()),
    }
}

fn with_body<T: DeserializeOwned>(request: &Request, act: impl FnOnce(T) -> Answer) -> Answer {
    match serde_json::from_slice(&request.body) {
        Ok(body) => act(body),
        Err(error) => refuse(400, &format!("{}: {error}", request.path)),
    }
}

impl Monitor {
    /// Does what is asked.
    pub(super) fn answer(&mut self, request: &Request) -> Answer {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/state") => say(&self.state()),
            ("GET", "/metrics") => say(&self.cgroup.metrics()),
            ("PUT", "/start") => self.start(),
            ("PUT", "/kill") => with_body(request, |body: Kill| {
                if !(1..=64).contains(&body.signal) {
                    return refuse(400, &format!("{} is not a signal", body.signal));
                }
                outcome(self.signal(body.signal))
            }),
            ("PUT", "/freeze") => self.freeze(true),
            ("PUT", "/thaw") => self.freeze(false),
            ("PUT", "/console-size") => with_body(request, |size: Size| {
                outcome(self.console.resize(size.width, size.height))
            }),
            ("PUT", "/limits") => with_body(request, |limits: Limits| {
                outcome(limits.validate().and_then(|()| self.cgroup.apply(&limits, false)))
            }),
            (
                _,
                "/state" | "/metrics" | "/start" | "/kill" | "/freeze" | "/thaw" | "/console-size"
                | "/limits",
            ) => refuse(405, &format!("{} is not allowed here", request.method)),
            _ => refuse(404, &format!("{} does not exist", request.path)),
        }
    }

    fn start(&mut self) -> Answer {
        if self.phase != Phase::Created {
            return refuse(409, "the container has been started already");
        }
        match self.created.start() {
            Ok(()) => {
                self.phase = Phase::Running;
                (200, b"{}".to_vec())
            }
            Err(error) => {
                // The process is ending by itself; how is in exit.json then.
                self.start_error = Some(error.chain());
                refuse(500, &error.chain())
            }
        }
    }

    fn freeze(&mut self, frozen: bool) -> Answer {
        let (from, to) = if frozen {
            (Phase::Running, Phase::Frozen)
        } else {
            (Phase::Frozen, Phase::Running)
        };
        if self.phase == to {
            return (200, b"{}".to_vec());
        }
        if self.phase != from {
            return refuse(409, "the container is not running");
        }
        let result = self.cgroup.freeze(frozen);
        if result.is_ok() {
            self.phase = to;
        }
        outcome(result)
    }
}
