//! The thread that starts and stops device workers.
//!
//! A driver activates its device by a register write, on a vCPU's thread. New threads inherit the filter of the one
//! that starts them, and a vCPU's filter allows nothing that a worker needs, so starting and stopping is done here,
//! on behalf of the vCPU, which waits. [`Managed`] wraps a device for that; its transport does not notice. Devices that
//! come while the guest runs are made by a thread that starts here, as their files may hang, and whoever drops one, it ends here. A device whose requests are still with the
//! host's kernel or a back end when it is dropped lingers until they have ended; nobody else waits for it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use devices::virtio::config_space::ConfigSpace;
use devices::virtio::device::{Activation, DeviceError, DeviceType, Reset, VirtioDevice};
use devices::virtio::queue::QueueState;
use devices::virtio::update::{Pending, UpdateError};

use crate::affinity;
use crate::config::Numbers;
use crate::exit_signal::ExitSignal;
use crate::sandbox::seccomp::{Filters, ThreadKind};

/// Devices that are gone for everybody else, but for the requests they still have.
type Lingering = Vec<Box<dyn VirtioDevice>>;

type Job = Box<dyn FnOnce(&mut Lingering) + Send>;

/// Jobs that wait: each vCPU and the control thread have one at most.
const MAX_JOBS: usize = 40;

/// Making devices and starting workers takes little.
const STACK_SIZE: usize = 128 << 10;

/// How long the thread may take when the VM ends: it may be stuck for good in a refused system call.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// How often lingering devices are looked after.
const LINGER: Duration = Duration::from_millis(100);

/// Why work on a thread of its own came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApartError {
    /// It takes too long.
    #[error(
        "its file, network or back end did not answer within {0:?} and was given up; try again once it does"
    )]
    Hangs(Duration),
    /// It got no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The manager's thread is gone, or the one for this work has died: a defect of this program.
    #[error("the thread that makes devices does not answer")]
    Gone,
}

/// A handle on the thread; it ends with the last handle.
#[derive(Clone)]
pub struct DeviceManager {
    jobs: SyncSender<Job>,
    exit: Arc<ExitSignal>,
}

/// The thread before it is started. Jobs wait until then.
pub struct DeviceThread {
    queue: Receiver<Job>,
}

impl DeviceThread {
    /// Starts the thread, which installs its filter before it does anything; meanwhile the caller may go on. To be called once
    /// the process has dropped its privileges: threads inherit what their maker has. So workers run on `cpus` of the host, if it
    /// names some.
    pub fn start(self, filters: Filters, cpus: Option<Numbers>) -> io::Result<StartedThread> {
        let (ready, is_ready) = sync_channel(1);
        std::thread::Builder::new()
            .name("devices".into())
            .stack_size(STACK_SIZE)
            .spawn(move || {
                let pinned = cpus.as_ref().map_or(Ok(()), affinity::pin);
                let installed = pinned
                    .map_err(io::Error::from)
                    .and_then(|()| filters.install(ThreadKind::DeviceManager));
                let go_on = installed.is_ok();
                let _ = ready.send(installed);
                if go_on {
                    self.work();
                }
            })?;
        Ok(StartedThread { is_ready })
    }

    fn work(self) {
        let mut lingering = Lingering::new();
        loop {
            let job = match lingering.is_empty() {
                true => self.queue.recv().map_err(RecvTimeoutError::from),
                false => self.queue.recv_timeout(LINGER),
            };
            match job {
                Ok(job) => job(&mut lingering),
                Err(RecvTimeoutError::Timeout) => {
                    lingering.retain_mut(|device| device.reset() == Reset::Pending);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }
}

/// The thread while it gets ready.
#[must_use]
pub struct StartedThread {
    is_ready: Receiver<io::Result<()>>,
}

impl StartedThread {
    /// Waits until the thread has its place and its filter.
    pub fn wait(self) -> io::Result<()> {
        self.is_ready.recv().map_err(io::Error::other)?
    }
}

impl DeviceManager {
    /// A handle, and the thread to start.
    #[must_use]
    pub fn new(exit: Arc<ExitSignal>) -> (Self, DeviceThread) {
        let (jobs, queue) = sync_channel(MAX_JOBS);
        (Self { jobs, exit }, DeviceThread { queue })
    }

    /// Runs `work` on the thread and waits for what it returns; `None` if the thread is gone, or is stuck while the VM ends.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.run_with(|_| work())
    }

    fn run_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Lingering) -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = sync_channel(1);
        self.jobs
            .send(Box::new(move |lingering| {
                let _ = done.send(work(lingering));
            }))
            .ok()?;
        loop {
            match result.recv_timeout(END_PATIENCE) {
                Ok(result) => return Some(result),
                Err(RecvTimeoutError::Timeout) if !self.exit.is_raised() => {}
                Err(_) => return None,
            }
        }
    }

