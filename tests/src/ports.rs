//! Ports that nobody listens on.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

/// Below those that systems give to outgoing connections: none of these takes a port before the server that it is for.
const FIRST: u16 = 10_240;
const COUNT: u16 = 22_528;

/// Several ports of the loopback interface that were free a moment ago. None is given twice before all were.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        let mut tries = (0..COUNT).map(|_| next());
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        *port = tries.find(free).context("no free port")?;
    }
    Ok(ports)
}

/// Processes begin far apart.
fn next() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let at = std::process::id().wrapping_mul(7_919).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
    FIRST + (at % u32::from(COUNT)) as u16
}
