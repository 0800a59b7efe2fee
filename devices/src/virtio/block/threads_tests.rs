use super::*;
use crate::virtio::worker::no_hook;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

fn file() -> Arc<HostFile> {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[7; 4096], 0).unwrap();
    Arc::new(HostFile::new(file).unwrap())
}

fn threads() -> Threads {
    let threads = Threads::new(Arc::default()).unwrap();
    threads.prepare(&no_hook()).unwrap();
    threads
}

fn completed(threads: &mut Threads, count: usize) -> Vec<Completion> {
    let start = Instant::now();
    let mut all = Vec::new();
    while all.len() < count {
        assert!(start.elapsed() < Duration::from_secs(20), "{all:?}");
        all.extend(threads.completions());
        std::thread::sleep(Duration::from_millis(1));
    }
    all
}

#[test]
fn calls_of_two_queues_complete_each_where_they_came_from() {
    let (mut first, file) = (threads(), file());
    let mut second = first.sibling().unwrap();
    second.prepare(&no_hook()).unwrap();
    for (threads, base) in [(&mut first, 0), (&mut second, 100)] {
        for token in base..base + 50 {
            // SAFETY: a flush has no memory.
            unsafe { threads.push(token, &file, Call::Flush).unwrap() };
        }
        threads.submit();
    }
    for (threads, base) in [(&mut second, 100), (&mut first, 0)] {
        let mut tokens: Vec<_> = completed(threads, 50)
            .into_iter()
            .map(|(token, _)| token)
            .collect();
        tokens.sort_unstable();
        assert_eq!(tokens, (base..base + 50).collect::<Vec<_>>());
    }
}

#[test]
fn what_no_thread_has_begun_can_be_taken_back() {
    let mut threads = Threads::new(Arc::default()).unwrap();
    let file = file();
    for token in 0..10 {
        // SAFETY: a flush has no memory.
        unsafe { threads.push(token, &file, Call::Flush).unwrap() };
    }
    // No thread is there yet.
    threads.cancel();
    for (_, result) in completed(&mut threads, 10) {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    }
}

#[test]
fn a_hook_that_forbids_a_thread_is_an_error_and_can_be_tried_again() {
    let threads = Threads::new(Arc::default()).unwrap();
    assert!(
        threads
            .prepare(&(Arc::new(|_: &str| Err(io::Error::other("no"))) as ThreadHook))
            .is_err()
    );
    threads.prepare(&no_hook()).unwrap();
}
