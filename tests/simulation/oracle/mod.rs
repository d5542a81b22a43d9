//! What must hold after every step, from the design's guarantees and the RFCs, and not from the session's code.

mod client;
mod server;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ftpgate::addr::Side;
use ftpgate::ftp::line::Line;
use ftpgate::policy::{AtSessionEnd, Rule};
use ftpgate::session::{Action, CloseReason, Event, HowEnded, Input, PinholeId, Refusal};

use crate::cast::{Cast, Manner};
use crate::server::{Heeds, Server};
use crate::wire::{self, Framed, Framing};

/// How many commands may wait for replies, and how many pinholes a session may have at a time.
const MAX_ASKED: usize = 40;
const MAX_HOLES: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Greeting,
    Passive { extended: bool },
    Active { at: Option<SocketAddr> },
    Transfer { hole: Option<PinholeId>, begun: bool },
    Abort,
    Status,
    Other,
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    ordinal: u32,
    kind: Kind,
    forwarded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    Started,
    Ended(HowEnded),
    Closed,
}

#[derive(Debug)]
struct Known {
    id: PinholeId,
    listens: [bool; 2],
    ports: [Option<u16>; 2],
    state: State,
}

pub(crate) struct Oracle {
    manner: Manner,
    cast: Cast,
    rule: Arc<Rule>,
    now: u64,
    pub(crate) asked: VecDeque<Asked>,
    ordinal: u32,
    /// The last command that negotiates, and whether a pinhole was asked for it.
    negotiating: Option<u32>,
    has_opened: bool,
    /// PASV or EPSV was sent to the server and has no answer.
    server_asked: bool,
    /// The end of the server's reply that is being handled.
    server_ended: Option<u16>,
    server_text: Vec<u8>,
    server_final_at: u64,
    from_server: Framing,
    to_client: Framing,
    pool: VecDeque<Vec<u8>>,
    client_line: Option<Vec<u8>>,
    holes: Vec<Known>,
    last_id: u64,
    armed: Option<PinholeId>,
    pub(crate) transfers: u32,
    pub(crate) records: u32,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) completed: u32,
    pub(crate) over: bool,
    /// The client is lost; what it uploads may go on.
    is_abandoned: bool,
    /// The final reply whose lines pass now has this number.
    tag: Option<u32>,
    shares: bool,
    heeds: Heeds,
    /// The server has told of an aborted transfer by 1yz, and says no more of it.
    has_forgotten: bool,
    /// A reply has ended by another code than it began with.
    unframed: bool,
    /// A reply came that may have been a transfer's or another command's.
    doubtful: bool,
    /// The answer to one command was taken for a transfer's.
    swapped: bool,
    /// A transfer whose 250 was told while another command waited that may have such an answer.
    untold: Option<Asked>,
    /// ABORs that the gate took to share a reply.
    late: Vec<Asked>,
}

type Verdict = Result<(), String>;

fn no<T>(what: impl Into<String>) -> Result<T, String> {
    Err(what.into())
}

impl Oracle {
    pub(crate) fn new(cast: &Cast) -> Self {
        Self {
            manner: cast.manner,
            rule: Arc::new(cast.rule.clone()),
            cast: cast.clone(),
            now: 0,
            asked: VecDeque::from([Asked { ordinal: 0, kind: Kind::Greeting, forwarded: true }]),
            ordinal: 0,
            negotiating: None,
            has_opened: false,
            server_asked: false,
            server_ended: None,
            server_text: Vec::new(),
            server_final_at: 0,
            from_server: Framing::default(),
            to_client: Framing::default(),
            pool: VecDeque::new(),
            client_line: None,
            holes: Vec::new(),
            last_id: 0,
            armed: None,
            transfers: 0,
            records: 0,
            closed: None,
            completed: 0,
            over: false,
            is_abandoned: false,
            tag: None,
            shares: false,
            heeds: Heeds::Late,
            has_forgotten: false,
            unframed: false,
            doubtful: false,
            swapped: false,
            untold: None,
            late: Vec::new(),
        }
    }

