//! Builds a machine from its configuration: memory, KVM, devices, kernel, tables, registers.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use devices::bus::Bus;
use devices::hotplug::{self, Hotplug};
use devices::legacy::cmos::{self, Cmos};
use devices::legacy::i8042::{self, I8042};
use devices::legacy::serial::{self, InputWanted, Serial};
use devices::pci::access::{CONFIG_PORTS_BASE, CONFIG_PORTS_SIZE, ECAM_SIZE};
use devices::pci::{PciBus, i6300esb};
use devices::virtio::transport::Machine as Environment;
use vm_memory::{GuestMemoryAtomic, GuestMemoryBackend};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::affinity;
use crate::arch::acpi::{self, DeviceBus, Platform};
use crate::arch::boot_params::{self, BootInfo};
use crate::arch::{layout, registers, smbios};
use crate::attach::{self, Slots};
use crate::clock::BootClock;
use crate::config::{BootProtocol, Transport, VmConfig, WatchdogConfig};
use crate::console::{Output, Sink};
use crate::control::state::{DeviceInfo, DeviceState};
use crate::device_manager::{DeviceManager, DeviceThread};
use crate::events::Events;
use crate::exit::{ExitReason, ExitReport};
use crate::exit_signal::ExitSignal;
use crate::generation;
use crate::host_file::{self, Access};
use crate::kvm::interrupts::Interrupts;
use crate::kvm::notify::Notifications;
use crate::kvm::processors::Processors;
use crate::kvm::vm::{Vm, call};
use crate::loader::{self, Kernel, LoadError, initrd};
use crate::machine::{Blueprint, BuildError};
use crate::memory::{self, Ram};
use crate::power::{self, PowerRegisters};
use crate::pvpanic::{self, PvPanic};
use crate::sandbox::seccomp::{Filters, ThreadKind};
use crate::watchdog::Watchdog;

/// A machine and the host's ends of its consoles.
pub struct Built {
    /// The machine.
    pub blueprint: Blueprint,
    /// The thread that starts device workers; it is to be started before the guest.
    pub device_thread: DeviceThread,
    /// The serial port, for input.
    pub serial: Arc<Mutex<Serial>>,
    /// What the serial port prints.
    pub output: Arc<Output>,
    /// Signalled when the serial port has room for input.
    pub input_wanted: Arc<EventFd>,
    /// The virtio console's other end.
    pub hvc: Option<UnixStream>,
}

fn resource(what: &'static str) -> impl FnOnce(io::Error) -> BuildError {
    move |source| BuildError::Resource { what, source }
}

