//! Ports that no other test uses, and the rules file that is made of them.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 10_000;
const SIZE: u16 = 12;
/// They end below the ports that the kernel gives away itself.
const SLOTS: u16 = 1_800;

static TAKEN: AtomicU16 = AtomicU16::new(0);

/// A few ports in a row for one test.
pub struct Slot {
    pub first: u16,
    /// The same number in UDP says to other tests that the ports are taken.
    _claim: UdpSocket,
}

impl Slot {
    pub fn new() -> Self {
        let start = u16::try_from(process::id() % u32::from(SLOTS)).unwrap();
        (0..SLOTS)
            .find_map(|_| {
                let next = TAKEN.fetch_add(1, Ordering::Relaxed).wrapping_mul(7);
                let first = FIRST + (start + next) % SLOTS * SIZE;
                let claim = UdpSocket::bind((Ipv4Addr::LOCALHOST, first)).ok()?;
                let free = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
                (first..first + SIZE).all(free).then_some(Self { first, _claim: claim })
            })
            .expect("no ports are free")
    }
}

/// What a test wants in the rules file.
pub struct Rules {
    pub slot: Slot,
    pub server: u16,
    pub action: &'static str,
    pub inbound: RangeInclusive<u16>,
    pub server_ports: Option<String>,
    pub outbound: RangeInclusive<u16>,
    pub client_ports: Option<String>,
    pub pinhole_timeout: &'static str,
    pub from: &'static str,
    /// How the listener stands in front of servers, in place of `server:`.
    pub stand: &'static str,
    /// More lines of the listener and of the rule, each indented by four.
    pub listener: &'static str,
    pub rule: &'static str,
}

impl Rules {
    pub fn new(server: u16) -> Self {
        let slot = Slot::new();
        let first = slot.first;
        Self {
            slot,
            server,
            action: "allow",
            inbound: first + 1..=first + 5,
            server_ports: None,
            outbound: first + 6..=first + 9,
            client_ports: None,
            pinhole_timeout: "60s",
            from: "127.0.0.0/8",
            stand: "",
            listener: "",
            rule: "",
        }
    }

    pub const fn front(&self) -> u16 {
        self.slot.first
    }

    /// Ports that the rules do not speak of, for those who want to change them.
    pub const fn spare(&self) -> RangeInclusive<u16> {
        self.slot.first + 10..=self.slot.first + 11
    }

    /// Every port that might be open but for the listener.
    pub const fn all(&self) -> RangeInclusive<u16> {
        self.slot.first + 1..=self.slot.first + SIZE - 1
    }

    pub fn yaml(&self) -> String {
        let range = |range: &RangeInclusive<u16>| format!("{}-{}", range.start(), range.end());
        let (front, server) = (self.front(), self.server);
        let stand =
            if self.stand.is_empty() { format!("    server: \"127.0.0.1:{server}\"\n") } else { self.stand.to_owned() };
        let mut text = format!(
            "version: 1\nlisteners:\n  - name: front\n    bind: \"127.0.0.1:{front}\"\n\
             {stand}{}rules:\n  - name: tested\n    from: \"{}\"\n    to: any\n    action: {}\n",
            self.listener, self.from, self.action
        );
        if self.action == "deny" {
            return text;
        }
        let _ = write!(
            text,
            "{}    datapath: relay\n    pinhole_timeout: \"{}\"\n    inbound:\n      gate_ports: \"{}\"\n",
            self.rule,
            self.pinhole_timeout,
            range(&self.inbound)
        );
        if let Some(ports) = &self.server_ports {
            let _ = writeln!(text, "      server_ports: \"{ports}\"");
        }
        let _ = write!(text, "    outbound:\n      gate_ports: \"{}\"\n", range(&self.outbound));
        if let Some(ports) = &self.client_ports {
            let _ = writeln!(text, "      client_ports: \"{ports}\"");
        }
        text
    }
}
