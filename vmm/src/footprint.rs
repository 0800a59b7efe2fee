//! Keeps the process small: most of what a VMM occupies on its own is its program, and most of the program is for the start.

use std::io;

use crate::arch::layout;

/// What glibc calls `M_ARENA_MAX` (mallopt(3)); musl has no arenas.
#[cfg(target_env = "gnu")]
const ARENA_MAX: libc::c_int = -8;

/// Makes all threads share one heap. An arena of its own costs each thread some pages and the system calls to make it, and
/// saves waiting that device workers, which hardly allocate, do not have. Call before the first thread is started.
pub fn share_one_heap() {
    // SAFETY: sets a number of the allocator's; there is no other thread yet.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(ARENA_MAX, 1);
    }
}

/// Lets go of the pages of the program itself. They stay in the host's page cache, which all VMs share, and those that are
/// needed again come back from there one by one (a minor fault each); what only the start needed does not.
pub fn let_go_of_program() -> io::Result<()> {
    let mut failure = None;
    // SAFETY: the callback has the type that is asked for, and gets back the pointer that is passed here, which is valid
    // and used by nobody else during the call.
    unsafe { libc::dl_iterate_phdr(Some(let_go), (&raw mut failure).cast()) };
    failure.map_or(Ok(()), Err)
}

/// Called with one loaded object after the other (dl_iterate_phdr(3)); the first one is the program.
unsafe extern "C" fn let_go(
    object: *mut libc::dl_phdr_info,
    _: libc::size_t,
    failure: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the C library passes a filled structure and a table of `dlpi_phnum` headers, both of which stay as they are, and
    // `failure` is what `let_go_of_program` has passed.
    let (object, headers, failure) = unsafe {
        let object = &*object;
        let headers = std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum));
        (object, headers, &mut *failure.cast::<Option<io::Error>>())
    };
    let page = layout::PAGE as usize;
    for header in headers {
        // What can be written to may differ from the file.
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = (object.dlpi_addr + header.p_vaddr) as usize;
        let end = start + header.p_memsz as usize;
        let start = start & !(page - 1);
        // SAFETY: the range is the whole of a segment of the program, mapped from its file without the right to write: its
        // pages are clean, so the kernel brings back the same ones when they are touched.
        if unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) } != 0 {
            *failure = Some(io::Error::last_os_error());
        }
    }
    // No further objects.
    1
}

#[cfg(test)]
#[path = "footprint_tests.rs"]
mod tests;