/// Builds the machine.
pub fn build(
    config: VmConfig,
    exit: &Arc<ExitSignal>,
    clock: &BootClock,
    filters: Filters,
) -> Result<Built, BuildError> {
    // What is cheap to check and often wrong comes first, before KVM is asked for anything.
    affinity::check(&config.cpu)?;
    config
        .memory
        .check_addresses(config.memory_bytes, layout::address_bits())?;
    let memory = memory::create(config.memory_bytes, &config.memory)?;
    let kernel = load_kernel(&memory, &config)?;
    let initrd = load_initrd(&memory, &config, &kernel)?;
    let (mut made, hvc) = attach::make_all(&config)?;
    let (persistent, mappings) = attach::pmem::make_all(&config)?;
    made.extend(persistent);

    let vm = Vm::new(&memory, config.max_vcpus())?;
    for (mapping, slot) in mappings.iter().zip(memory.num_regions() as u32..) {
        vm.add_mapping(slot, mapping)?;
    }
    let interrupts = Interrupts::new(vm.fd());
    let environment = Environment {
        memory: GuestMemoryAtomic::new(memory.clone()),
        notify: Arc::new(Notifications(vm.fd())),
        thread_hook: Arc::new(move |name| filters.install(ThreadKind::DeviceWorker(name))),
    };
    let (ports, mmio) = (Arc::new(Bus::new()), Arc::new(Bus::new()));
    let (manager, device_thread) = DeviceManager::new(exit.clone());
    let pvpanic =
        PvPanic::new(exit.clone()).map_err(|error| resource("the panic device")(io::Error::other(error)))?;
    let pvpanic = Arc::new(Mutex::new(pvpanic));
    let mut watchdog = None;
    let (devices, slots, device_bus) = match config.transport {
        Transport::Pci => {
            let bus = pci_bus(&config, &ports, &mmio)?;
            let slots = Slots::new(bus.clone(), &interrupts, environment, manager.clone())
                .map_err(resource("an event descriptor"))?;
            let devices = made.into_iter().map(|made| slots.attach(made));
            let devices = devices.collect::<Result<_, _>>()?;
            bus.add(None, pvpanic)
                .map_err(|error| resource("a PCI slot")(io::Error::other(error)))?;
            if let Some(config) = config.watchdog {
                watchdog = Some(add_watchdog(&bus, config)?);
            }
            let registers = Arc::new(Mutex::new(slots.registers()));
            ports.insert(u64::from(layout::SLOT_PORTS), hotplug::SIZE, registers)?;
            (devices, Some(slots), DeviceBus::Pci)
        }
        Transport::Mmio => {
            ports.insert(u64::from(pvpanic::PORT), 1, pvpanic)?;
            let (devices, places) = attach::attach_mmio(made, &mmio, &interrupts, &environment, &manager)?;
            (devices, None, DeviceBus::Mmio(places))
        }
    };

    let output = Output::new().map_err(resource("an event descriptor"))?;
    let input_wanted = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(resource("an event descriptor"))?;
    let input_wanted = Arc::new(input_wanted);
    let wake = input_wanted.clone();
    let wanted: InputWanted = Box::new(move || {
        // Fails only when it is signalled already.
        let _ = wake.write(1);
    });
    let line = interrupts
        .line(layout::COM1_IRQ)
        .map_err(resource("the serial port's interrupt"))?;
    let serial = Arc::new(Mutex::new(Serial::new(
        line,
        Box::new(Sink(output.clone())),
        wanted,
    )));
    ports.insert(serial::COM1_BASE, serial::SIZE, serial.clone())?;
    let reset = exit.clone();
    let controller = I8042::new(Box::new(move || {
        reset.raise(ExitReport::new(
            ExitReason::Reset,
            "the guest asked for a reset (keyboard controller)",
        ));
    }));
    ports.insert(i8042::BASE, i8042::SIZE, Arc::new(Mutex::new(controller)))?;
    let mut ram = layout::ram_ranges(config.memory_bytes).into_iter();
    let mut next = || ram.next().map_or(0, |(_, len)| len);
    let rtc = Cmos::new(next(), next());
    ports.insert(cmos::BASE, cmos::SIZE, Arc::new(Mutex::new(rtc)))?;
    ports.insert(
        power::BASE,
        power::SIZE,
        Arc::new(Mutex::new(PowerRegisters::new(exit.clone()))),
    )?;
    let line = interrupts
        .line(layout::GED_IRQ)
        .map_err(resource("the event device's interrupt"))?;
    let events = Events::new(line);
    ports.insert(
        u64::from(acpi::SELECTOR),
        1,
        Arc::new(Mutex::new(events.selector())),
    )?;

    let platform = Platform {
        memory_bytes: config.memory_bytes,
        memory: config.memory.clone(),
        vcpus: config.vcpus,
        topology: config.topology(),
        bus: device_bus,
        generation_id: config.generation_id.is_some(),
    };
    let tables = acpi::write_tables(&memory, &platform)?;
    if let Some(smbios) = &config.smbios {
        smbios::write(&memory, smbios)?;
    }
    if let Some(id) = config.generation_id {
        generation::write(&memory, id)?;
    }
    write_boot_info(&memory, &config, &kernel, initrd, tables.rsdp)?;
    memory::prefault(&memory, config.memory_bytes, &config.memory)?;
    clock.loaded();
    let changes = config.cpu.changes()?;
    let processors = Arc::new(Processors::new(
        &vm,
        config.topology(),
        config.cpu.model,
        &changes,
    )?);
    let pluggable = Hotplug::new(Box::new(|index| {
        tracing::info!(index, "the guest has let go of a processor");
    }));
    (0..config.vcpus).for_each(|index| pluggable.hold(index));
    if config.max_vcpus() > config.vcpus {
        let registers = Arc::new(Mutex::new(pluggable.registers()));
        ports.insert(u64::from(layout::PROCESSOR_PORTS), hotplug::SIZE, registers)?;
    }
    let vcpus = create_vcpus(&processors, config.vcpus, &kernel)?;
    let serial_info = DeviceInfo {
        id: "serial".to_owned(),
        kind: "serial".to_owned(),
        address: format!("port {:#x}", layout::COM1_PORT),
        state: DeviceState::Present,
    };
    let blueprint = Blueprint {
        config,
        memory,
        vm,
        ports,
        mmio,
        devices,
        slots,
        serial_info,
        events,
        watchdog,
        processors,
        pluggable,
        manager,
        vcpus,
    };
    Ok(Built {
        blueprint,
        device_thread,
        serial,
        output,
        input_wanted,
        hvc,
    })
}

