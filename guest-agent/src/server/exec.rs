//! One command over one connection.
//!
//! Four activities share it: pumps bring output into a queue, a writer sends the queue, a feeder gives the command
//! its input, and the main loop listens to the peer. The queue is short, so a slow peer slows the command down.
//! Input is limited by the window the feeder grants, so the main loop always has room for it and never waits: a
//! signal gets through to a command that reads nothing.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use nix::sys::termios::{LocalFlags, SpecialCharacterIndices, tcgetattr};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::codec::{FramedRead, FramedWrite};

use super::async_file::AsyncFile;
use super::process::{Process, SpawnFailure, resize};
use super::{accept, refuse};
use crate::protocol::{
    Control, ExecRequest, Exit, Frame, FrameCodec, MAX_DATA, ProtocolError, ResponseBody, STDIN_WINDOW,
    write_frame,
};

/// Frames that wait for the connection.
const QUEUE: usize = 8;

/// Most output taken after the command's end. What it wrote itself is in the pipe by then, and a pipe holds no
/// more than this (pipe(7), `pipe-max-size`); without a limit, a background process that keeps writing into the
/// same pipe would hold the exit status back for ever.
const MOST_AFTER_EXIT: usize = 1 << 20;

/// Answers an exec request and sees it through.
pub(super) async fn run<S>(mut stream: S, request: ExecRequest) -> Result<(), ProtocolError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let process = match Process::spawn(&request) {
        Ok(process) => process,
        Err(SpawnFailure::Refused(error)) => return refuse(&mut stream, error).await,
        Err(SpawnFailure::Status(status)) => {
            accept(&mut stream, ResponseBody::Empty).await?;
            return write_frame(&mut stream, &Frame::Exit(Exit { status })).await;
        }
    };
    accept(&mut stream, ResponseBody::Empty).await?;
    let (read, write) = tokio::io::split(stream);
    let mut tasks = JoinSet::new();
    let (frames, queue) = mpsc::channel(QUEUE);
    tasks.spawn(send(FramedWrite::new(write, FrameCodec), queue));
    converse(FramedRead::new(read, FrameCodec), frames, tasks, process).await
}

/// The main loop. Dropping `tasks` and `process` on the way out ends whatever is still going on.
async fn converse<R>(
    mut peer: FramedRead<R, FrameCodec>,
    frames: mpsc::Sender<Frame>,
    mut tasks: JoinSet<()>,
    mut process: Process,
) -> Result<(), ProtocolError>
where
    R: AsyncRead + Unpin,
{
    let (exited, _) = watch::channel(false);
    let mut pumps = JoinSet::new();
    for (file, frame) in process.outputs.drain(..) {
        pumps.spawn(pump(file, frame, frames.clone(), exited.subscribe()));
    }
    let (input, inputs) = mpsc::unbounded_channel(); // bounded by the window
    let unread = Arc::new(AtomicU64::new(0));
    let feeder = tasks.spawn(feed(
        process.input.take(),
        inputs,
        frames.clone(),
        Arc::clone(&unread),
    ));

    let status = loop {
        tokio::select! {
            status = process.child.wait() => break status?,
            frame = peer.next() => match frame {
                Some(Ok(Frame::Stdin(data))) => {
                    let len = data.len() as u64;
                    let waiting = unread.fetch_add(len, Ordering::Relaxed) + len;
                    if waiting > u64::from(STDIN_WINDOW) {
                        return Err(ProtocolError::WindowExceeded(waiting - u64::from(STDIN_WINDOW)));
                    }
                    let _ = input.send(data); // a feeder that is gone has seen the end of input
                }
                Some(Ok(Frame::Control(control))) => obey(control, &process),
                other => return gone(other),
            },
        }
    };
    process.reaped();
    feeder.abort();
    let _ = exited.send(true);
    let finish = async move {
        while pumps.join_next().await.is_some() {}
        let _ = frames
            .send(Frame::Exit(Exit {
                status: status_of(status),
            }))
            .await;
        drop(frames);
        while tasks.join_next().await.is_some() {}
    };
    tokio::pin!(finish);
    loop {
        tokio::select! {
            biased;
            () = &mut finish => return Ok(()),
            frame = peer.next() => match frame {
                Some(Ok(Frame::Stdin(_) | Frame::Control(_))) => {} // too late, and no mistake
                other => return gone(other),
            },
        }
    }
}

