//! A whole session, driven as the driver does.
//!
//! The input is text, a step in each line; the first has a letter for each thing that is not as usual:
//!
//! ```text
//! first line   6 client is IPv6, 7 server is IPv6, n another address is advertised, g the client is the gate, p a server_mode: passive, active,
//!              f at_session_end: finish, i no inbound, o no outbound, y read_only, k paths
//! cX sX        the client, the server says X and the end of a line; CX, SX: without the end; n N: LF alone
//! o12 O        the pinhole that was asked for stands at the range's second and third port; it cannot be
//! d0 e01       the data connection of the first pinhole comes; ends in this way
//! t w          the time that the session waits for comes; a second goes by
//! x X l L      the client, the server closes its connection; it is lost
//! r R q Q      other rules; a denial; the gate drains; it stops
//! ```

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ftpgate::addr::{BackAddr, ClientAddr, Ends, FrontAddr, PortRange, PortRanges, ServerAddr, Side};
use ftpgate::ftp::command::{Command, Verb};
use ftpgate::ftp::host_port::{parse_227, parse_229, parse_eprt, parse_port};
use ftpgate::ftp::line::{LineReader, MAX_REPLY};
use ftpgate::ftp::redact;
use ftpgate::ftp::reply::{Part, ReplyReader, text};
use ftpgate::policy::paths::{PathRule, Uses};
use ftpgate::policy::{
    AtSessionEnd, Commands, Decision, Denied, Globs, Inbound, Limit, Outbound, Permission, Rule, RuleLimits,
    ServerMode, SessionLimits, TimeLimit, Timeouts,
};
use ftpgate::session::{
    Action, Carrier, DataEnd, Event, HowEnded, Input, Leg, Notations, Pinhole, PinholeId, Refusal, Session, Setting,
    WhyRelay,
};

/// Whatever both sides say and the network does: no port is asked for or told that the rule does not allow, nothing
/// follows the end, nothing waits for ever, and what is held is bounded.
pub fn session(data: &[u8]) {
    let mut steps = data.split(|byte| *byte == b'\n');
    let mut world = World::new(steps.next().unwrap_or_default());
    steps.for_each(|step| world.step(step));
    let held = format!("{:?}", world.session).len();
    assert!(held <= 512 * 1024, "the session holds {held} characters");
}

struct World {
    session: Session,
    client: LineReader,
    server: LineReader,
    now: Instant,
    ends: Ends,
    announced: IpAddr,
    client_is_gate: bool,
    rule: Arc<Rule>,
    other_rule: Arc<Rule>,
    pinholes: Vec<Known>,
    /// What the client takes the gate's lines for.
    told: ReplyReader,
    /// What the server has said.
    heard: ReplyReader,
    closed: bool,
}

/// A pinhole that the session asked for.
struct Known {
    pinhole: Pinhole,
    at: At,
    ports: [Option<u16>; 2],
    /// A transfer was asked for since: another may be negotiated ahead of its end.
    used: bool,
    /// The session closed it.
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Opening,
    Waiting,
    Moving,
    Over,
}

impl World {
    fn new(settings: &[u8]) -> Self {
        let has = |letter: u8| settings.contains(&letter);
        let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (client, front) = match has(b'6') {
            true => ("[2001:db8:1::7]:50000", "[2001:db8:1::1]:21"),
            false => ("198.51.100.7:50000", "203.0.113.5:21"),
        };
        let (back, server) = match has(b'7') {
            true => ("[2001:db8:2::1]:40000", "[2001:db8:2::2]:21"),
            false => ("10.0.2.1:40000", "10.0.2.2:21"),
        };
        let ends = Ends {
            client: ClientAddr::new(socket(client)),
            front: FrontAddr::new(socket(front)),
            back: BackAddr::new(socket(back)),
            server: ServerAddr::new(socket(server)),
        };
        let announced = if has(b'n') && !has(b'6') { [192, 0, 2, 10].into() } else { ends.front.ip() };
        let rule = Arc::new(rule(&has, 10_001, 40_000));
        let now = Instant::now();
        let setting = Setting {
            ends,
            client_is_gate: has(b'g'),
            announced: Some(announced),
            rule: Arc::clone(&rule),
            candidates: None,
            timeouts: Timeouts::default(),
            notations: Notations::default(),
            called: None,
            waited: Duration::ZERO,
        };
        let session = Session::new(setting, now);
        Self {
            session,
            client: LineReader::commands(),
            server: LineReader::replies(),
            now,
            ends,
            announced,
            client_is_gate: has(b'g'),
            rule,
            other_rule: Arc::new(self::rule(&has, 11_001, 41_000)),
            pinholes: Vec::new(),
            told: ReplyReader::default(),
            heard: ReplyReader::default(),
            closed: false,
        }
    }