    /// Takes note of what the session is about to hear.
    pub(crate) fn hears(&mut self, now: u64, input: &Input, server: &Server) -> Verdict {
        self.now = now;
        (self.shares, self.heeds) = (server.shares, server.heeds);
        self.server_ended = None;
        self.client_line = None;
        match input {
            Input::ClientLine(line) => self.client(line),
            Input::BadLine(Side::Client, _) => self.ask(Kind::Other),
            Input::ServerLine(line) => self.server(line, &server.forgotten),
            Input::PinholeOpened { id, client_port, server_port, .. } => {
                if let Some(hole) = self.hole(*id)
                    && hole.state == State::Opening
                {
                    hole.ports = [*client_port, *server_port];
                    hole.state = State::Open;
                }
            }
            Input::PinholeFailed { id, refusal } => {
                self.holes.retain(|hole| hole.id != *id);
                // The server is asked once more.
                self.has_opened &= !matches!(refusal, Refusal::ServerPortClosed(_));
            }
            Input::DataStarted(id) => {
                if let Some(hole) = self.hole(*id).filter(|hole| hole.state == State::Open) {
                    hole.state = State::Started;
                }
            }
            Input::DataEnded(id, end) => {
                if let Some(hole) = self.hole(*id).filter(|hole| hole.state != State::Closed) {
                    hole.state = State::Ended(end.how);
                }
            }
            Input::PeerLost(Side::Client) => self.is_abandoned = true,
            Input::Decided(ftpgate::policy::Decision::Allow(rule)) => self.rule = Arc::clone(rule),
            _ => {}
        }
        if self.asked.len() > MAX_ASKED && !self.over {
            return no(format!("{} commands wait and the client is still read", self.asked.len()));
        }
        Ok(())
    }

    fn hole(&mut self, id: PinholeId) -> Option<&mut Known> {
        self.holes.iter_mut().find(|hole| hole.id == id)
    }

    fn ask(&mut self, kind: Kind) {
        self.ordinal += 1;
        self.asked.push_back(Asked { ordinal: self.ordinal, kind, forwarded: false });
    }

    fn client(&mut self, line: &Line) {
        let argument = wire::argument(&line.bytes);
        let kind = match wire::verb(&line.bytes).as_str() {
            "PASV" => Kind::Passive { extended: false },
            "EPSV" if !argument.eq_ignore_ascii_case("all") => Kind::Passive { extended: true },
            "PORT" => Kind::Active { at: wire::port(&argument) },
            "EPRT" => Kind::Active { at: wire::eprt(&argument) },
            "RETR" | "STOR" | "STOU" | "APPE" | "LIST" | "NLST" | "MLSD" => Kind::Transfer { hole: None, begun: false },
            "ABOR" => Kind::Abort,
            "STAT" => Kind::Status,
            _ => Kind::Other,
        };
        self.ask(kind);
        if matches!(kind, Kind::Passive { .. } | Kind::Active { .. }) {
            self.negotiating = Some(self.ordinal);
            self.has_opened = false;
        }
        self.client_line = Some(line.bytes.clone());
    }

    fn server(&mut self, line: &Line, forgotten: &[[u32; 2]]) {
        let framed = self.from_server.next(&line.bytes);
        if let Framed::Begin(_) | Framed::Whole(_) = framed {
            self.server_text.clear();
            self.server_final_at = self.now;
        }
        self.server_text.extend_from_slice(&line.bytes);
        self.server_text.push(b'\n');
        if let Framed::End(code) | Framed::Whole(code) = framed {
            self.server_ended = Some(code);
            self.forget(code, wire::tag(&line.bytes), forgotten);
        }
        if self.pool.len() > 128 {
            self.pool.pop_front();
        }
        self.pool.push_back(line.bytes.clone());
    }

    /// The server tells by a 1yz reply that a transfer is aborted, and answers neither that nor its ABOR.
    fn forget(&mut self, code: u16, tag: Option<u32>, forgotten: &[[u32; 2]]) {
        let told = forgotten.iter().find(|[transfer, _]| code == 150 && Some(*transfer) == tag);
        let Some(told) = told.filter(|_| wire::is_measured(&self.server_text)) else { return };
        self.has_forgotten = true;
        if self.manner != Manner::Wild {
            self.asked.retain(|asked| !told.contains(&asked.ordinal));
        }
    }

    /// The number that the server is given with a line of the gate's.
    pub(crate) fn number(&self) -> u32 {
        if self.client_line.is_some() { self.ordinal } else { self.negotiating.unwrap_or_default() }
    }

