// SPDX-License-Identifier: Apache-2.0
//! Asks an HTTP address whether its service is well, for images that hold
//! neither a shell nor curl.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Verdict};
use crate::output::say;

/// The status line is within this.
const HEAD_MAX: u64 = 1_024;

/// Gets `url`; any 2xx status is well.
///
/// # Errors
/// The address is not `http://HOST[:PORT][/PATH]`.
pub fn run(url: &str, timeout: Duration) -> Result<Verdict, Failure> {
    let wrong = || {
        Failure::Usage(format!(
            "{url:?} is no address; allowed: http://HOST[:PORT][/PATH]"
        ))
    };
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    // A port follows the last colon, but not one within [::1].
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let printable = url.bytes().all(|b| b.is_ascii_graphic());
    if authority.is_empty() || !printable {
        return Err(wrong());
    }
    match get(&address, authority, path, timeout) {
        Ok(200..=299) => Ok(Verdict::Yes),
        Ok(status) => {
            say(&format!("{url} answers with status {status}"));
            Ok(Verdict::No)
        }
        Err(error) => {
            say(&format!("{url} does not answer: {error}"));
            Ok(Verdict::No)
        }
    }
}

/// The status with which a GET is answered.
fn get(address: &str, host: &str, path: &str, timeout: Duration) -> io::Result<u16> {
    let deadline = Instant::now() + timeout;
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        // Zero would mean no bound at all.
        left.max(Duration::from_millis(1))
    };
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut connected = None;
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, left()) {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(e) => error = e,
        }
    }
    let mut stream = connected.ok_or(error)?;
    stream.set_write_timeout(Some(left()))?;
    // In one write: a server may answer and close before a second one.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    while !head.contains(&b'\n') && (head.len() as u64) < HEAD_MAX {
        stream.set_read_timeout(Some(left()))?;
        let mut chunk = [0; 256];
        match stream.read(&mut chunk)? {
            0 => break,
            read => head.extend_from_slice(&chunk[..read]),
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_ascii_whitespace();
    match (words.next(), words.next().map(str::parse)) {
        (Some(version), Some(Ok(status))) if version.starts_with("HTTP/") => Ok(status),
        (_, _) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer is not HTTP",
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Serves one answer on a free port.
    fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        format!("http://{address}/healthz")
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn only_a_success_is_well() {
        let well = answering("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"ok\"}");
        assert_eq!(run(&well, LONG).unwrap(), Verdict::Yes);
        let ill = answering("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(run(&ill, LONG).unwrap(), Verdict::No);
        let other = answering("INFO {}\r\n");
        assert_eq!(run(&other, LONG).unwrap(), Verdict::No);
    }

    #[test]
    fn nobody_is_not_well() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        assert_eq!(run(&url, LONG).unwrap(), Verdict::No);
    }

    #[test]
    fn what_is_no_address_is_said() {
        for url in ["localhost:80", "https://a/", "http://", "http://a/ b"] {
            assert!(matches!(run(url, LONG), Err(Failure::Usage(_))), "{url}");
        }
    }
}