    /// Runs `work`, which may hang on the host's storage, on a thread of its own that the manager's thread makes, and waits
    /// for it for so long. What comes of it later is dropped.
    pub fn run_apart<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApartError> {
        let (done, result) = sync_channel(1);
        let spawned = self.run(|| {
            std::thread::Builder::new()
                .name("new-device".into())
                .stack_size(STACK_SIZE)
                .spawn(move || {
                    let _ = done.send(work());
                })
        });
        spawned.ok_or(ApartError::Gone)?.map_err(ApartError::Thread)?;
        result.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => ApartError::Hangs(patience),
            RecvTimeoutError::Disconnected => ApartError::Gone,
        })
    }

    /// Wraps a device.
    #[must_use]
    pub fn manage(&self, device: Box<dyn VirtioDevice>) -> Box<dyn VirtioDevice> {
        Box::new(Managed {
            device_type: device.device_type(),
            device: Some(device),
            manager: self.clone(),
        })
    }
}

/// A device whose workers are started and stopped by the manager's thread. The device is away from here only while
/// such a call runs, and every call has this struct for itself; it stays away if the manager's thread dies.
struct Managed {
    device_type: DeviceType,
    device: Option<Box<dyn VirtioDevice>>,
    manager: DeviceManager,
}

/// Configuration space of a device that is gone.
static NO_CONFIG: std::sync::LazyLock<ConfigSpace> =
    std::sync::LazyLock::new(|| ConfigSpace::new(Vec::new()));

impl Managed {
    fn away<T: Send + 'static>(
        &mut self,
        operation: &'static str,
        work: impl FnOnce(&mut dyn VirtioDevice) -> T + Send + 'static,
    ) -> Result<T, DeviceError> {
        let gone = DeviceError::Phase {
            device: self.device_type,
            operation,
            phase: "gone",
        };
        let Some(mut device) = self.device.take() else {
            return Err(gone);
        };
        let done = self.manager.run(move || {
            let result = work(device.as_mut());
            (device, result)
        });
        match done {
            Some((device, result)) => {
                self.device = Some(device);
                Ok(result)
            }
            None => Err(gone),
        }
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        // Ending a device takes system calls that a vCPU must not make, and a vCPU may be the last to hold it.
        if let Some(device) = self.device.take() {
            self.manager.run_with(|lingering| end(device, lingering));
        }
    }
}

fn end(mut device: Box<dyn VirtioDevice>, lingering: &mut Lingering) {
    if device.reset() == Reset::Pending {
        let kind = device.device_type();
        tracing::warn!(device = ?kind, "a device that is gone still waits for its disk or back end");
        lingering.push(device);
    }
}

impl VirtioDevice for Managed {
    fn device_type(&self) -> DeviceType {
        self.device_type
    }

    fn features(&self) -> u64 {
        self.device.as_ref().map_or(0, |device| device.features())
    }

    fn ring_features(&self) -> u64 {
        self.device.as_ref().map_or(0, |device| device.ring_features())
    }

    fn queue_sizes(&self) -> &[u16] {
        self.device.as_ref().map_or(&[], |device| device.queue_sizes())
    }

    fn config(&self) -> &ConfigSpace {
        self.device.as_ref().map_or(&NO_CONFIG, |device| device.config())
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let Some(device) = &mut self.device {
            device.write_config(offset, data);
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError> {
        self.away("activate", move |device| device.activate(activation))?
    }

    fn reset(&mut self) -> Reset {
        // There is nothing to wait for if the device is gone.
        self.away("reset", |device| device.reset()).unwrap_or(Reset::Done)
    }

    fn refresh(&mut self) {
        // It only leaves a message to the workers.
        if let Some(device) = &mut self.device {
            device.refresh();
        }
    }

    fn pause(&mut self) -> Result<(), DeviceError> {
        self.away("pause", |device| device.pause())?
    }

    fn resume(&mut self) -> Result<(), DeviceError> {
        self.away("resume", |device| device.resume())?
    }

    fn update(&mut self, update: serde_json::Value) -> Pending {
        self.away("update", move |device| device.update(update))
            .unwrap_or_else(|_| Pending::now(Err(UpdateError::NoAnswer)))
    }

    fn save(&self) -> Result<serde_json::Value, DeviceError> {
        let gone = DeviceError::Phase {
            device: self.device_type,
            operation: "save",
            phase: "gone",
        };
        self.device.as_ref().ok_or(gone)?.save()
    }

    fn queue_states(&self) -> Vec<QueueState> {
        self.device
            .as_ref()
            .map_or_else(Vec::new, |device| device.queue_states())
    }

    fn metrics(&self) -> serde_json::Value {
        self.device
            .as_ref()
            .map_or(serde_json::Value::Null, |device| device.metrics())
    }
}
