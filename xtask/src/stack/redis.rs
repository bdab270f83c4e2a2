//! Redis, in memory only: it holds a cache and rate limits, which a restart may forget.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::{Daemon, Signal};
use super::run::{Run, check_free};
use crate::command::find;

/// The daemon's name.
pub const DAEMON: &str = "redis";

const READY: Duration = Duration::from_secs(30);

/// Starts Redis and waits until it answers.
///
/// # Errors
/// When it is not installed, its port is taken, or it dies or takes too long.
pub fn start(run: &Run) -> Result<()> {
    let program = find("redis-server").context("redis-server is needed: `apt-get install redis-server`")?;
    let (port, addresses) = (run.settings().ports.redis, run.settings().service_addresses());
    let processes = run.processes();
    if processes.alive(DAEMON).is_none() {
        for address in &addresses {
            check_free("Redis", *address, port)?;
        }
    }
    let data = run.dir().join("redis");
    std::fs::create_dir_all(&data).context("making Redis's folder")?;
    let port_text = port.to_string();
    let daemon = Daemon::new(DAEMON, program)
        .args([
            "--port",
            &port_text,
            "--daemonize",
            "no",
            "--appendonly",
            "no",
            "--bind",
        ])
        .args(addresses.iter().map(IpAddr::to_string))
        // Pods come from another address and have no password; only this machine and its pods reach either address.
        .args(["--protected-mode", "no", "--save", "", "--dir"])
        .args([data.to_string_lossy()]);
    processes.start(&daemon)?;
    processes.wait_ready(DAEMON, READY, || answers(port))?;
    Ok(())
}

/// Stops Redis. Returns whether it ran.
///
/// # Errors
/// When it does not end.
pub fn stop(run: &Run, signal: Signal) -> Result<bool> {
    run.processes().stop(DAEMON, signal)
}

fn answers(port: u16) -> bool {
    let ping = || -> std::io::Result<bool> {
        let limit = Duration::from_millis(500);
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG")
    };
    ping().unwrap_or(false)
}
