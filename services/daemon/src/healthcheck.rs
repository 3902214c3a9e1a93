// SPDX-License-Identifier: Apache-2.0
//! The `healthcheck` subcommand: asks the running service whether it is ready,
//! for images that hold neither a shell nor curl.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

/// Shorter than the time-outs that container engines give a health check.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Longest answer that is read; a condition is a line.
const ANSWER_MAX: u64 = 64 * 1024;

/// Asks the service that listens on `listen`.
///
/// # Errors
/// Nobody listens, or the service isn't ready; the text says why.
pub fn healthcheck(listen: SocketAddr) -> anyhow::Result<()> {
    let address = reachable(listen);
    let answer = get_readyz(address).with_context(|| format!("no service answers on {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_ascii_whitespace().nth(1);
    if status == Some("200") {
        return Ok(());
    }
    bail!(
        "{address} is not ready: {}",
        body.trim().replace('\n', "; ")
    )
}

fn get_readyz(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET /readyz HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Who listens on all addresses is asked on the loopback one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_addresses_are_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9", "127.0.0.1:9"),
            ("[::]:9", "[::1]:9"),
            ("10.0.0.1:9", "10.0.0.1:9"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
