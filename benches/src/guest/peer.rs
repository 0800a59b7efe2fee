//! The network's other end: takes bytes, gives bytes, or returns one for one, as the guest's first byte asks for.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::network;

/// A guest that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// How soon the end of the benchmark is noticed.
const PAUSE: Duration = Duration::from_millis(20);
const CHUNK: usize = 256 << 10;

/// A listening thread; it ends when this is dropped.
pub(super) struct Peer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Listens on the host's address of the calling thread's network.
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind((network::HOST, 0)).context("cannot listen for guests")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("peer".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A guest that goes away in the middle is the measurement's failure, and is seen there.
                    Ok((stream, _)) => drop(serve(stream)),
                    Err(_) => thread::sleep(PAUSE),
                }
            }
        })?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where guests connect to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut what = [0];
    stream.read_exact(&mut what)?;
    let mut chunk = vec![0; CHUNK];
    match what {
        [b'u'] => {
            while stream.read(&mut chunk)? > 0 {}
            stream.write_all(&[0])
        }
        [b'd'] => loop {
            stream.write_all(&chunk)?;
        },
        [b'r'] => loop {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            stream.write_all(&byte)?;
        },
        _ => Err(ErrorKind::InvalidData.into()),
    }
}
