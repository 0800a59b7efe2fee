//! Carries requests out: by the ring where there is one, here otherwise.

use super::Block;
use super::disk::Next;
use super::file::cannot_erase;
use super::in_flight::{InFlight, Transfer, Work};
use super::request::{Operation, Request, SERIAL_LEN, Status};
use super::uring::Uring;
use crate::virtio::queue::Queue;
use crate::virtio::worker::Io;
use std::io;
use std::time::Instant;
use vm_memory::GuestAddressSpace;

/// Where a request stands after a step.
enum Step {
    /// There is more to do.
    Again,
    /// Another request has to end first.
    Wait,
    /// The ring has it, if there is one.
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
                Step::Submit if self.uring.is_some() => return self.submit(request, io),
                Step::Submit => {
                    let result = self.run(&request.work);
                    if let Some(result) = self.advance(&mut request, result) {
                        return self.complete(request, result, io);
                    }
                }
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

    /// Gives work to the ring.
    fn submit(&mut self, request: InFlight, io: &mut Io) {
        let durable = self.write_through();
        let token = match self.slots.insert(request) {
            Ok(token) => token,
            // The caller has made sure that there is a slot.
            Err(request) => return self.fail(*request, io),
        };
        let (Some(request), Some(uring)) = (self.slots.get(token), self.uring.as_mut()) else {
            return;
        };
        let number = match &request.work {
            Work::Transfer(Transfer {
                piece: Some(piece), ..
            }) => piece.file,
            _ => 0,
        };
        let pushed = match (self.disk.files().get(number), &request.work) {
            (None, _) => Err(io::ErrorKind::NotFound.into()),
            (
                Some(file),
                Work::Transfer(Transfer {
                    write,
                    piece: Some(piece),
                    ..
                }),
            ) => {
                let fd = file.fd_for(&piece.iovecs, piece.offset);
                // SAFETY: the slot keeps vectors and memory map until the request has completed.
                unsafe { uring.push_transfer(token, fd, *write, &piece.iovecs, piece.offset, durable) }
            }
            (Some(file), Work::Erase(erase, bytes)) => uring.push_erase(token, file.fd(), *erase, bytes),
            (Some(file), _) => uring.push_flush(token, file.fd()),
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

    /// Does the work on this thread.
    fn run(&self, work: &Work) -> io::Result<usize> {
        let file = |index| self.disk.files().get(index).ok_or(io::ErrorKind::NotFound);
        match work {
            Work::Transfer(Transfer {
                write,
                piece: Some(piece),
                ..
            }) => {
                // SAFETY: the request holds the memory map that the vectors point into.
                unsafe {
                    file(piece.file)?.transfer(*write, &piece.iovecs, piece.offset, self.write_through())
                }
            }
            Work::Erase(erase, bytes) => file(0)?.erase(*erase, bytes).map(|()| 0),
            _ => file(0)?.flush().map(|()| 0),
        }
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
                    && let Some(file) = self.disk.own_file()
                {
                    let result = file.erase_by_hand(*erase, bytes);
                    return Some(result.map_err(|_| Status::IoError));
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
        let Work::Transfer(transfer) = &mut request.work else {
            return Some(Ok(()));
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

    /// Completes what the ring has done.
    pub(super) fn reap(&mut self, io: &mut Io) {
        let completions = self.uring.as_mut().map(Uring::completions);
        for (token, result) in completions.unwrap_or_default() {
            let Some(mut request) = self.slots.remove(token) else {
                continue;
            };
            match self.advance(&mut request, result) {
                Some(result) => self.complete(request, result, io),
                None => self.proceed(request, io),
            }
        }
        for request in self.slots.take_waiting() {
            self.proceed(request, io);
        }
        io.queues.iter_mut().for_each(Queue::signal);
    }

    /// Gives the kernel what was queued.
    pub(super) fn flush_submissions(&mut self, io: &mut Io) {
        let Some(uring) = self.uring.as_mut() else { return };
        match uring.submit() {
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
