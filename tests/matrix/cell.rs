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
use crate::lab::{Family, Fault, Mode, goods};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    pub talk: Talk,
    pub via: Via,
}

/// Who talks to whom, and how; the same with and without the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Talk {
    pub server: Server,
    pub client: Client,
    pub mode: Mode,
    pub family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    Direct,
    Gate(Listener, Datapath),
    /// The server is asked for the mode that the client does not use.
    Bridge,
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
    if let Some(reason) = cell.talk.cannot() {
        return Outcome::LeftOut(reason.to_owned());
    }
    let direct = direct(cell.talk);
    match (&direct, cell.via) {
        (Outcome::Works, Via::Gate(..) | Via::Bridge) => match talk(cell.talk, cell.via) {
            Ok(()) => Outcome::Works,
            // Some pairs fail direct too, now and then, when the machine has much to do.
            Err(fault) => match (0..TRIES).find_map(|_| talk(cell.talk, Via::Direct).err()) {
                Some(_) => Outcome::LeftOut("fails direct too, now and then".to_owned()),
                None => Outcome::Broken(fault.to_string()),
            },
        },
        _ => direct,
    }
}

/// The direct outcome, found out once for all listeners.
fn direct(talk: Talk) -> Outcome {
    type Known = Mutex<HashMap<Talk, Arc<OnceLock<Outcome>>>>;
    static KNOWN: OnceLock<Known> = OnceLock::new();
    let known = KNOWN.get_or_init(Known::default);
    let slot = Arc::clone(known.lock().unwrap_or_else(PoisonError::into_inner).entry(talk).or_default());
    // A lab that does not stand says nothing about the programs in it.
    let outcome = slot.get_or_init(|| match Net::new() {
        Err(fault) => Outcome::Broken(format!("the lab does not stand: {fault}")),
        // Leaving a cell out hides whatever the gate does in it: do not do so for an accident.
        Ok(_) => match self::talk(talk, Via::Direct).or_else(|_| self::talk(talk, Via::Direct)) {
            Ok(()) => Outcome::Works,
            Err(fault) => Outcome::LeftOut(format!("does not work direct: {fault}")),
        },
    });
    outcome.clone()
}

/// One visit in a lab of its own; the error holds what everyone wrote.
fn talk(talk: Talk, via: Via) -> Result<(), Fault> {
    let net = Net::new()?;
    let server = talk.server.start(&net.server, talk.family)?;
    let mut gate = None;
    let mut address = Net::server_address(talk.family);
    if via != Via::Direct {
        net.close()?;
    }
    match via {
        Via::Direct => {}
        Via::Gate(listener, datapath) => {
            gate = Some(Gate::start(&net, listener, datapath, talk.family)?);
            address = listener.server_as_seen(talk.family);
        }
        Via::Bridge => {
            gate = Some(Gate::bridge(&net, talk.mode, talk.family)?);
            address = Listener::Reverse.server_as_seen(talk.family);
        }
    }
    let folder = Scratch::new("client")?;
    goods::stock_client(folder.path())?;
    let visit = Visit { server: address, mode: talk.mode, user: USER, folder: folder.path() };
    let log = folder.join("log");
    let made = talk.client.visit(&net.client, &visit).and_then(|()| {
        let said = std::fs::read(&log)?;
        goods::inspect(&server.home(), folder.path(), &said, talk.client.abilities())
    });
    let made = made.and_then(|()| gate.as_ref().map_or(Ok(()), |gate| inspect(gate, talk, via)));
    let Err(fault) = made else { return Ok(()) };
    let gate = gate.map_or_else(String::new, |gate| format!("\n--- gate\n{}", gate.tail()));
    Err(format!("{fault}\n--- {}\n{}\n--- {}\n{}{gate}", talk.client, tail(&log), talk.server, server.tail()).into())
}

/// What the gate says of itself must fit.
fn inspect(gate: &Gate, talk: Talk, via: Via) -> Result<(), Fault> {
    let log = gate.log();
    if log.contains("panicked at") {
        return Err("the gate panicked".into());
    }
    let said = match via {
        Via::Direct => return Ok(()),
        Via::Gate(_, datapath) => format!("datapath=\"{datapath}\""),
        Via::Bridge => format!("mode=\"{}\" server_mode=\"{}\"", talk.mode, talk.mode.other()),
    };
    let stray = log.lines().find(|line| line.contains("event=\"transfer\"") && !line.contains(&said));
    stray.map_or(Ok(()), |line| Err(format!("not {said}: {line}").into()))
}

impl Talk {
    /// Why this cannot be, whatever stands between.
    pub fn cannot(self) -> Option<&'static str> {
        self.client.cannot(self.family)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.talk, self.via)
    }
}

impl fmt::Display for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.server, self.client, self.mode, self.family)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.pad("direct"),
            Self::Bridge => f.pad("bridge"),
            Self::Gate(listener, datapath) => write!(f, "{listener}/{datapath}"),
        }
    }
}
