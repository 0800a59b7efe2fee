//! One TCP connection to the host for each figure: bytes to it, bytes from it, and one byte to and fro.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::say;

const INTERFACE: &[u8] = b"eth0";
/// Bytes of one write.
const CHUNK: usize = 256 << 10;

/// Measures each figure for this long.
pub(crate) fn measure(each: Duration, address: &str, host: &str) -> Result<()> {
    set_up(address).with_context(|| format!("cannot give eth0 the address {address}"))?;
    let connect = |what: u8| -> Result<TcpStream> {
        let mut stream = TcpStream::connect(host).with_context(|| format!("cannot connect to {host}"))?;
        stream.set_nodelay(true)?;
        stream.write_all(&[what])?;
        Ok(stream)
    };
    let mut chunk = vec![0; CHUNK];
    let gigabits = |bytes: u64, began: Instant| bytes as f64 * 8e-9 / began.elapsed().as_secs_f64();

    let (mut stream, began, mut bytes) = (connect(b'u')?, Instant::now(), 0);
    while began.elapsed() < each {
        bytes += stream.write(&chunk)? as u64;
    }
    // Bytes that wait in the guest have not been sent: the host says when it has them all.
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    say("send", gigabits(bytes, began));

    let (mut stream, began, mut bytes) = (connect(b'd')?, Instant::now(), 0);
    while began.elapsed() < each {
        bytes += stream.read(&mut chunk)? as u64;
    }
    say("receive", gigabits(bytes, began));
    drop(stream);

    let (mut stream, began, mut turns) = (connect(b'r')?, Instant::now(), 0_u64);
    while began.elapsed() < each {
        stream.write_all(&[0])?;
        stream.read_exact(&mut [0])?;
        turns += 1;
    }
    say("request_response", turns as f64 / began.elapsed().as_secs_f64());
    Ok(())
}

/// Address, netmask, up (netdevice(7)).
fn set_up(address: &str) -> Result<()> {
    let (ip, prefix) = address.split_once('/').context("give ADDRESS/PREFIX")?;
    let (ip, prefix): (Ipv4Addr, u32) = (ip.parse()?, prefix.parse()?);
    let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0));
    let socket = File::from(socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::empty(),
        None,
    )?);
    let control = |request: libc::c_ulong, value: libc::__c_anonymous_ifr_ifru| -> Result<()> {
        // SAFETY: all zeroes is a valid ifreq.
        let mut message: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in message.ifr_name.iter_mut().zip(INTERFACE) {
            *to = *from as libc::c_char;
        }
        message.ifr_ifru = value;
        // SAFETY: the requests read an ifreq, which lives for the call.
        match unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw const message) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().into()),
        }
    };
    let inet = |ip: Ipv4Addr| {
        // SAFETY: all zeroes is a valid sockaddr; it is as large as a sockaddr_in.
        let mut address: libc::sockaddr = unsafe { std::mem::zeroed() };
        address.sa_family = libc::AF_INET as _;
        for (to, from) in address.sa_data.iter_mut().skip(2).zip(ip.octets()) {
            *to = from as _;
        }
        address
    };
    control(
        libc::SIOCSIFADDR as _,
        libc::__c_anonymous_ifr_ifru { ifru_addr: inet(ip) },
    )?;
    control(
        libc::SIOCSIFNETMASK as _,
        libc::__c_anonymous_ifr_ifru {
            ifru_netmask: inet(mask),
        },
    )?;
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    control(
        libc::SIOCSIFFLAGS as _,
        libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    )
}
