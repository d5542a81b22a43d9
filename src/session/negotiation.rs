//! How the next data connection is agreed on. Each leg is negotiated for itself: what the client asks for says how it
//! is told, and the rule says in which mode the server is asked.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::data::{Places, Stands};
use super::event::Event;
use super::mode::{Mode, Modes};
use super::pending::Expected;
use super::pinhole::{Carrier, Leg, Pinhole, PinholeId};
use super::refusal::Refusal;
use super::story::Place;
use super::{Action, Control, Session};
use crate::addr::Side;
use crate::ftp::host_port::{self, Malformed};
use crate::ftp::redact::{excerpt, loggable_reply};
use crate::ftp::reply::{self, Code};
use crate::policy::ServerMode;

/// How long a server has to answer where the client is not read meanwhile: PASV, PORT, or many commands at once.
pub(super) const ANSWER: Duration = Duration::from_secs(60);

/// What the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To connect to us: it is told where by 229 where `extended`, else by 227.
    Connects { extended: bool },
    /// To be connected to, here; it said so by EPRT where `extended`, else by PORT.
    Waits { at: SocketAddr, extended: bool },
}

impl Wish {
    const fn mode(self) -> Mode {
        match self {
            Self::Connects { .. } => Mode::Passive,
            Self::Waits { .. } => Mode::Active,
        }
    }

    const fn is_extended(self) -> bool {
        match self {
            Self::Connects { extended } | Self::Waits { extended, .. } => extended,
        }
    }
}

/// One negotiation, from the client's command to the answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    wish: Wish,
    /// The client's line, as far as a log shows it.
    said: Box<[u8]>,
    /// The mode of the server's leg.
    server: Mode,
    /// The notation in which the server is asked: EPSV or EPRT, else PASV or PORT.
    extended: bool,
    /// The other one was tried before.
    retried: bool,
}

impl Request {
    /// In the other notation.
    fn changed(self) -> Self {
        Self { extended: !self.extended, retried: true, ..self }
    }
}

/// Where the talk about the next data connection stands.
///
///   server passive: Settled --> Queued --earlier replies ended--> Asked --227, 229--> Opening --opened--> Settled
///   server active:  Settled --> Opening --opened--> Offered --200--> Settled
///
/// The client is answered where it ends in Settled. A server that does not know the notation in which it was asked leads
/// from Asked back to Queued, and from Offered to Offered, once; a port that it named by 229 and that is closed leads from
/// Opening to Queued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Negotiation {
    #[default]
    Settled,
    /// The server is to be sent PASV or EPSV once it has answered everything before; see `ask.rs`.
    Queued { request: Request, until: Instant },
    /// The server was sent PASV or EPSV.
    Asked { request: Request, until: Instant },
    /// The pinhole is on its way; `told` is an excerpt of the server's 227 or 229 where it has named a port, and `to` that port.
    Opening { id: PinholeId, request: Request, told: Option<Box<[u8]>>, to: Option<SocketAddr> },
    /// The server was sent PORT or EPRT with the second of these ports; the first is the client's.
    Offered { request: Request, ports: [Option<u16>; 2], until: Instant },
}

/// What is told of a pinhole on its way: see [`Negotiation::Opening`].
type Opening = (Request, Option<Box<[u8]>>, Option<SocketAddr>);

impl Negotiation {
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Queued { until, .. } | Self::Asked { until, .. } | Self::Offered { until, .. } => Some(*until),
            Self::Settled | Self::Opening { .. } => None,
        }
    }

    /// Bytes on the heap.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Settled => 0,
            Self::Queued { request, .. } | Self::Asked { request, .. } | Self::Offered { request, .. } => {
                request.said.len()
            }
            Self::Opening { request, told, .. } => request.said.len() + told.as_ref().map_or(0, |told| told.len()),
        }
    }

    /// Whether a line of the server's waits for its pinhole.
    pub(super) const fn holds_reply(&self) -> bool {
        matches!(self, Self::Opening { told: Some(_), .. })
    }
}

/// The only notation that a server understands in each mode, where it was found not to know the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notations {
    passive: Option<bool>,
    active: Option<bool>,
}