    fn step(&mut self, step: &[u8]) {
        let Some((&kind, rest)) = step.split_first() else { return };
        if self.closed && kind != b'e' {
            // The driver reads no more, and asks for nothing.
            return;
        }
        let digit = |at: usize| rest.get(at).map_or(0, |byte| usize::from(byte.wrapping_sub(b'0') % 10));
        match kind {
            b'c' => self.client.push(&[rest, b"\r\n"].concat()),
            b'C' => self.client.push(rest),
            b'n' => self.client.push(b"\n"),
            b's' => self.server.push(&[rest, b"\r\n"].concat()),
            b'S' => self.server.push(rest),
            b'N' => self.server.push(b"\n"),
            b'o' => self.opened([digit(0), digit(1)]),
            b'O' => self.not_opened(),
            b'd' => self.data_started(digit(0)),
            b'e' => self.data_ended(digit(0), digit(1)),
            b't' => self.time_goes_by(self.session.poll_timeout().unwrap_or(self.now)),
            b'w' => self.time_goes_by(self.now + Duration::from_secs(1)),
            b'x' => self.handle(Input::PeerClosed(Side::Client)),
            b'X' => self.handle(Input::PeerClosed(Side::Server)),
            b'l' => self.handle(Input::PeerLost(Side::Client)),
            b'L' => self.handle(Input::PeerLost(Side::Server)),
            b'r' => {
                std::mem::swap(&mut self.rule, &mut self.other_rule);
                self.handle(Input::Decided(Decision::Allow(Arc::clone(&self.rule))));
            }
            b'R' => self.handle(Input::Decided(Decision::Deny(Denied::NoRule))),
            b'm' => self.handle(Input::Limited(Limit::Sessions)),
            b'q' => self.handle(Input::Drain),
            b'Q' => self.handle(Input::Stop),
            _ => {}
        }
        self.take_lines();
    }

    /// Gives the session the lines that were read, as long as it wants them.
    fn take_lines(&mut self) {
        while !self.closed {
            let server = self.session.wants(Side::Server).then(|| self.server.next_line()).flatten();
            let client = || self.session.wants(Side::Client).then(|| self.client.next_line()).flatten();
            let input = match (server, client) {
                (Some(Ok(line)), _) => Input::ServerLine(line),
                (Some(Err(fault)), _) => Input::BadLine(Side::Server, fault),
                (None, mut client) => match client() {
                    Some(Ok(line)) => Input::ClientLine(line),
                    Some(Err(fault)) => Input::BadLine(Side::Client, fault),
                    None => return,
                },
            };
            self.handle(input);
        }
    }

    fn opened(&mut self, places: [usize; 2]) {
        let Some(known) = self.pinholes.iter_mut().find(|known| known.at == At::Opening) else { return };
        let port = |leg: &Leg, place: usize| match leg {
            Leg::Listen { ports, .. } => ports.nth(u32::try_from(place).unwrap()),
            Leg::Dial { .. } => None,
        };
        known.at = At::Waiting;
        known.ports = [port(&known.pinhole.client, places[0]), port(&known.pinhole.server, places[1])];
        let ([client_port, server_port], id) = (known.ports, known.pinhole.id);
        let carrier = Carrier::Relay(WhyRelay::Rule);
        self.handle(Input::PinholeOpened { id, client_port, server_port, carrier });
    }

    fn not_opened(&mut self) {
        let Some(known) = self.pinholes.iter_mut().find(|known| known.at == At::Opening) else { return };
        known.at = At::Over;
        let id = known.pinhole.id;
        self.handle(Input::PinholeFailed { id, refusal: Refusal::RangeFull { has_data_peers: false } });
    }

    fn data_started(&mut self, number: usize) {
        let waiting = |known: &&mut Known| known.at == At::Waiting && !known.closed;
        let Some(known) = self.pinholes.iter_mut().filter(waiting).nth(number) else { return };
        known.at = At::Moving;
        let id = known.pinhole.id;
        self.handle(Input::DataStarted(id));
    }

    fn data_ended(&mut self, number: usize, how: usize) {
        let moving = |known: &&mut Known| known.at == At::Moving || (known.at == At::Waiting && !known.closed);
        let Some(known) = self.pinholes.iter_mut().filter(moving).nth(number) else { return };
        let how = match how {
            0 => HowEnded::Complete,
            1 => HowEnded::CutBy(Side::Client),
            2 => HowEnded::CutBy(Side::Server),
            3 => HowEnded::NotReached { side: Side::Client, error: ErrorKind::TimedOut },
            4 => HowEnded::NotReached { side: Side::Server, error: ErrorKind::ConnectionRefused },
            5 => HowEnded::Limited(Limit::TransferSize),
            _ => HowEnded::Aborted,
        };
        known.at = At::Over;
        let (id, end) = (known.pinhole.id, DataEnd { to_server: 1, to_client: 2, is_estimate: false, how });
        self.handle(Input::DataEnded(id, end));
    }

