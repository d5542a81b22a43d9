//! One cell of the matrix: a client, a server, and the way between them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::lab::client::{Client, Visit};
use crate::lab::gate::{Datapath, Gate, Listener};
use crate::lab::job::tail;
use crate::lab::net::Net;
use crate::lab::scratch::Scratch;
use crate::lab::server::{Server, USER};
use crate::lab::{Fault, Leg, goods};

/// Who talks to whom, how the client does its part, and what is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    pub server: Server,
    pub client: Client,
    /// The client's leg.
    pub leg: Leg,
    pub via: Via,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    Direct,
    /// Direct to a server that knows only this leg, on a machine that has only its family.
    Limited,
    Gate(Listener, Datapath),
    /// The server's leg is this one: as far as it can be brought to, the server knows no other. Both machines have
    /// only the family of their leg.
    Bridge(Leg),
}

#[derive(Clone)]
pub enum Outcome {
    Works,
    /// It does not work without the gate either.
    LeftOut(String),
    Broken(String),
}

/// How often a pair is tried direct that failed through the gate.
const TRIES: usize = 5;

/// Runs the cell: direct, and through the gate if that works.
pub fn run(cell: Cell) -> Outcome {
    if let Some(reason) = cell.cannot() {
        return Outcome::LeftOut(reason.to_owned());
    }
    let first = cell.direct_first();
    let fault =
        match (first.iter().map(|cell| direct(*cell)).find(|outcome| !matches!(outcome, Outcome::Works)), cell.via) {
            (Some(outcome), _) => return outcome,
            (None, Via::Direct | Via::Limited) => return Outcome::Works,
            (None, Via::Gate(..) | Via::Bridge(_)) => match visit(cell) {
                Ok(()) => return Outcome::Works,
                Err(fault) => fault,
            },
        };
    // Some pairs fail direct too, now and then, when the machine has much to do.
    match (0..TRIES).flat_map(|_| &first).find_map(|cell| visit(*cell).err()) {
        Some(_) => Outcome::LeftOut("fails direct too, now and then".to_owned()),
        None => Outcome::Broken(fault.to_string()),
    }
}

/// The outcome of a cell without the gate, found out once for all the others.
fn direct(cell: Cell) -> Outcome {
    type Known = Mutex<HashMap<Cell, Arc<OnceLock<Outcome>>>>;
    static KNOWN: OnceLock<Known> = OnceLock::new();
    let known = KNOWN.get_or_init(Known::default);
    let slot = Arc::clone(known.lock().unwrap_or_else(PoisonError::into_inner).entry(cell).or_default());
    // A lab that does not stand says nothing about the programs in it.
    let outcome = slot.get_or_init(|| match Net::new() {
        Err(fault) => Outcome::Broken(format!("the lab does not stand: {fault}")),
        // Leaving a cell out hides whatever the gate does in it: do not do so for an accident.
        Ok(_) => match visit(cell).or_else(|_| visit(cell)) {
            Ok(()) => Outcome::Works,
            Err(fault) => Outcome::LeftOut(format!("does not work direct ({cell}): {fault}")),
        },
    });
    outcome.clone()
}

/// One visit in a lab of its own; the error holds what everyone wrote.
fn visit(cell: Cell) -> Result<(), Fault> {
    let Cell { server, client, leg, via } = cell;
    let net = Net::new()?;
    let theirs = cell.server_leg();
    if matches!(via, Via::Limited | Via::Bridge(_)) {
        Net::keep_only(&net.client, leg.family)?;
        Net::keep_only(&net.server, theirs.family)?;
    }
    let serving = match via {
        Via::Direct | Via::Gate(..) => server.start(&net.server, theirs.family)?,
        Via::Limited | Via::Bridge(_) => server.start_limited(&net.server, theirs)?,
    };
    if matches!(via, Via::Gate(..) | Via::Bridge(_)) {
        net.close()?;
    }
    let (gate, address) = match via {
        Via::Direct | Via::Limited => (None, Net::server_address(leg.family)),
        Via::Gate(listener, datapath) => {
            (Some(Gate::start(&net, listener, datapath, leg.family)?), listener.server_as_seen(leg.family))
        }
        Via::Bridge(_) => (Some(Gate::bridge(&net, leg, theirs)?), Listener::Reverse.server_as_seen(leg.family)),
    };
    let folder = Scratch::new("client")?;
    goods::stock_client(folder.path())?;
    let log = folder.join("log");
    let made =
        client.visit(&net.client, &Visit { server: address, leg, user: USER, folder: folder.path() }).and_then(|()| {
            let said = std::fs::read(&log)?;
            goods::inspect(&serving.home(), folder.path(), &said, client.abilities())
        });
    let made = made.and_then(|()| gate.as_ref().map_or(Ok(()), |gate| inspect(gate, cell)));
    let Err(fault) = made else { return Ok(()) };
    let gate = gate.map_or_else(String::new, |gate| format!("\n--- gate\n{}", gate.tail()));
    Err(format!("{fault}\n--- {client}\n{}\n--- {server}\n{}{gate}", tail(&log), serving.tail()).into())
}

/// What the gate says of itself must fit.
fn inspect(gate: &Gate, cell: Cell) -> Result<(), Fault> {
    let log = gate.log();
    if log.contains("panicked at") {
        return Err("the gate panicked".into());
    }
    let (ours, theirs) = (cell.leg, cell.server_leg());
    let said = match cell.via {
        Via::Direct | Via::Limited => return Ok(()),
        Via::Gate(_, datapath) => format!("datapath=\"{datapath}\""),
        Via::Bridge(_) if ours.mode == theirs.mode => format!("mode=\"{}\" datapath=", ours.mode),
        Via::Bridge(_) => format!("mode=\"{}\" server_mode=\"{}\"", ours.mode, theirs.mode),
    };
    let mut transfers = log.lines().filter(|line| line.contains("event=\"transfer\"")).peekable();
    if transfers.peek().is_none() {
        return Err("the gate saw no transfer".into());
    }
    transfers.find(|line| !line.contains(&said)).map_or(Ok(()), |line| Err(format!("not {said}: {line}").into()))
}

impl Cell {
    /// How the server does its part.
    pub fn server_leg(self) -> Leg {
        match self.via {
            Via::Direct | Via::Limited | Via::Gate(..) => self.leg,
            Via::Bridge(leg) => leg,
        }
    }

    /// Why this cannot be, whatever stands between.
    pub fn cannot(self) -> Option<&'static str> {
        self.client.cannot(self.leg).or_else(|| self.server.cannot(self.server_leg()))
    }

    /// What has to work without the gate: either leg of a bridge, where the client can be brought to the server's.
    fn direct_first(self) -> Vec<Self> {
        match self.via {
            Via::Direct | Via::Gate(..) => vec![Self { via: Via::Direct, ..self }],
            Via::Limited => vec![self],
            Via::Bridge(theirs) => {
                let limited = Self { leg: theirs, via: Via::Limited, ..self };
                let own = Self { via: Via::Direct, ..self };
                [own, limited].into_iter().filter(|cell| cell.cannot().is_none()).collect()
            }
        }
    }
}

/// `vsftpd/curl/passive/v4/reverse/kernel`, `vsftpd/curl/passive/v6/bridge/active/v4-plain`.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.server, self.client, self.leg, self.via)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.pad("direct"),
            Self::Limited => f.pad("limited"),
            Self::Bridge(leg) => write!(f, "bridge/{leg}"),
            Self::Gate(listener, datapath) => write!(f, "{listener}/{datapath}"),
        }
    }
}
