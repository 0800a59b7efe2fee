//! Guests of a few instructions, assembled by the test that runs them.
//!
//! They start in 64-bit mode with the first 4 GiB mapped to themselves. The host's KVM may emulate every instruction,
//! so there are only plain moves, port accesses and short loops.

/// Where payloads are loaded and entered.
pub(crate) const LOAD_ADDRESS: u64 = 0x10_0000;
const COM1: u16 = 0x3f8;

/// Machine code under construction.
#[derive(Default, Clone)]
pub(crate) struct Payload {
    code: Vec<u8>,
}

impl Payload {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Bytes as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.code.extend_from_slice(bytes);
        self
    }

    /// `mov al, value; mov dx, port; out dx, al`
    pub(crate) fn out8(self, port: u16, value: u8) -> Self {
        let [low, high] = port.to_le_bytes();
        self.raw(&[0xb0, value, 0x66, 0xba, low, high, 0xee])
    }

    /// `mov eax, value; mov dx, port; out dx, eax`
    pub(crate) fn out32(self, port: u16, value: u32) -> Self {
        self.raw(&[0xb8])
            .raw(&value.to_le_bytes())
            .raw(&[0x66, 0xba])
            .raw(&port.to_le_bytes())
            .raw(&[0xef])
    }

    /// Reads a port until it has a value.
    pub(crate) fn wait_port8(self, port: u16, value: u8) -> Self {
        // mov dx, port; again: pause; in al, dx; cmp al, value; jne again
        self.raw(&[0x66, 0xba])
            .raw(&port.to_le_bytes())
            .raw(&[0xf3, 0x90, 0xec, 0x3c, value, 0x75, 0xf9])
    }

    /// The same with 32 bits.
    pub(crate) fn wait_port32(self, port: u16, value: u32) -> Self {
        // mov dx, port; again: pause; in eax, dx; cmp eax, value; jne again
        self.raw(&[0x66, 0xba])
            .raw(&port.to_le_bytes())
            .raw(&[0xf3, 0x90, 0xed, 0x3d])
            .raw(&value.to_le_bytes())
            .raw(&[0x75, 0xf6])
    }

    /// Prints on the serial port.
    pub(crate) fn print(mut self, text: &str) -> Self {
        for byte in text.bytes() {
            self = self.out8(COM1, byte);
        }
        self
    }

    /// `mov rbx, address`
    pub(crate) fn at(self, address: u64) -> Self {
        self.raw(&[0x48, 0xbb]).raw(&address.to_le_bytes())
    }

    /// Stores a byte at an absolute address.
    pub(crate) fn store8(self, address: u64, value: u8) -> Self {
        self.at(address).raw(&[0xc6, 0x03, value])
    }

    /// Stores 16 bits at an absolute address.
    pub(crate) fn store16(self, address: u64, value: u16) -> Self {
        self.at(address)
            .raw(&[0x66, 0xc7, 0x03])
            .raw(&value.to_le_bytes())
    }

    /// Stores a text.
    pub(crate) fn store_text(self, address: u64, text: &str) -> Self {
        let bytes = (address..).zip(text.bytes());
        bytes.fold(self, |payload, (at, byte)| payload.store8(at, byte))
    }

    /// Stores 32 bits at an absolute address.
    pub(crate) fn store32(self, address: u64, value: u32) -> Self {
        self.at(address).raw(&[0xc7, 0x03]).raw(&value.to_le_bytes())
    }

    /// Stores 64 bits at an absolute address, as two halves.
    pub(crate) fn store64(self, address: u64, value: u64) -> Self {
        self.store32(address, value as u32)
            .store32(address + 4, (value >> 32) as u32)
    }

    /// Waits until the 16 bits at an address have a value.
    pub(crate) fn wait16(self, address: u64, value: u16) -> Self {
        // again: pause; cmp word [rbx], value; jne again
        self.at(address)
            .raw(&[0xf3, 0x90, 0x66, 0x81, 0x3b])
            .raw(&value.to_le_bytes())
            .raw(&[0x75, 0xf7])
    }

    /// Waits until some of the bits at an address are set.
    pub(crate) fn wait_bits32(self, address: u64, bits: u32) -> Self {
        // again: pause; test dword [rbx], bits; jz again
        self.at(address)
            .raw(&[0xf3, 0x90, 0xf7, 0x03])
            .raw(&bits.to_le_bytes())
            .raw(&[0x74, 0xf6])
    }

    /// Waits until some of the bits of the byte at an address are set.
    pub(crate) fn wait_bits8(self, address: u64, bits: u8) -> Self {
        // again: pause; test byte [rbx], bits; jz again
        self.at(address).raw(&[0xf3, 0x90, 0xf6, 0x03, bits, 0x74, 0xf9])
    }

    /// Waits for a byte on the serial port, and takes it.
    pub(crate) fn wait_for_input(self) -> Self {
        // again: mov dx, 0x3fd; in al, dx; test al, 1; jz again; mov dx, 0x3f8; in al, dx
        self.raw(&[
            0x66, 0xba, 0xfd, 3, 0xec, 0xa8, 1, 0x74, 0xf7, 0x66, 0xba, 0xf8, 3, 0xec,
        ])
    }

    /// Runs the body `count` times, counting in memory.
    pub(crate) fn repeat(self, counter: u64, count: u32, body: impl FnOnce(Self) -> Self) -> Self {
        let start = self.store32(counter, count);
        let again = start.len();
        // dec dword [rbx]; jnz again
        let end = body(start).at(counter).raw(&[0xff, 0x0b, 0x0f, 0x85]);
        let distance = again as i32 - (end.len() as i32 + 4);
        end.raw(&distance.to_le_bytes())
    }

    /// Another payload's code, which can stand anywhere.
    pub(crate) fn then(self, other: &Self) -> Self {
        self.raw(&other.code)
    }

    /// Prints memory as it is.
    pub(crate) fn print_memory(self, address: u64, len: u32) -> Self {
        let [low, high] = COM1.to_le_bytes();
        // mov ecx, len; mov dx, port; again: mov al, [rbx]; out dx, al; inc rbx; dec ecx; jnz again
        self.at(address)
            .raw(&[0xb9])
            .raw(&len.to_le_bytes())
            .raw(&[0x66, 0xba, low, high])
            .raw(&[0x8a, 0x03, 0xee, 0x48, 0xff, 0xc3, 0xff, 0xc9, 0x75, 0xf6])
    }

    /// Starts a watchdog in slot 2 with two stages of so many milliseconds, as its driver does.
    pub(crate) fn start_watchdog(self, ticks: u32) -> Self {
        let (config, bar) = (0xe000_0000 + (2 << 15), 0xc000_0010);
        let mut payload = self.store16(config + 4, 2);
        for offset in [0, 4] {
            payload = payload
                .store16(bar + 0xc, 0x80)
                .store16(bar + 0xc, 0x86)
                .store32(bar + offset, ticks);
        }
        payload.store8(config + 0x68, 2)
    }

    /// Powers off: ACPI S5.
    pub(crate) fn power_off(self) -> Self {
        self.out8(0x600, 0x34).forever()
    }

    /// `again: pause; jmp again`
    pub(crate) fn forever(self) -> Self {
        self.raw(&[0xf3, 0x90, 0xeb, 0xfc])
    }

    /// Length so far.
    pub(crate) fn len(&self) -> usize {
        self.code.len()
    }

    /// The same with a PVH entry note.
    pub(crate) fn pvh_elf(&self) -> Vec<u8> {
        let mut file = self.elf();
        // The note is at 512, in the padding before the code; its program header follows the first.
        file[56] = 2;
        let header = [
            &4u32.to_le_bytes()[..],
            &4u32.to_le_bytes(),
            &512u64.to_le_bytes(),
            &[0; 16],
            &20u64.to_le_bytes(),
        ];
        let header = header.concat();
        file[120..120 + header.len()].copy_from_slice(&header);
        let note = [
            4u32.to_le_bytes(),
            4u32.to_le_bytes(),
            18u32.to_le_bytes(),
            *b"Xen\0",
        ]
        .concat();
        file[512..528].copy_from_slice(&note);
        file[528..532].copy_from_slice(&(LOAD_ADDRESS as u32).to_le_bytes());
        file
    }

    /// An ELF file with the code as its only segment.
    pub(crate) fn elf(&self) -> Vec<u8> {
        let mut file = vec![0; 4096];
        file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        file[16..20].copy_from_slice(&[2, 0, 62, 0]);
        file[24..32].copy_from_slice(&LOAD_ADDRESS.to_le_bytes());
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..58].copy_from_slice(&[56, 0, 1, 0]);
        file[64..72].copy_from_slice(&[1, 0, 0, 0, 7, 0, 0, 0]);
        let len = self.code.len() as u64;
        for (index, number) in [4096, LOAD_ADDRESS, LOAD_ADDRESS, len, len, 4096]
            .into_iter()
            .enumerate()
        {
            file[72 + 8 * index..80 + 8 * index].copy_from_slice(&u64::to_le_bytes(number));
        }
        file.extend_from_slice(&self.code);
        file
    }
}