    fn time_goes_by(&mut self, to: Instant) {
        self.now = self.now.max(to);
        if self.session.poll_timeout().is_some_and(|due| due <= self.now) {
            self.handle(Input::Timeout);
            let due = self.session.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now), "the time that has come is still waited for");
        }
    }

    fn handle(&mut self, input: Input) {
        if let Input::ServerLine(line) = &input {
            self.heard.next_part(&line.bytes);
        }
        self.session.handle(self.now, input);
        let mut count = 0;
        while let Some(action) = self.session.poll_action() {
            count += 1;
            assert!(count <= 256, "one input leads to more than {count} actions");
            self.act(action);
        }
        if self.closed {
            return;
        }
        let unused = |known: &&Known| !known.closed && !known.used && matches!(known.at, At::Opening | At::Waiting);
        assert!(self.pinholes.iter().filter(unused).count() <= 1, "two pinholes wait for a transfer");
        let awaits_answer = self.pinholes.iter().any(|known| known.at == At::Opening && !known.closed);
        let hears_server = self.session.wants(Side::Server);
        assert!(hears_server || awaits_answer || self.session.poll_timeout().is_some(), "nothing is waited for");
    }

    fn act(&mut self, action: Action) {
        assert!(!self.closed || matches!(action, Action::Report(_)), "{action:?} follows the end");
        match action {
            Action::Forward { to, line, .. } => {
                assert!(line.len() <= MAX_REPLY && !line.iter().any(|byte| matches!(byte, b'\r' | b'\n')));
                match to {
                    Side::Client => self.client_is_told(&line),
                    Side::Server => self.server_is_told(&line),
                }
            }
            Action::OpenPinhole(pinhole) => self.asked_for(pinhole),
            Action::ClosePinhole(id) => {
                self.pinholes.iter_mut().filter(|known| known.pinhole.id == id).for_each(|known| known.closed = true);
            }
            Action::Report(event) => reported(&event),
            Action::Close(_) => {
                let open = |known: &Known| !known.closed && matches!(known.at, At::Opening | At::Waiting);
                assert!(!self.pinholes.iter().any(open), "a pinhole outlives its session");
                self.closed = true;
            }
            Action::Dial(..)
            | Action::Finish(_)
            | Action::Prolong(..)
            | Action::Deliver(_)
            | Action::Linger(_)
            | Action::CloseWrite(_)
            | Action::Remember(_) => {}
        }
    }

    /// A port that the client is told to connect to waits for it.
    fn client_is_told(&mut self, line: &[u8]) {
        let within = self.told.is_inside();
        let part = self.told.next_part(line);
        if within || !matches!(line, [b'2', b'2', b'7' | b'9', ..]) {
            return;
        }
        let Part::Only(code) = part else { panic!("{part:?} to the client") };
        let text = text(line, code);
        let port = if code.number() == 227 {
            let at = parse_227(&[text]).unwrap();
            assert_eq!(IpAddr::from(*at.ip()), self.announced);
            at.port()
        } else {
            parse_229(&[text]).unwrap().port
        };
        assert!(self.waits_at(0, port), "the client is told to connect to {port}");
    }

    /// What reaches the server is a command, negotiates nothing that is not understood, and names a port that waits.
    fn server_is_told(&mut self, line: &[u8]) {
        let command = Command::parse(line).unwrap();
        assert!(!line.contains(&0), "NUL to the server");
        let at = match command.verb {
            Verb::Port => parse_port(command.argument).unwrap().into(),
            Verb::Eprt => parse_eprt(command.argument).unwrap(),
            Verb::Transfer(_) => {
                self.pinholes.iter_mut().for_each(|known| known.used = true);
                return;
            }
            Verb::OtherNegotiation | Verb::Security | Verb::Algs => panic!("{:?} to the server", command.verb),
            Verb::Epsv if command.argument == b"ALL" => return,
            Verb::Pasv | Verb::Epsv => {
                assert!(!self.heard.is_inside(), "the server is asked for a port in the middle of a reply");
                return;
            }
            Verb::Abor
            | Verb::Stat
            | Verb::Quit
            | Verb::Rein
            | Verb::Feat
            | Verb::Secret
            | Verb::User
            | Verb::Change
            | Verb::Open
            | Verb::Site
            | Verb::Noop
            | Verb::Other => return,
        };
        assert_eq!(at.ip(), self.ends.back.ip());
        assert!(self.waits_at(1, at.port()), "the server is told to connect to {at}");
    }

    fn waits_at(&self, side: usize, port: u16) -> bool {
        // A peer that guesses the port may have come before it is told.
        let stands = |known: &Known| matches!(known.at, At::Waiting | At::Moving) && !known.closed;
        self.pinholes.iter().any(|known| stands(known) && known.ports[side] == Some(port))
    }

    /// A pinhole is for the two peers, within the ports of the rule that holds.
    fn asked_for(&mut self, pinhole: Pinhole) {
        let (inbound, outbound) = (self.rule.inbound.as_ref(), self.rule.outbound.as_ref());
        let dialled = |ports: Option<&PortRanges>, port| ports.is_none_or(|ports| ports.contains(port)) && port >= 1024;
        match &pinhole.client {
            Leg::Listen { at, ports, from } => {
                assert_eq!((*at, *from), (self.ends.front.ip(), self.ends.client.ip()));
                assert_eq!(Some(ports), inbound.map(|inbound| &inbound.gate_ports));
            }
            Leg::Dial { to, from, .. } => {
                assert!(!self.client_is_gate, "the gate is led to itself");
                assert_eq!((to.ip(), *from), (self.ends.client.ip(), self.ends.front.ip()));
                assert!(outbound.is_some() && dialled(outbound.map(|outbound| &outbound.client_ports), to.port()));
            }
        }
        match &pinhole.server {
            Leg::Listen { at, ports, from } => {
                assert_eq!((*at, *from), (self.ends.back.ip(), self.ends.server.ip()));
                assert_eq!(Some(ports), outbound.and_then(|outbound| outbound.gate_ports.as_ref()));
            }
            Leg::Dial { to, from, .. } => {
                assert_eq!((to.ip(), *from), (self.ends.server.ip(), self.ends.back.ip()));
                assert!(dialled(inbound.map(|inbound| &inbound.server_ports), to.port()));
            }
        }
        let PinholeId(id) = pinhole.id;
        assert!(self.pinholes.iter().all(|known| known.pinhole.id.0 < id), "{id} was used before");
        self.pinholes.push(Known { pinhole, at: At::Opening, ports: [None; 2], used: false, closed: false });
    }
}

