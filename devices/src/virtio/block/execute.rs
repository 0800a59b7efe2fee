//! Carries requests out: takes them apart, has the engine move their pieces, and tells the driver how they ended.

use super::Block;
use super::disk::Next;
use super::engine::Call;
use super::file::{Erase, ZEROES, cannot_erase};
use super::in_flight::{InFlight, Transfer, Work};
use super::request::{Operation, Request, SERIAL_LEN, Status};
use crate::virtio::buffer::IoVecs;
use crate::virtio::queue::Queue;
use crate::virtio::worker::Io;
use std::io;
use std::time::Instant;
use vm_memory::GuestAddressSpace;

/// Bytes of a device that are discarded by hand before other requests get a turn.
const DISCARD_STEP: u64 = 64 << 20;

/// Where a request stands after a step.
enum Step {
    /// There is more to do.
    Again,
    /// Another request has to end first.
    Wait,
    /// The engine is to do what comes next.
    Submit,
    /// It has ended.
    End(Result<(), Status>),
}

impl Block {
    /// Starts one request. What is done at once is completed at once.
    pub(super) fn begin(&mut self, queue: usize, head: u16, request: Request, io: &mut Io) {
        let Request {
            operation,
            mut data,
            status,
        } = request;
        let ram = io.memory.memory().into_inner();
        let mut result = Ok(());
        let work = match operation {
            Ok(Operation::GetId) => {
                let len = data.len().min(SERIAL_LEN as u64) as usize;
                let mut serial = [0; SERIAL_LEN];
                serial
                    .iter_mut()
                    .zip(self.config.serial.bytes())
                    .for_each(|(to, from)| *to = from);
                let written = data.write(&ram, serial.get(..len).unwrap_or_default());
                result = written.map_err(|_| Status::IoError);
                Work::Id(len as u32)
            }
            Ok(Operation::Read { offset } | Operation::Write { offset }) => Work::Transfer(Transfer {
                write: matches!(operation, Ok(Operation::Write { .. })),
                offset,
                len: data.len(),
                data,
                piece: None,
            }),
            Ok(Operation::Flush) => Work::Flush,
            Ok(Operation::Erase(erase, bytes)) => Work::Erase(erase, bytes),
            Err(status) => {
                result = Err(status);
                Work::Id(0)
            }
        };
        let request = InFlight {
            queue,
            head,
            status,
            ram,
            work,
            began: Instant::now(),
        };
        match &request.work {
            Work::Id(_) => self.complete(request, result, io),
            _ => self.proceed(request, io),
        }
    }

    /// Does what can be done of a request now.
    fn proceed(&mut self, mut request: InFlight, io: &mut Io) {
        loop {
            match self.step(&mut request) {
                Step::Again => {}
                Step::Wait => return self.slots.wait(request),
                Step::End(result) => return self.complete(request, result, io),
                Step::Submit => return self.submit(request, io),
            }
        }
    }

    fn step(&mut self, request: &mut InFlight) -> Step {
        let failed = |error: io::Error| {
            tracing::debug!(%error, "disk request failed");
            Step::End(Err(Status::IoError))
        };
        match &mut request.work {
            Work::Transfer(transfer) => {
                if transfer.piece.is_none() {
                    if transfer.data.is_empty() {
                        return self.end_of_write(transfer.write).map_or_else(failed, Step::End);
                    }
                    match self.disk.next(transfer, &request.ram) {
                        Ok(Next::Move) => {}
                        Ok(Next::Done) => return Step::Again,
                        Ok(Next::Wait) => return Step::Wait,
                        Err(error) => return failed(error),
                    }
                }
                let Some(piece) = &mut transfer.piece else {
                    return Step::Again;
                };
                match transfer.data.iovecs(&request.ram, piece.left) {
                    Ok(iovecs) => {
                        piece.iovecs = iovecs;
                        Step::Submit
                    }
                    Err(error) => {
                        if let Some(allocation) = piece.allocation.take() {
                            // Nothing has been written, so nothing can be lost.
                            let _ = self.disk.end_write(&allocation, false);
                        }
                        failed(io::Error::other(error))
                    }
                }
            }
            Work::Flush if self.disk.needs_write_back() => match self.disk.write_back() {
                Ok(()) => Step::End(Ok(())),
                Err(error) => failed(error),
            },
            Work::Erase(erase, bytes) if !self.disk.is_raw() => {
                if self.disk.is_busy(bytes) || self.slots.touches(bytes) {
                    return Step::Wait;
                }
                match self.disk.erase_in_image(*erase, bytes.clone()) {
                    Ok(()) => self.end_of_write(true).map_or_else(failed, Step::End),
                    Err(error) => failed(error),
                }
            }
            Work::ByHand(_, left, _) if left.is_empty() => Step::End(Ok(())),
            Work::ByHand(Erase::Discard, left, _) => {
                let step = left.start..left.end.min(left.start + DISCARD_STEP);
                if let Some(file) = self.disk.own_file() {
                    file.discard_by_hand(&step);
                }
                left.start = step.end;
                // Nothing is moved, but what the engine has for others is.
                Step::Submit
            }
            Work::ByHand(_, left, zeroes) => {
                *zeroes = zero_vectors(left.end - left.start);
                Step::Submit
            }
            Work::Flush | Work::Erase(..) => Step::Submit,
            Work::Id(_) => Step::End(Ok(())),
        }
    }

