//! One cell of the matrix: a client, a server, and the way between them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::lab::client::{Client, Visit};
use crate::lab::gate::{Datapath, Gate, Listener};
use crate::lab::job::tail;
use crate::lab::net::Net;
use crate::lab::scratch::Scratch;
use crate::lab::server::Server;
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
}

#[derive(Clone)]
pub enum Outcome {
    Works,
    /// It does not work without the gate either.
    LeftOut(String),
    Broken(String),
}

/// Runs the cell: direct, and through the gate if that works.
pub fn run(cell: Cell) -> Outcome {
    if let Some(reason) = cell.talk.cannot() {
        return Outcome::LeftOut(reason.to_owned());
    }
    let direct = direct(cell.talk);
    match (&direct, cell.via) {
        (Outcome::Works, Via::Gate(listener, datapath)) => talk(cell.talk, Some((listener, datapath)))
            .map_or_else(|report| Outcome::Broken(report.to_string()), |()| Outcome::Works),
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
        Ok(_) => match self::talk(talk, None).or_else(|_| self::talk(talk, None)) {
            Ok(()) => Outcome::Works,
            Err(fault) => Outcome::LeftOut(format!("does not work direct: {fault}")),
        },
    });
    outcome.clone()
}

/// One visit in a lab of its own; the error holds what everyone wrote.
fn talk(talk: Talk, via: Option<(Listener, Datapath)>) -> Result<(), Fault> {
    let net = Net::new()?;
    let server = talk.server.start(&net.server, talk.family)?;
    let mut gate = None;
    let mut address = Net::server_address(talk.family);
    if let Some((listener, datapath)) = via {
        net.close()?;
        gate = Some(Gate::start(&net, listener, datapath, talk.family)?);
        address = listener.server_as_seen(talk.family);
    }
    let folder = Scratch::new("client")?;
    goods::stock_client(folder.path())?;
    let visit = Visit { server: address, mode: talk.mode, folder: folder.path() };
    let log = folder.join("log");
    let made = talk.client.visit(&net.client, &visit).and_then(|()| {
        let said = std::fs::read(&log)?;
        goods::inspect(&server.home(), folder.path(), &said, talk.client.abilities())
    });
    let made =
        made.and_then(|()| gate.as_ref().zip(via).map_or(Ok(()), |(gate, (_, datapath))| inspect(gate, datapath)));
    let Err(fault) = made else { return Ok(()) };
    let gate = gate.map_or_else(String::new, |gate| format!("\n--- gate\n{}", gate.tail()));
    Err(format!("{fault}\n--- {}\n{}\n--- {}\n{}{gate}", talk.client, tail(&log), talk.server, server.tail()).into())
}

/// What the gate says of itself must fit.
fn inspect(gate: &Gate, datapath: Datapath) -> Result<(), Fault> {
    let log = gate.log();
    if log.contains("panicked at") {
        return Err("the gate panicked".into());
    }
    let carried = format!("datapath=\"{datapath}\"");
    let stray = log.lines().find(|line| line.contains("event=\"transfer\"") && !line.contains(&carried));
    stray.map_or(Ok(()), |line| Err(format!("not by the {datapath}: {line}").into()))
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
            Self::Gate(listener, datapath) => write!(f, "{listener}/{datapath}"),
        }
    }
}
