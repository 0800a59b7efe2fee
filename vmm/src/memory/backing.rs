//! What guest memory is made of: private pages or a file of memory, and which size of pages.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;
use std::sync::Arc;

use vm_memory::FileOffset;
use vm_memory::mmap::{MmapRegion, MmapRegionBuilder};

use super::MemoryError;
use crate::config::{HugePages, MemoryConfig};

/// What other processes see as the file's name in `/proc`.
const NAME: &std::ffi::CStr = c"guest-memory";
/// Large pages of x86-64. Guest and host addresses that agree modulo this can share one.
const LARGE_PAGE: usize = 2 << 20;
const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage";
const PROT: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Where mappings of guest memory come from.
pub(super) struct Backing {
    pages: HugePages,
    /// The file of shared memory, and how much of it is mapped.
    file: Option<(Arc<File>, u64)>,
}

impl Backing {
    /// Prepares for mappings of `bytes` together.
    pub(super) fn new(bytes: u64, config: &MemoryConfig) -> Result<Self, MemoryError> {
        match config.hugepages {
            HugePages::None => {}
            HugePages::Transparent => check_transparent(config.shared)?,
            HugePages::Of2MiB | HugePages::Of1GiB => check_pool(config.hugepages, bytes)?,
        }
        let file = match config.shared {
            true => Some(
                memory_file(bytes, config.hugepages)
                    .map_err(|source| MemoryError::Reserve { bytes, source })?,
            ),
            false => None,
        };
        Ok(Self {
            pages: config.hugepages,
            file: file.map(|file| (Arc::new(file), 0)),
        })
    }

    /// Makes the next mapping.
    pub(super) fn map(&mut self, bytes: u64) -> io::Result<MmapRegion> {
        let len = usize::try_from(bytes).map_err(io::Error::other)?;
        // Pages that are set aside are claimed by the mapping, so that they cannot be missing later.
        let (size_flags, reserve) = match self.pages {
            HugePages::None | HugePages::Transparent => (0, libc::MAP_NORESERVE),
            HugePages::Of2MiB => (libc::MAP_HUGETLB | libc::MAP_HUGE_2MB, 0),
            HugePages::Of1GiB => (libc::MAP_HUGETLB | libc::MAP_HUGE_1GB, 0),
        };
        let (flags, place) = match &mut self.file {
            Some((file, offset)) => {
                let place = FileOffset::from_arc(file.clone(), *offset);
                *offset += bytes;
                (libc::MAP_SHARED | reserve, Some(place))
            }
            None => (
                libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | size_flags | reserve,
                None,
            ),
        };
        let mut builder = MmapRegionBuilder::new(len)
            .with_mmap_prot(PROT)
            .with_mmap_flags(flags)
            .with_hugetlbfs(self.pages.reserved_size().is_some());
        if let Some(place) = &place {
            builder = builder.with_file_offset(place.clone());
        }
        if self.pages == HugePages::Transparent {
            let address = map_aligned(len, flags, place.as_ref())?;
            // SAFETY: the range is one mapping that was made just now. Nothing unmaps it: it is there until the
            // process ends.
            builder = unsafe { builder.with_raw_mmap_pointer(address) };
        }
        builder.build().map_err(|error| match error {
            vm_memory::mmap::MmapRegionError::Mmap(error) => error,
            error => io::Error::other(error),
        })
    }
}

/// Maps at an address that large pages can start at, and asks for them.
fn map_aligned(len: usize, flags: i32, place: Option<&FileOffset>) -> io::Result<*mut u8> {
    let failed = |address: *mut libc::c_void| address == libc::MAP_FAILED;
    let room = len
        .checked_add(LARGE_PAGE)
        .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
    // SAFETY: reserves addresses wherever they are free.
    let start = unsafe {
        let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE;
        libc::mmap(ptr::null_mut(), room, libc::PROT_NONE, flags, -1, 0)
    };
    if failed(start) {
        return Err(io::Error::last_os_error());
    }
    let before = start.align_offset(LARGE_PAGE).min(LARGE_PAGE);
    let aligned = start.wrapping_byte_add(before);
    let (fd, offset) = place.map_or((-1, 0), |place| (place.file().as_raw_fd(), place.start()));
    // SAFETY: replaces a part of the range that was reserved just now, which nobody uses; `before` is at most
    // LARGE_PAGE, so `len` bytes are left.
    let mapped = unsafe {
        libc::mmap(
            aligned,
            len,
            PROT,
            flags | libc::MAP_FIXED,
            fd,
            offset as libc::off_t,
        )
    };
    if failed(mapped) {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: what is left of the reserved range at both ends is given back; the advice changes no contents.
    let advised = unsafe {
        libc::munmap(start, before);
        libc::munmap(aligned.wrapping_byte_add(len), LARGE_PAGE - before);
        libc::madvise(aligned, len, libc::MADV_HUGEPAGE)
    };
    match advised {
        0 => Ok(aligned.cast()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the host makes large pages for those who ask.
fn check_transparent(shared: bool) -> Result<(), MemoryError> {
    let (file, remedy) = match shared {
        true => ("shmem_enabled", "advise"),
        false => ("enabled", "madvise"),
    };
    let path = format!("{TRANSPARENT}/{file}");
    let setting = fs::read_to_string(&path).unwrap_or_else(|_| "[missing]".to_owned());
    let chosen = setting.split(['[', ']']).nth(1).unwrap_or_default();
    match chosen {
        "never" | "deny" | "missing" => Err(MemoryError::NoTransparentPages {
            setting: chosen.to_owned(),
            path,
            remedy,
        }),
        _ => Ok(()),
    }
}

/// Whether the host has enough pages set aside.
fn check_pool(pages: HugePages, bytes: u64) -> Result<(), MemoryError> {
    let size = pages.reserved_size().unwrap_or(LARGE_PAGE as u64);
    let pool = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", size / 1024);
    let count = |name: &str| -> u64 {
        let text = fs::read_to_string(format!("{pool}/{name}")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    let (total, unused, promised) = (
        count("nr_hugepages"),
        count("free_hugepages"),
        count("resv_hugepages"),
    );
    let free = unused.saturating_sub(promised);
    let needed = bytes.div_ceil(size);
    if free >= needed {
        return Ok(());
    }
    Err(MemoryError::NoHugePages {
        size,
        needed,
        free,
        wanted: total + (needed - free),
        pool,
    })
}

/// Makes a file of memory without a name. Whoever gets its descriptor cannot make it shorter, which would fault this
/// process, nor longer.
fn memory_file(bytes: u64, pages: HugePages) -> io::Result<File> {
    let size_flags = match pages {
        HugePages::None | HugePages::Transparent => 0,
        HugePages::Of2MiB => libc::MFD_HUGETLB | libc::MFD_HUGE_2MB,
        HugePages::Of1GiB => libc::MFD_HUGETLB | libc::MFD_HUGE_1GB,
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | size_flags;
    // Kernels before 6.3 do not know the flag that makes the file non-executable; hosts may insist on it since.
    let file = match create(flags | libc::MFD_NOEXEC_SEAL) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(flags)?,
        made => made?,
    };
    file.set_len(bytes)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: the descriptor is open and the call touches no memory of ours.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        0 => Ok(file),
        _ => Err(io::Error::last_os_error()),
    }
}

fn create(flags: libc::c_uint) -> io::Result<File> {
    // SAFETY: the name is a C string that outlives the call.
    match unsafe { libc::memfd_create(NAME.as_ptr(), flags) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the descriptor is fresh and nobody else has it.
        fd => Ok(unsafe { File::from_raw_fd(fd) }),
    }
}