    /// Without flushes by the driver, the tables of an image have to follow each write at once.
    fn end_of_write(&mut self, write: bool) -> io::Result<Result<(), Status>> {
        if write && self.write_through() && self.disk.needs_write_back() {
            self.disk.write_back()?;
        }
        Ok(Ok(()))
    }

    /// Gives work to the engine.
    fn submit(&mut self, request: InFlight, io: &mut Io) {
        let durable = self.write_through();
        let token = match self.slots.insert(request) {
            Ok(token) => token,
            // The caller has made sure that there is a slot.
            Err(request) => return self.fail(*request, io),
        };
        let Some(request) = self.slots.get(token) else {
            return;
        };
        let (file, call) = match &request.work {
            Work::Transfer(Transfer {
                write,
                piece: Some(piece),
                ..
            }) => {
                let call = Call::Transfer {
                    write: *write,
                    iovecs: &piece.iovecs,
                    offset: piece.offset,
                    durable,
                };
                (piece.file, call)
            }
            Work::Erase(erase, bytes) => (0, Call::Erase(*erase, bytes)),
            Work::ByHand(erase, left, zeroes) => {
                let call = Call::Transfer {
                    write: *erase != Erase::Discard,
                    iovecs: zeroes,
                    offset: left.start,
                    durable,
                };
                (0, call)
            }
            _ => (0, Call::Flush),
        };
        let pushed = match self.disk.files().get(file) {
            None => Err(io::ErrorKind::NotFound.into()),
            // SAFETY: the slot keeps vectors and memory map until the call has completed.
            Some(file) => unsafe { self.engine.push(token, file, call) },
        };
        if pushed.is_err()
            && let Some(request) = self.slots.remove(token)
        {
            self.fail(request, io);
        }
    }

    fn fail(&mut self, mut request: InFlight, io: &mut Io) {
        let error = io::Error::from(io::ErrorKind::ResourceBusy);
        let result = self.advance(&mut request, Err(error));
        self.complete(request, result.unwrap_or(Err(Status::IoError)), io);
    }