/// The peer closed the connection or broke the protocol.
fn gone(frame: Option<Result<Frame, ProtocolError>>) -> Result<(), ProtocolError> {
    match frame {
        None => Ok(()),
        Some(Err(error)) => Err(error),
        Some(Ok(frame)) => Err(ProtocolError::Unexpected(frame.name())),
    }
}

fn obey(control: Control, process: &Process) {
    // Neither can fail in a way that the client could mend: the command may just have ended.
    match control {
        Control::Resize { width, height } => {
            if let Some(terminal) = &process.terminal {
                let _ = resize(terminal, width, height);
            }
        }
        Control::Signal { signal } => {
            if let Some(pid) = process.pid().filter(|_| (1..=64).contains(&signal)) {
                // SAFETY: plain system call; the process is our child and has not been waited for, so the id is
                // its own. nix's kill does not know real-time signals.
                unsafe { nix::libc::kill(pid.as_raw(), signal) };
            }
        }
        Control::StdinWindow { .. } => {} // only the agent grants
    }
}

/// Exit status as a shell reports it.
fn status_of(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(255)
}

/// Sends what is queued until nobody queues any more, or the connection fails.
async fn send<W>(mut sink: FramedWrite<W, FrameCodec>, mut queue: mpsc::Receiver<Frame>)
where
    W: AsyncWrite + Unpin,
{
    while let Some(frame) = queue.recv().await {
        if sink.feed(frame).await.is_err() {
            return; // the main loop sees the end of the connection too
        }
        // Everything that is there goes out together.
        while let Ok(frame) = queue.try_recv() {
            if sink.feed(frame).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

/// Brings output into the queue until its end, or, once the command has exited, until there is none left.
async fn pump(
    file: Arc<AsyncFile>,
    frame: fn(Bytes) -> Frame,
    frames: mpsc::Sender<Frame>,
    mut exited: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; MAX_DATA];
    let mut after_exit = None;
    loop {
        let read = match &mut after_exit {
            None => tokio::select! {
                read = file.read(&mut buffer) => read,
                _ = exited.wait_for(|exited| *exited) => {
                    after_exit = Some(0);
                    continue;
                }
            },
            Some(taken) if *taken >= MOST_AFTER_EXIT => break,
            Some(taken) => {
                let read = file.read_now(&mut buffer);
                *taken += read.as_ref().map_or(0, |len| *len);
                read
            }
        };
        match read {
            Ok(len) if len > 0 => {
                let data = Bytes::copy_from_slice(&buffer[..len]);
                if frames.send(frame(data)).await.is_err() {
                    return;
                }
            }
            Ok(_) | Err(_) => break,
        }
    }
    let _ = frames.send(frame(Bytes::new())).await;
}

/// Gives the command its input, and the peer new window for what the command took.
async fn feed(
    file: Option<Arc<AsyncFile>>,
    mut inputs: mpsc::UnboundedReceiver<Bytes>,
    frames: mpsc::Sender<Frame>,
    unread: Arc<AtomicU64>,
) {
    let mut file = file;
    while let Some(data) = inputs.recv().await {
        if data.is_empty() {
            if let Some(file) = file.take() {
                end_input(&file).await;
            }
            return; // the last handle of a pipe is closed here
        }
        if let Some(open) = &file
            && open.write_all(&data).await.is_err()
        {
            file = None; // the command closed its input: the rest is read and thrown away, as by a broken pipe
        }
        unread.fetch_sub(data.len() as u64, Ordering::Relaxed);
        let grant = Control::StdinWindow {
            bytes: data.len() as u32,
        };
        if frames.send(Frame::Control(grant)).await.is_err() {
            return;
        }
    }
}

/// A terminal cannot be closed half, so its reader gets the end-of-file character, if it still looks for one
/// (termios(3): `VEOF` counts in canonical mode only). For a pipe, closing is enough.
async fn end_input(file: &AsyncFile) {
    if let Ok(settings) = tcgetattr(file)
        && settings.local_flags.contains(LocalFlags::ICANON)
    {
        let end = settings.control_chars[SpecialCharacterIndices::VEOF as usize];
        let _ = file.write_all(&[end]).await;
    }
}
