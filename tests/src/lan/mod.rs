// SPDX-License-Identifier: Apache-2.0
//! Virtual machines as far as a switch sees them: network namespaces with one
//! interface each, whose frames are put on the wire and read off it as they
//! are. Real frames judge the datapath, not rows in a table.

mod agent;
mod fabric;
mod frame;
mod hearing;
mod host;
mod paths;
mod ping;
mod rack;

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use agent::AgentHost;
pub use fabric::Fabric;
pub use frame::{Arp, Frame, Mac, Payload};
pub use hearing::{LAST, access, heard, heard_before, in_order, is_heard, reaches, until};
pub use host::{Host, Outcome, id, plug, switch, unplug, uplink};
pub use paths::{Path, Segment, VLAN_LIMITS};
pub use ping::{QUICK, missing};
pub use rack::{Cable, RackHost};

/// How long a frame may be on its way before it counts as lost. Only waited
/// for where something is wrong.
const LOST: Duration = Duration::from_secs(5);

/// Numbers of everything that is made here, so that no two are alike.
static NEXT: AtomicU32 = AtomicU32::new(0);

fn unique() -> (u32, u32) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    (std::process::id(), number)
}

/// Runs a program of the system.
///
/// # Panics
/// It fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&stdout).into_owned()
}

/// A network namespace, or the one where everything begins.
#[derive(Debug, Default)]
struct Place(Mutex<Option<String>>);

impl Place {
    /// Runs `ip` there.
    fn ip(&self, arguments: &[&str]) {
        let place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = place.as_deref().map(|namespace| ["-n", namespace]);
        let place = place.iter().flatten();
        let all: Vec<&str> = place.chain(arguments).copied().collect();
        run("ip", &all);
    }

    /// Takes a device of this place to a namespace.
    fn take(&self, device: &str, namespace: &str) {
        self.ip(&["link", "set", device, "netns", namespace]);
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Some(namespace.to_owned());
        drop(place);
        let quiet = format!("net.ipv6.conf.{device}.disable_ipv6=1");
        run("ip", &["netns", "exec", namespace, "sysctl", "-qw", &quiet]);
        self.ip(&["link", "set", device, "up"]);
    }
}

/// A machine with one interface, `eth0`. Whoever drops it takes its network
/// namespace away, and with it both ends of the wire.
#[derive(Debug)]
pub struct Vm {
    namespace: String,
    outer: String,
    place: Place,
    mac: Mac,
    station: Child,
    stdin: Option<ChildStdin>,
    heard: Receiver<Frame>,
}

impl Vm {
    /// Starts one with this MAC address.
    ///
    /// # Panics
    /// The machine can't make network namespaces.
    #[must_use]
    pub fn start(mac: Mac) -> Self {
        let (process, number) = unique();
        let namespace = format!("dvs-{process}-{number}");
        let outer = format!("v{process:x}-{number:x}");
        run("ip", &["netns", "add", &namespace]);
        run(
            "ip",
            &[
                "link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
            ],
        );
        let inside = |arguments: &[&str]| {
            let all: Vec<&str> = ["-n", &namespace]
                .iter()
                .chain(arguments)
                .copied()
                .collect();
            run("ip", &all);
        };
        // Silent, but for what tests send.
        let quiet = "net.ipv6.conf.all.disable_ipv6=1";
        run("ip", &["netns", "exec", &namespace, "sysctl", "-qw", quiet]);
        inside(&["link", "set", "eth0", "address", &mac.to_string(), "up"]);
        let mut station = Command::new("ip")
            .args(["netns", "exec", &namespace, "python3", "-c"])
            .args([include_str!("station.py"), "eth0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip netns exec python3");
        let stdin = station.stdin.take();
        let stdout = station.stdout.take().expect("a pipe");
        let (tell, heard) = channel();
        let mut lines = BufReader::new(stdout).lines();
        let ready = lines.next();
        assert!(
            matches!(&ready, Some(Ok(line)) if line == "ready"),
            "{ready:?}"
        );
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Some(frame) = Frame::from_hex(&line) else {
                    panic!("no frame: {line}");
                };
                if tell.send(frame).is_err() {
                    return;
                }
            }
        });
        Self {
            namespace,
            outer,
            place: Place::default(),
            mac,
            station,
            stdin,
            heard,
        }
    }

    /// The end of its wire that is to be plugged.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.outer
    }

    /// Lays its wire to a host.
    pub fn wire_to(&self, namespace: &str) {
        self.place.take(&self.outer, namespace);
    }

    /// Its MAC address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Its network namespace, for `ip netns exec`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Powers its interface up or down, as its operating system would.
    pub fn link(&self, up: bool) {
        let state = if up { "up" } else { "down" };
        run("ip", &["-n", &self.namespace, "link", "set", "eth0", state]);
    }

    /// Sends a frame as it is.
    ///
    /// # Panics
    /// Its station has ended.
    pub fn send(&mut self, frame: &Frame) {
        let stdin = self.stdin.as_mut().expect("a station");
        writeln!(stdin, "{}", frame.to_hex()).expect("a station that listens");
    }

    /// The next frame that arrives in time.
    pub fn next(&mut self, within: Duration) -> Option<Frame> {
        match self.heard.recv_timeout(within) {
            Ok(frame) => Some(frame),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the station of {} ended", self.outer),
        }
    }

    /// All frames up to the one that holds: what a test sends last on the same
    /// way tells that all before it has arrived or never will. That one is left
    /// out. None if it doesn't come.
    pub fn until(&mut self, last: impl Fn(&Frame) -> bool) -> Option<Vec<Frame>> {
        let deadline = Instant::now() + LOST;
        let mut frames = Vec::new();
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            let frame = self.next(left)?;
            if last(&frame) {
                return Some(frames);
            }
            frames.push(frame);
        }
    }

    /// Forgets what has arrived.
    pub fn drain(&mut self) {
        while self.heard.try_recv().is_ok() {}
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // The station ends with its input.
        drop(self.stdin.take());
        let end: io::Result<_> = self.station.wait();
        let deleted = Command::new("ip")
            .args(["netns", "del", &self.namespace])
            .status();
        if !std::thread::panicking() {
            assert!(end.is_ok() && deleted.is_ok_and(|status| status.success()));
        }
    }
}

/// A cable between two hosts.
#[derive(Debug)]
pub struct Wire {
    ends: [(String, Place); 2],
}

impl Wire {
    /// One whose ends lie loose.
    #[must_use]
    pub fn new() -> Self {
        let (process, number) = unique();
        let ends = ["a", "b"].map(|end| format!("w{process:x}-{number:x}{end}"));
        let [a, b] = &ends;
        run("ip", &["link", "add", a, "type", "veth", "peer", "name", b]);
        Self {
            ends: ends.map(|end| (end, Place::default())),
        }
    }

    /// Takes an end, 0 or 1, to a host; answers its name there.
    ///
    /// # Panics
    /// There is no such end.
    pub fn end(&self, end: usize, namespace: &str) -> &str {
        let (name, place) = &self.ends[end];
        place.take(name, namespace);
        name
    }

    /// The name of an end.
    ///
    /// # Panics
    /// There is no such end.
    #[must_use]
    pub fn name(&self, end: usize) -> &str {
        &self.ends[end].0
    }

    /// Cuts it, or mends it.
    pub fn connected(&self, connected: bool) {
        let state = if connected { "up" } else { "down" };
        for (end, place) in &self.ends {
            place.ip(&["link", "set", end, state]);
        }
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}