    /// Takes the result of a system call into account. Returns how the request ended, or nothing if it must go on.
    fn advance(&mut self, request: &mut InFlight, result: io::Result<usize>) -> Option<Result<(), Status>> {
        let count = match result {
            Ok(count) => count,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) =>
            {
                return None;
            }
            Err(error) => {
                if let Work::Erase(erase, bytes) = &request.work
                    && cannot_erase(&error)
                {
                    request.work = Work::ByHand(*erase, bytes.clone(), IoVecs::new());
                    return None;
                }
                tracing::debug!(%error, "disk request failed");
                if let Work::Transfer(transfer) = &mut request.work
                    && let Some(allocation) = transfer.piece.take().and_then(|piece| piece.allocation)
                {
                    // It has failed already; what cannot be given back is a cluster that nobody uses.
                    let _ = self.disk.end_write(&allocation, false);
                }
                return Some(Err(Status::IoError));
            }
        };
        let transfer = match &mut request.work {
            Work::Transfer(transfer) => transfer,
            Work::ByHand(Erase::Discard, ..) => return None,
            Work::ByHand(_, left, _) if count > 0 => {
                left.start += count as u64;
                return None;
            }
            Work::ByHand(..) => return Some(Err(Status::IoError)),
            _ => return Some(Ok(())),
        };
        if count == 0 {
            // The file has become shorter than the disk.
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return self.advance(request, Err(error));
        }
        let Some(piece) = &mut transfer.piece else {
            return None;
        };
        let count = (count as u64).min(piece.left);
        piece.offset += count;
        piece.left -= count;
        transfer.offset += count;
        // As many as the vectors had, which were made of the data.
        let _ = transfer.data.skip(count as usize);
        if piece.left > 0 {
            return None;
        }
        let allocation = transfer.piece.take().and_then(|piece| piece.allocation);
        let ended = allocation.map_or(Ok(()), |allocation| self.disk.end_write(&allocation, true));
        ended.err().map(|error| {
            tracing::debug!(%error, "disk image cannot take a new cluster");
            Err(Status::IoError)
        })
    }

    /// Tells the driver how a request ended.
    fn complete(&mut self, request: InFlight, result: Result<(), Status>, io: &mut Io) {
        let InFlight {
            queue,
            head,
            mut status,
            ram,
            work,
            began,
        } = request;
        let (code, written) = match result {
            Ok(()) => {
                self.metrics.count(&work, began.elapsed());
                let written = match work {
                    // A chain is shorter than 4 GiB (§2.7.5.2).
                    Work::Transfer(transfer) if !transfer.write => {
                        u32::try_from(transfer.len).unwrap_or(u32::MAX)
                    }
                    Work::Id(len) => len,
                    _ => 0,
                };
                (Status::Ok, written)
            }
            Err(status) => {
                self.metrics.failures.increment();
                (status, 0)
            }
        };
        // A status outside of guest memory is the driver's own loss; the chain goes back all the same.
        let len = match status.write(&ram, &[code as u8]) {
            Ok(()) => written.saturating_add(1),
            Err(_) => 0,
        };
        if let Some(queue) = io.queues.get_mut(queue) {
            queue.add_used(head, len);
        }
    }

    /// Completes what the engine has done.
    pub(super) fn reap(&mut self, io: &mut Io) {
        for (token, result) in self.engine.completions() {
            let Some(mut request) = self.slots.remove(token) else {
                continue;
            };
            let result = self.advance(&mut request, result);
            if self.abandoned {
                self.give_up(request, result.is_none());
                continue;
            }
            match result {
                Some(result) => self.complete(request, result, io),
                None => self.proceed(request, io),
            }
        }
        for request in self.slots.take_waiting() {
            match self.abandoned {
                true => self.give_up(request, false),
                false => self.proceed(request, io),
            }
        }
        io.queues.iter_mut().for_each(Queue::signal);
    }

    /// Forgets a request that nobody waits for any more.
    fn give_up(&mut self, mut request: InFlight, unfinished: bool) {
        if unfinished {
            // An image takes back the clusters that it was about to fill.
            let cancelled = io::Error::from_raw_os_error(libc::ECANCELED);
            let _ = self.advance(&mut request, Err(cancelled));
        }
        self.metrics.abandoned.increment();
    }

    /// Gives the kernel what was queued.
    pub(super) fn flush_submissions(&mut self, io: &mut Io) {
        match self.engine.submit() {
            Ok(true) => {}
            // The kernel is short of something for the moment; come back by way of the event loop.
            Ok(false) => io.queues.iter().take(1).for_each(|queue| queue.wake_again()),
            Err(error) => {
                tracing::error!(%error, "disk cannot submit requests");
                io.interrupt.needs_reset();
            }
        }
    }
}

/// Vectors of zeroes, of so many bytes or fewer: what is written in one step.
fn zero_vectors(len: u64) -> IoVecs {
    let mut left = len;
    let mut vectors = IoVecs::new();
    while left > 0 && vectors.len() < vectors.inline_size() {
        let here = left.min(ZEROES.len() as u64);
        vectors.push(libc::iovec {
            // Only read: it is the source of a write.
            iov_base: ZEROES.as_ptr().cast_mut().cast(),
            iov_len: here as usize,
        });
        left -= here;
    }
    vectors
}
