//! Flow control by credit (virtio 1.3 §5.10.6.3): each side tells how much buffer it has for the connection and how much it
//! has taken out of it; nobody sends what the other has no room for. All counters are modulo 2³².

/// Buffer space that we offer the guest for each connection. Linux offers 256 KiB; this times the number of connections is
/// what a guest can make us keep.
pub const BUFFER_SIZE: u32 = 128 * 1024;

/// Both directions of one connection.
#[derive(Debug, Clone, Default)]
pub struct Credit {
    /// Bytes the guest has sent.
    received: u32,
    /// Of these, bytes that have left our buffer.
    forwarded: u32,
    /// What we last told the guest about that.
    forwarded_told: u32,
    /// Bytes we have sent.
    sent: u32,
    /// The guest's buffer space, and what has left it, as the guest last told.
    peer_buffer_size: u32,
    peer_forwarded: u32,
}

impl Credit {
    /// The guest told its buffer space.
    pub fn peer_told(&mut self, buffer_size: u32, forwarded: u32) {
        self.peer_buffer_size = buffer_size;
        self.peer_forwarded = forwarded;
    }

    /// How much the guest has room for. Nonsense from the guest makes it zero.
    pub fn available(&self) -> u32 {
        let in_flight = self.sent.wrapping_sub(self.peer_forwarded);
        self.peer_buffer_size.saturating_sub(in_flight)
    }

    /// We send that much.
    pub fn send(&mut self, len: u32) {
        self.sent = self.sent.wrapping_add(len);
    }

    /// The guest sends that much. Returns false if we have no room for it, which the guest knew.
    #[must_use]
    pub fn receive(&mut self, len: u32) -> bool {
        let buffered = self.received.wrapping_sub(self.forwarded);
        let fits = buffered
            .checked_add(len)
            .is_some_and(|buffered| buffered <= BUFFER_SIZE);
        if fits {
            self.received = self.received.wrapping_add(len);
        }
        fits
    }

    /// That much has left our buffer.
    pub fn forward(&mut self, len: u32) {
        self.forwarded = self.forwarded.wrapping_add(len);
    }

    /// Whether the guest should hear about the room in our buffer by a packet for just that. A quarter of the buffer is
    /// seldom enough to be cheap and often enough that the guest never waits for an idle host.
    pub fn update_due(&self) -> bool {
        self.forwarded.wrapping_sub(self.forwarded_told) >= BUFFER_SIZE / 4
    }

    /// What to put into a packet that is about to be sent: buffer space and bytes forwarded.
    pub fn tell(&mut self) -> (u32, u32) {
        self.forwarded_told = self.forwarded;
        (BUFFER_SIZE, self.forwarded)
    }
}

#[cfg(test)]
#[path = "credit_tests.rs"]
mod tests;