/// What peers said is fit for a log.
fn reported(event: &Event) {
    match event {
        Event::Refused { line, .. } => super::assert_harmless(line),
        Event::Rewritten { by, said, told } => {
            let shown = if *by == Side::Client { redact::loggable } else { redact::loggable_reply };
            [said, told].into_iter().for_each(|line| super::assert_harmless(&shown(line)));
        }
        Event::Transferred(transfer) => super::assert_harmless(&transfer.command),
        Event::ForeignAddress { .. }
        | Event::Stranger { .. }
        | Event::HalfOpen { .. }
        | Event::PortTaken(_)
        | Event::NotReached(_)
        | Event::PinholeExpired(_)
        | Event::LoggedIn { .. }
        | Event::LoginFailed
        | Event::Limit(_)
        | Event::BadLine { .. } => {}
    }
}

fn rule(has: &impl Fn(u8) -> bool, inbound: u16, outbound: u16) -> Rule {
    let ports = |first: u16, last: u16| PortRanges::new(PortRange::new(first, last).into_iter().collect()).unwrap();
    let server_mode = match (has(b'p'), has(b'a')) {
        (true, _) => ServerMode::Passive,
        (_, true) => ServerMode::Active,
        (false, false) => ServerMode::Same,
    };
    Rule {
        inbound: (!has(b'i'))
            .then(|| Inbound { gate_ports: ports(inbound, inbound + 9), server_ports: ports(30_000, 50_000) }),
        outbound: (!has(b'o')).then(|| Outbound {
            client_ports: ports(4_000, 60_000),
            gate_ports: Some(ports(outbound, outbound + 9)),
            source_port: None,
        }),
        server_mode,
        at_session_end: if has(b'f') { AtSessionEnd::Finish } else { AtSessionEnd::Abort },
        commands: Commands { read_only: has(b'y'), ..Commands::default() },
        paths: if has(b'k') { vec![path_rule()] } else { Vec::new() },
        limits: RuleLimits {
            session: if has(b'm') {
                limits()
            } else {
                SessionLimits { login_timeout: Some(TimeLimit::Off), ..SessionLimits::default() }
            },
            ..RuleLimits::default()
        },
        ..Rule::new("fuzz", Permission::Allow)
    }
}

fn limits() -> SessionLimits {
    let time = |seconds| Some(Duration::from_secs(seconds));
    SessionLimits {
        commands_per_second: NonZeroU32::new(3),
        failed_logins: NonZeroU32::new(2),
        login_timeout: Some(TimeLimit::After(Duration::from_secs(5))),
        idle_timeout: time(3),
        ..SessionLimits::default()
    }
}

fn path_rule() -> PathRule {
    PathRule { paths: Globs::for_paths(vec!["/in/**".to_owned()]).unwrap(), uses: Uses::ALL }
}