    /// Judges one action. `is_last` where no other follows.
    pub(crate) fn action(&mut self, action: &Action, is_last: bool) -> Verdict {
        if self.closed.is_some() && !matches!(action, Action::Report(_)) {
            return no("an action after Close");
        }
        match action {
            Action::Forward { line, .. } if line.iter().any(|byte| b"\r\n".contains(byte)) => {
                no("a line with an end in it")
            }
            Action::Forward { to: Side::Client, line, .. } => self.tells_client(line),
            Action::Forward { to: Side::Server, line, .. } => self.tells_server(line),
            Action::OpenPinhole(_) if !is_last => no("an action after OpenPinhole"),
            Action::OpenPinhole(pinhole) => self.opens(pinhole),
            Action::Dial(id, _) => {
                let dialled = self.holes.iter().any(|hole| hole.id == *id && hole.listens == [false, false]);
                if dialled { Ok(()) } else { no("Dial for a pinhole whose legs are not both dialled") }
            }
            Action::Finish(id) => {
                let both = self.holes.iter().any(|hole| hole.id == *id && hole.listens == [true, true]);
                if both { Ok(()) } else { no("Finish for a pinhole whose legs are not both listened for") }
            }
            Action::Deliver(id) | Action::Linger(id) | Action::Prolong(id, _) => {
                let is_open = |hole: &&mut Known| matches!(hole.state, State::Open | State::Started);
                if self.hole(*id).filter(is_open).is_some() { Ok(()) } else { no("a pinhole that is not open is told") }
            }
            Action::ClosePinhole(id) => match self.hole(*id) {
                Some(hole) if !matches!(hole.state, State::Closed | State::Ended(_)) => {
                    hole.state = State::Closed;
                    if self.armed == Some(*id) {
                        self.armed = None;
                    }
                    Ok(())
                }
                _ => no("a pinhole is closed that is not open"),
            },
            Action::Report(Event::Transferred(_)) => {
                self.records += 1;
                if self.records > self.transfers { no("more records than transfers") } else { Ok(()) }
            }
            Action::Report(Event::Refused { refusal: Refusal::ReplyEnd, .. }) => {
                // Only a wild server's replies end so, and who counts what such a server owes?
                (self.to_client, self.from_server) = (Framing::default(), Framing::default());
                (self.over, self.unframed) = (true, true);
                if self.manner == Manner::Wild { Ok(()) } else { no("a reply is cut short") }
            }
            Action::Report(_) | Action::Remember(_) | Action::CloseWrite(_) => Ok(()),
            Action::Close(reason) => self.closes(*reason),
        }
    }

    fn closes(&mut self, reason: CloseReason) -> Verdict {
        self.closed = Some(reason);
        let cut = matches!(reason, CloseReason::Denied | CloseReason::Shutdown);
        // In order, or nobody is there whom more could be asked of.
        let in_order = reason == CloseReason::Ended || self.is_abandoned;
        let finish = in_order || self.rule.at_session_end == AtSessionEnd::Finish;
        for hole in &self.holes {
            match hole.state {
                State::Opening | State::Open => return no("a pinhole outlives its session"),
                State::Started if cut => return no("a transfer outlives the rules"),
                State::Started if !finish && !self.over && self.manner != Manner::Wild => {
                    let unanswered =
                        |asked: &Asked| matches!(asked.kind, Kind::Transfer { hole: Some(id), .. } if id == hole.id);
                    if self.asked.iter().any(unanswered) {
                        return no("a transfer outlives its session");
                    }
                }
                State::Started | State::Ended(_) | State::Closed => {}
            }
        }
        Ok(())
    }

    /// Commands that nobody can have left unanswered any more.
    pub(crate) fn unanswered(&self) -> Option<&Asked> {
        let owed = |asked: &&Asked| !self.over && (asked.kind != Kind::Abort || !self.shares);
        self.asked.iter().find(owed)
    }
}

impl Oracle {
    /// Whether time stands still although something is due.
    pub(crate) fn after_timeout(now: Duration, due: Option<Duration>) -> Verdict {
        if due.is_some_and(|due| due <= now) { no("a timeout is due again at once") } else { Ok(()) }
    }
}