impl Notations {
    /// For each mode whether the extended notation (EPSV, EPRT) is the one that is understood; `None`: not known.
    #[must_use]
    pub const fn new(passive: Option<bool>, active: Option<bool>) -> Self {
        Self { passive, active }
    }

    /// Whether it is the extended one.
    const fn of(&mut self, mode: Mode) -> &mut Option<bool> {
        match mode {
            Mode::Passive => &mut self.passive,
            Mode::Active => &mut self.active,
        }
    }
}

impl Session {
    /// Begins to negotiate what the client wants and may have.
    pub(super) fn negotiate(&mut self, now: Instant, wish: Wish, said: &[u8]) -> Result<(), Refusal> {
        let server = match self.rule.server_mode {
            ServerMode::Same => wish.mode(),
            ServerMode::Passive => Mode::Passive,
            ServerMode::Active => Mode::Active,
        };
        self.close_stale(now, None);
        self.end_if_drained(now);
        if self.control == Control::Closed {
            return Ok(());
        }
        if self.data.is_full() {
            return Err(Refusal::TooManyConnections);
        }
        let extended =
            self.ends.server.ip().is_ipv6() || self.data.notations.of(server).unwrap_or_else(|| wish.is_extended());
        let request = Request { wish, said: excerpt(said), server, extended, retried: false };
        match server {
            Mode::Passive => self.queue(now, request),
            Mode::Active => {
                let server = self.server_listens()?;
                self.open(request, server, None)?;
            }
        }
        Ok(())
    }

    /// Has the server asked for a port when it is its turn.
    fn queue(&mut self, now: Instant, request: Request) {
        self.data.negotiation = Negotiation::Queued { request, until: now + ANSWER };
    }

    /// Nothing more is asked of the server.
    pub(super) fn drop_queued(&mut self) {
        if matches!(self.data.negotiation, Negotiation::Queued { .. }) {
            self.data.negotiation = Negotiation::Settled;
        }
    }

    /// It is the turn of what is queued. The rules may have changed since.
    pub(super) fn ask_queued(&mut self, now: Instant) {
        if !matches!(self.data.negotiation, Negotiation::Queued { .. }) {
            return;
        }
        if let Negotiation::Queued { request, .. } = std::mem::take(&mut self.data.negotiation) {
            match self.client_leg(request.wish) {
                Ok(_) => self.ask(now, request),
                Err(refusal) => self.refuse(now, refusal, &request.said),
            }
        }
    }

    /// Asks the server for a port.
    fn ask(&mut self, now: Instant, request: Request) {
        let told = if request.extended { "EPSV" } else { "PASV" };
        self.rewritten(Side::Client, &request.said, told.as_bytes());
        self.data.negotiation = Negotiation::Asked { request, until: now + ANSWER };
        self.expect(now, Expected::Passive);
        self.forward(Side::Server, told.as_bytes().to_vec());
    }

    /// The server answered PASV or EPSV.
    pub(super) fn asked(&mut self, now: Instant, code: Code, lines: Vec<Vec<u8>>) {
        let Negotiation::Asked { request, .. } = std::mem::take(&mut self.data.negotiation) else { return };
        if !matches!(code.number(), 227 | 229) {
            if code.is_success() {
                // It agrees and names no port that could be read, so nothing is open.
                let said = lines.last().cloned().unwrap_or_default();
                return self.refuse_now(Refusal::MalformedReply(Malformed::Missing), &said);
            }
            return match self.in_other_words(request, code) {
                Some(request) => self.queue(now, request),
                None => self.forward_reply(lines),
            };
        }
        self.learn(&request);
        let texts: Vec<&[u8]> = lines.iter().map(|line| reply::text(line, code)).collect();
        let said = lines.last().cloned().unwrap_or_default();
        let opened = self.server_at(code, &texts).and_then(|to| {
            let server = Leg::Dial { to, from: self.ends.back.ip(), from_port: None };
            self.open(request, server, Some(excerpt(&said)))
        });
        if let Err(refusal) = opened {
            self.refuse_now(refusal, &said);
        }
    }

    /// The same request in the other notation, where the server does not know the one in which it was made.
    fn in_other_words(&self, request: Request, code: Code) -> Option<Request> {
        // 550: vsftpd's answer to a command that its `cmds_denied` names.
        let unknown = matches!(code.number(), 500 | 501 | 502 | 504 | 522 | 550);
        (unknown && self.can_change(&request)).then(|| request.changed())
    }

