//! All requests of the control socket, one line each, and the handlers of those that need no file of their own.

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::{Builder, Uuid};

use super::api::{self, Call, Handler, Refusal, Route, document, done};
use super::http::Response;
use super::plug;
use super::state::StateInfo;
use crate::attach::AttachError;
use crate::device_manager::ApartError;
use crate::exit::{ExitReason, ExitReport};
use crate::machine::LifeError;
use devices::virtio::rng::fill_random;
use devices::virtio::update::UpdateError;

/// Every request.
pub const ROUTES: &[Route] = &[
    plain("GET", "/", "all requests", |_| document(&api::list())),
    plain(
        "GET",
        "/state",
        "created, running, paused or stopping; vCPUs and memory",
        state,
    ),
    plain("GET", "/devices", "all devices", |call| {
        document(&call.machine.devices())
    }),
    plain("GET", "/metrics", "counters of devices and exits", |call| {
        document(&call.machine.metrics())
    }),
    plain("GET", "/config", "what the VM was made from", |call| {
        document(call.machine.config())
    }),
    plain("PUT", "/start", "run a VM that waits for it", |call| {
        done(call.machine.start())
    }),
    plain("PUT", "/pause", "stop vCPUs and devices", |call| {
        done(call.machine.pause())
    }),
    plain("PUT", "/resume", "let them go on", |call| {
        done(call.machine.resume())
    }),
    plain("PUT", "/power-button", "ask the guest to power off", |call| {
        done(call.machine.press_power_button())
    }),
    plain("PUT", "/sleep-button", "ask the guest to sleep", |call| {
        done(call.machine.press_sleep_button())
    }),
    with_body("PUT", "/vcpus", "give the guest this many vCPUs", set_vcpus),
    with_body(
        "PUT",
        "/generation-id",
        "make the VM another one",
        set_generation_id,
    ),
    plain("PUT", "/stop", "end the VM at once", stop),
    with_body(
        "POST",
        "/devices",
        "add a disk, a net or a vsock device",
        plug::add,
    ),
    plain(
        "DELETE",
        "/devices/{id}",
        "remove a device; force=true does not ask the guest",
        plug::remove,
    ),
    with_body(
        "PATCH",
        "/devices/{id}",
        "change something of a device",
        update_device,
    ),
];

const fn plain(method: &'static str, path: &'static str, summary: &'static str, handler: Handler) -> Route {
    Route {
        method,
        path,
        summary,
        takes_body: false,
        handler,
    }
}

const fn with_body(
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    handler: Handler,
) -> Route {
    Route {
        method,
        path,
        summary,
        takes_body: true,
        handler,
    }
}

fn state(call: &mut Call<'_>) -> Result<Response, Refusal> {
    document(&StateInfo {
        state: call.machine.state(),
        pid: call.machine.process().pid,
        vcpus: call.machine.processor_count(),
        memory_bytes: call.machine.config().memory_bytes,
        sandbox: call.machine.process().sandbox.clone(),
        debugger: call.machine.debugger(),
    })
}

fn stop(call: &mut Call<'_>) -> Result<Response, Refusal> {
    call.machine.stopping();
    call.exit
        .raise(ExitReport::new(ExitReason::Killed, "stopped by request"));
    Ok(Response::ok(json!({})))
}

/// `PUT /vcpus`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vcpus {
    count: u8,
}

fn set_vcpus(call: &mut Call<'_>) -> Result<Response, Refusal> {
    let Vcpus { count } = call.document()?;
    let done = call.machine.set_processor_count(count)?;
    Ok(Response {
        status: if done { 200 } else { 202 },
        body: json!({ "count": call.machine.processor_count() }),
    })
}

/// `PUT /generation-id`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Generation {
    /// The new id; without it, a random one.
    #[serde(default)]
    generation_id: Option<Uuid>,
}

/// A random id (RFC 9562 §5.4). The kernel is asked: other sources are files, which the sandbox has left behind.
fn random_id() -> Result<Uuid, Refusal> {
    let mut bytes = [0; 16];
    match fill_random(&mut bytes) {
        true => Ok(Builder::from_random_bytes(bytes).into_uuid()),
        false => Err(Refusal::new(
            503,
            "the host has no random numbers yet; give a `generation_id`",
        )),
    }
}

fn set_generation_id(call: &mut Call<'_>) -> Result<Response, Refusal> {
    let Generation { generation_id } = call.document_or_default()?;
    let generation_id = generation_id.map_or_else(random_id, Ok)?;
    call.machine.set_generation_id(generation_id)?;
    document(&json!({ "generation_id": generation_id }))
}

/// What can be changed is the device's own affair: see the `Update` type beside its `Config`.
fn update_device(call: &mut Call<'_>) -> Result<Response, Refusal> {
    let update: Value = call.document()?;
    let answer = call.machine.update_device(call.name(), update)?;
    Ok(Response::ok(answer))
}

impl From<LifeError> for Refusal {
    fn from(error: LifeError) -> Self {
        let status = match &error {
            LifeError::Phase { .. } | LifeError::Stays(_) | LifeError::NoSlots | LifeError::Absent { .. } => {
                409
            }
            LifeError::Config(_) | LifeError::Processors { .. } => 400,
            LifeError::Attach(error) => match error {
                AttachError::Device { .. } => 400,
                AttachError::Pci { .. } => 409,
                _ => 500,
            },
            LifeError::NotStill(_) | LifeError::Make(ApartError::Hangs(_)) => 503,
            LifeError::NoDevice(_) => 404,
            LifeError::Update { source, .. } => match source {
                UpdateError::Invalid(_) => 400,
                UpdateError::Unsupported | UpdateError::Refused(_) => 409,
                UpdateError::NoAnswer => 503,
                UpdateError::Failed { .. } => 500,
            },
            LifeError::Device(_)
            | LifeError::Event(_)
            | LifeError::NoManager
            | LifeError::Make(_)
            | LifeError::Memory(_)
            | LifeError::Kvm(_)
            | LifeError::Thread(_) => 500,
        };
        Self::new(status, error.to_string())
    }
}
