//! Who takes part in one conversation: drawn from its seed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ftpgate::addr::{BackAddr, ClientAddr, Ends, FrontAddr, PortRange, PortRanges, ServerAddr};
use ftpgate::policy::{AtSessionEnd, Inbound, Outbound, Permission, Rule, ServerMode};

/// How the peers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As the RFCs and real servers do.
    Good,
    /// Each command has its answer, but there are finals too many, legs that fail, and rules that change.
    Odd,
    /// Anything.
    Wild,
}

/// The notations that a server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Knows {
    Both,
    Plain,
    Extended,
}

impl Knows {
    pub(crate) fn has(self, extended: bool) -> bool {
        match self {
            Self::Both => true,
            Self::Plain => !extended,
            Self::Extended => extended,
        }
    }
}

/// How a data connection is negotiated on both legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Combination {
    pub(crate) client_passive: bool,
    pub(crate) client_extended: bool,
    pub(crate) client_v6: bool,
    pub(crate) server_mode: u8,
    pub(crate) knows: Knows,
    pub(crate) server_v6: bool,
}

impl Combination {
    /// Every one that can be: IPv6 has the extended notations only.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (client_extended, client_v6) in [(false, false), (true, false), (true, true)] {
            for (knows, server_v6) in [
                (Knows::Both, false),
                (Knows::Plain, false),
                (Knows::Extended, false),
                (Knows::Both, true),
                (Knows::Extended, true),
            ] {
                for client_passive in [true, false] {
                    for server_mode in 0..3 {
                        all.push(Self { client_passive, client_extended, client_v6, server_mode, knows, server_v6 });
                    }
                }
            }
        }
        all
    }
}

/// One conversation's cast.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    pub(crate) manner: Manner,
    pub(crate) combination: Combination,
    pub(crate) ends: Ends,
    pub(crate) announced: IpAddr,
    pub(crate) rule: Rule,
    /// The kernel moves the bytes where it can.
    pub(crate) kernel: bool,
    /// Lines come in segments that are no lines.
    pub(crate) split: bool,
    /// The client, and the server, reads nothing of what it is sent.
    pub(crate) deaf: [bool; 2],
    /// The client, and the server, sends many lines at a time.
    pub(crate) floods: [bool; 2],
}

pub(crate) const INBOUND: [u16; 2] = [10_001, 10_005];
pub(crate) const OUTBOUND: [u16; 2] = [40_000, 40_009];

impl Cast {
    pub(crate) fn draw(seed: u64, rng: &mut Rng, combinations: &[Combination]) -> Self {
        let manner = match seed % 4 {
            0 | 1 => Manner::Good,
            2 => Manner::Odd,
            _ => Manner::Wild,
        };
        let place = usize::try_from(seed / 4 * 2 + seed % 2).unwrap_or_default() % combinations.len();
        let combination = combinations[place];
        let socket = |text: &str| text.parse().expect("an address");
        let (client, front) = if combination.client_v6 {
            (socket("[2001:db8:1::2]:50000"), socket("[2001:db8:1::1]:21"))
        } else {
            (socket("198.51.100.7:50000"), socket("203.0.113.5:21"))
        };
        let (back, server) = if combination.server_v6 {
            (socket("[2001:db8:2::1]:40000"), socket("[2001:db8:2::2]:21"))
        } else {
            (socket("10.0.2.1:40000"), socket("10.0.2.2:21"))
        };
        let ends = Ends {
            client: ClientAddr::new(client),
            front: FrontAddr::new(front),
            back: BackAddr::new(back),
            server: ServerAddr::new(server),
        };
        let behind_nat = !combination.client_v6 && rng.u8(..4) == 0;
        let announced = if behind_nat { IpAddr::from([192, 0, 2, 99]) } else { ends.front.ip() };
        let mut rule = rule(combination.server_mode);
        if rng.u8(..4) == 0 {
            rule.at_session_end = AtSessionEnd::Finish;
        }
        if rng.u8(..8) == 0 {
            rule.pinhole_timeout = Duration::from_secs(5);
        }
        if let Some(outbound) = &mut rule.outbound
            && rng.u8(..4) == 0
        {
            outbound.source_port = Some(20);
        }
        let wild = manner != Manner::Good;
        if wild && rng.u8(..8) == 0 {
            rule.inbound = None;
        }
        if wild && rng.u8(..8) == 0 {
            rule.outbound = None;
        }
        let (kernel, split) = (rng.bool(), rng.bool());
        let mut one_in_four = || [(); 2].map(|()| manner == Manner::Wild && rng.u8(..4) == 0);
        let (deaf, floods) = (one_in_four(), one_in_four());
        Self { manner, combination, ends, announced, rule, kernel, split, deaf, floods }
    }
}

fn ranges(first: u16, last: u16) -> PortRanges {
    PortRanges::new(PortRange::new(first, last).into_iter().collect()).expect("a range")
}

pub(crate) fn rule(server_mode: u8) -> Rule {
    Rule {
        inbound: Some(Inbound { gate_ports: ranges(INBOUND[0], INBOUND[1]), server_ports: ranges(30_000, 60_000) }),
        outbound: Some(Outbound {
            client_ports: ranges(1024, 65_535),
            gate_ports: Some(ranges(OUTBOUND[0], OUTBOUND[1])),
            source_port: None,
        }),
        server_mode: match server_mode {
            0 => ServerMode::Same,
            1 => ServerMode::Passive,
            _ => ServerMode::Active,
        },
        ..Rule::new("partners", Permission::Allow)
    }
}

/// Another rule that a reload may bring.
pub(crate) fn changed(rule: &Rule, rng: &mut Rng) -> Arc<Rule> {
    let mut changed = rule.clone();
    match rng.u8(..4) {
        0 => changed.inbound = None,
        1 => changed.outbound = None,
        2 => {
            if let Some(inbound) = &mut changed.inbound {
                inbound.gate_ports = ranges(11_000, 11_003);
            }
        }
        _ => changed.server_mode = ServerMode::Same,
    }
    Arc::new(changed)
}