    /// Whether the server can be asked in the other notation.
    fn can_change(&self, request: &Request) -> bool {
        // After EPSV ALL the server has been promised that nothing else will come.
        let promised = self.epsv_all && request.server == Mode::Passive;
        !request.retried && !promised && self.ends.server.ip().is_ipv4()
    }

    /// What the server has understood at last is what it is told from now on.
    fn learn(&mut self, request: &Request) {
        let known = self.data.notations.of(request.server);
        if request.retried && *known != Some(request.extended) {
            *known = Some(request.extended);
            self.act(Action::Remember(self.data.notations));
        }
    }

    /// Has a pinhole opened for both legs.
    fn open(&mut self, request: Request, server: Leg, told: Option<Box<[u8]>>) -> Result<(), Refusal> {
        let client = self.client_leg(request.wish)?;
        self.data.last_id += 1;
        let id = PinholeId(self.data.last_id);
        let introduction = self.introduction(request.wish);
        // With an introduction the server is told of the client's connection, so that this comes first.
        let has_other = request.server == Mode::Passive
            && request.extended
            && matches!(request.wish, Wish::Connects { .. })
            && introduction.is_none()
            && self.can_change(&request);
        let to = match &server {
            Leg::Dial { to, .. } => Some(*to),
            Leg::Listen { .. } => None,
        };
        self.data.negotiation = Negotiation::Opening { id, request, told, to };
        let (datapath, timeout) = (self.rule.datapath, self.rule.pinhole_timeout);
        let data_peers = self.rule.data_peers.clone();
        self.act(Action::OpenPinhole(Pinhole {
            id,
            client,
            server,
            datapath,
            timeout,
            introduction,
            has_other,
            data_peers,
        }));
        Ok(())
    }

    /// The pinhole stands, and the legs that are listened for have these ports.
    pub(super) fn pinhole_opened(&mut self, now: Instant, id: PinholeId, ports: [Option<u16>; 2], carrier: Carrier) {
        let Some((request, told, to)) = self.take_opening(id) else { return self.close_pinhole(id) };
        if self.control == Control::Abandoned {
            return self.close_pinhole(id);
        }
        let modes = Modes { client: request.wish.mode(), server: request.server };
        let has_ports = (modes.client == Mode::Active || ports[0].is_some())
            && (modes.server == Mode::Passive || ports[1].is_some());
        if !has_ports {
            self.close_pinhole(id);
            return self.refuse_held(now, Refusal::System(std::io::ErrorKind::Other), &request, told.as_deref());
        }
        let timeout = self.rule.pinhole_timeout;
        self.close_stale(now, None);
        let ours = |port: Option<u16>| Place::Ours(port.unwrap_or_default());
        let (client, source_port) = match request.wish {
            Wish::Connects { .. } => (ours(ports[0]), None),
            Wish::Waits { at, .. } => {
                (Place::Theirs(at), self.rule.outbound.as_ref().and_then(|outbound| outbound.source_port))
            }
        };
        let places = Places { client, server: to.map_or_else(|| ours(ports[1]), Place::Theirs), source_port };
        self.data.stands(now, Stands { id, modes, carrier, timeout, places });
        match told {
            Some(told) => {
                self.data.armed = Some(id);
                self.answer_client(&request, ports, &told);
            }
            None => self.offer(now, id, request, ports),
        }
    }

    pub(super) fn pinhole_failed(&mut self, now: Instant, id: PinholeId, refusal: Refusal) {
        let Some((request, told, _)) = self.take_opening(id).filter(|_| self.control != Control::Abandoned) else {
            return;
        };
        if matches!(refusal, Refusal::ServerPortClosed(_)) && self.can_change(&request) {
            self.report(Event::Refused { refusal, line: loggable_reply(told.as_deref().unwrap_or_default()) });
            return self.queue(now, request.changed());
        }
        self.refuse_held(now, refusal, &request, told.as_deref());
    }

    fn take_opening(&mut self, id: PinholeId) -> Option<Opening> {
        if !matches!(self.data.negotiation, Negotiation::Opening { id: opening, .. } if opening == id) {
            return None;
        }
        match std::mem::take(&mut self.data.negotiation) {
            Negotiation::Opening { request, told, to, .. } => Some((request, told, to)),
            Negotiation::Settled
            | Negotiation::Queued { .. }
            | Negotiation::Asked { .. }
            | Negotiation::Offered { .. } => None,
        }
    }