fn add_watchdog(bus: &PciBus, config: WatchdogConfig) -> Result<(Arc<Watchdog>, DeviceInfo), BuildError> {
    let device =
        i6300esb::Watchdog::new().map_err(|error| resource("the watchdog")(io::Error::other(error)))?;
    let device = Arc::new(Mutex::new(device));
    let slot = bus
        .add(None, device.clone())
        .map_err(|error| resource("a PCI slot")(io::Error::other(error)))?;
    let info = DeviceInfo {
        id: "watchdog".to_owned(),
        kind: "watchdog".to_owned(),
        address: format!("0000:00:{slot:02x}.0"),
        state: DeviceState::Present,
    };
    Ok((Arc::new(Watchdog::new(device, config.action)), info))
}

fn pci_bus(config: &VmConfig, ports: &Bus, mmio: &Bus) -> Result<Arc<PciBus>, BuildError> {
    let window_64 = layout::pci_window_64(config.memory_bytes, config.memory.hotplug_bytes());
    let windows = [layout::PCI_WINDOW_32, window_64];
    let bus = PciBus::new(windows.iter().map(|(start, len)| *start..start + len).collect());
    ports.insert(
        CONFIG_PORTS_BASE,
        CONFIG_PORTS_SIZE,
        Arc::new(Mutex::new(bus.config_ports())),
    )?;
    mmio.insert(layout::ECAM.0, ECAM_SIZE, Arc::new(Mutex::new(bus.ecam())))?;
    for (start, len) in windows {
        mmio.insert(start, len, Arc::new(Mutex::new(bus.window(start))))?;
    }
    Ok(bus)
}

fn load_kernel(memory: &Ram, config: &VmConfig) -> Result<Kernel, BuildError> {
    let path = config.resolve(&config.kernel.path);
    let load = || {
        let open = |source| LoadError::Open {
            path: path.clone(),
            source,
        };
        let file = host_file::open(&path, Access::Read).map_err(open)?;
        loader::load_kernel(memory, config.memory_bytes, &file, config.kernel.protocol)
    };
    let kernel = load().map_err(|source| BuildError::Load {
        field: "kernel.path".to_owned(),
        path: path.clone(),
        source,
    })?;
    let len = config.kernel.cmdline.len();
    if len > kernel.cmdline_max as usize {
        return Err(BuildError::Cmdline {
            len,
            most: kernel.cmdline_max,
        });
    }
    Ok(kernel)
}

fn load_initrd(
    memory: &Ram,
    config: &VmConfig,
    kernel: &Kernel,
) -> Result<Option<initrd::Initrd>, BuildError> {
    let mut files = Vec::new();
    let mut last = config.run_dir.clone();
    for (index, path) in config.kernel.initrd.iter().enumerate() {
        let path = config.resolve(path);
        files.push(
            host_file::open(&path, Access::Read).map_err(|source| BuildError::Load {
                field: format!("kernel.initrd[{index}]"),
                path: path.clone(),
                source: LoadError::Open {
                    path: path.clone(),
                    source,
                },
            })?,
        );
        last = path;
    }
    initrd::load(memory, config.memory_bytes, kernel.end, kernel.initrd_max, &files).map_err(|source| {
        BuildError::Load {
            field: "kernel.initrd".to_owned(),
            path: last,
            source,
        }
    })
}

fn write_boot_info(
    memory: &Ram,
    config: &VmConfig,
    kernel: &Kernel,
    initrd: Option<initrd::Initrd>,
    rsdp: u64,
) -> Result<(), BuildError> {
    let cmdline = &config.kernel.cmdline;
    boot_params::write_cmdline(memory, cmdline)?;
    let info = BootInfo {
        kernel,
        initrd,
        cmdline_len: cmdline.len(),
        memory_bytes: config.memory_bytes,
        rsdp,
    };
    match kernel.protocol {
        BootProtocol::Linux64 => memory::write(memory, layout::ZERO_PAGE, &boot_params::zero_page(&info))?,
        BootProtocol::Pvh => memory::write(
            memory,
            layout::PVH_START_INFO,
            &boot_params::pvh_start_info(&info),
        )?,
    }
    Ok(registers::write_tables(memory, kernel.protocol)?)
}

fn create_vcpus(
    processors: &Processors,
    count: u8,
    kernel: &Kernel,
) -> Result<Vec<kvm_ioctls::VcpuFd>, BuildError> {
    let vcpus: Vec<_> = (0..count)
        .map(|index| processors.create(index))
        .collect::<Result<_, _>>()?;
    if let Some(boot) = vcpus.first() {
        registers::set_boot_state(boot, kernel.protocol, kernel.entry).map_err(call("set registers"))?;
    }
    Ok(vcpus)
}