    /// Tells the server where it can connect to.
    fn offer(&mut self, now: Instant, id: PinholeId, request: Request, ports: [Option<u16>; 2]) {
        let at = SocketAddr::new(self.ends.back.ip(), ports[1].unwrap_or_default());
        let told = match (request.extended, at) {
            (false, SocketAddr::V4(at)) => format!("PORT {}", host_port::write_port(at)),
            (true, _) | (_, SocketAddr::V6(_)) => format!("EPRT {}", host_port::write_eprt(at)),
        };
        self.rewritten(Side::Client, &request.said, told.as_bytes());
        self.data.negotiation = Negotiation::Offered { request, ports, until: now + ANSWER };
        self.expect(now, Expected::Active(id));
        self.forward(Side::Server, told.into_bytes());
    }

    /// The server answered PORT or EPRT.
    pub(super) fn offered(&mut self, now: Instant, id: PinholeId, code: Code, lines: Vec<Vec<u8>>) {
        let Negotiation::Offered { request, ports, .. } = std::mem::take(&mut self.data.negotiation) else { return };
        let is_known = self.data.is_known(id);
        // A 227 or 229 is no consent, and was answered for.
        let odd = matches!(code.number(), 227 | 229);
        if code.is_success() && !odd && is_known {
            self.learn(&request);
            self.close_stale(now, Some(id));
            self.data.armed = Some(id);
            return match request.wish {
                Wish::Connects { .. } => self.answer_client(&request, ports, &lines.concat()),
                Wish::Waits { .. } => self.forward_reply(lines),
            };
        }
        if is_known && let Some(request) = self.in_other_words(request, code) {
            return self.offer(now, id, request, ports);
        }
        if code.is_success() && !odd {
            // It took the server longer to agree than the pinhole waits.
            self.forward(Side::Client, b"425 Can't open data connection.".to_vec());
        } else if !odd {
            self.forward_reply(lines);
        }
        if self.data.forget(id).is_some() {
            self.close_pinhole(id);
        }
    }

    /// The client's command has its answer: the data connection can come.
    fn answer_client(&mut self, request: &Request, ports: [Option<u16>; 2], said: &[u8]) {
        let port = ports[0].unwrap_or_default();
        let told = match (request.wish, self.announced) {
            (Wish::Connects { extended: false }, Some(IpAddr::V4(ip))) => {
                format!("227 {}", host_port::write_227(SocketAddrV4::new(ip, port)))
            }
            (Wish::Connects { .. }, _) => format!("229 {}", host_port::write_229(port)),
            (Wish::Waits { extended: true, .. }, _) => "200 EPRT command successful.".to_owned(),
            (Wish::Waits { extended: false, .. }, _) => "200 PORT command successful.".to_owned(),
        };
        self.rewritten(Side::Server, said, told.as_bytes());
        self.forward(Side::Client, told.into_bytes());
    }

    /// A pinhole could not be. Where the server has answered, it is the client's turn to be.
    fn refuse_held(&mut self, now: Instant, refusal: Refusal, request: &Request, told: Option<&[u8]>) {
        match told {
            Some(told) => self.refuse_now(refusal, told),
            None => self.refuse(now, refusal, &request.said),
        }
    }

    /// Tells the client in place of the server's answer.
    fn refuse_now(&mut self, refusal: Refusal, said: &[u8]) {
        let reply = refusal.reply();
        self.report(Event::Refused { refusal, line: loggable_reply(said) });
        self.forward(Side::Client, reply.into_bytes());
    }

    pub(super) fn negotiation_overdue(&self, now: Instant) -> bool {
        self.data.negotiation.deadline().is_some_and(|until| until <= now)
    }

    /// The server is given more time: it works at what was asked before.
    pub(super) fn extend_negotiation(&mut self, now: Instant) {
        if let Negotiation::Queued { until, .. }
        | Negotiation::Asked { until, .. }
        | Negotiation::Offered { until, .. } = &mut self.data.negotiation
        {
            *until = now + ANSWER;
        }
    }
}
