//! One control connection and its data connections, without IO.
//!
//! Tell a [`Session`] what happened with [`Session::handle`], then do every [`Action`] that
//! [`Session::poll_action`] gives. It reads no clock and no socket: time and lines come in as arguments. Anything
//! slow or fallible is an action whose result, good or bad, comes back as an input with the same id.
//!
//! The line that announces a port is held until its pinhole stands, because clients dial within milliseconds of the
//! 227. While a line is held, [`Session::wants`] is false for the side whose next lines would overtake it, and the
//! driver does not read from it: TCP does the waiting.

mod ask;
mod blocks;
mod close;
mod commands;
mod data;
mod delivery;
mod departure;
mod directory;
mod event;
mod features;
mod legs;
mod limits;
mod login;
mod mode;
mod naming;
mod negotiation;
mod pending;
mod permits;
mod pinhole;
mod refusal;
mod replies;
mod story;
mod transfers;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use close::CloseReason;
pub use event::{Event, Outcome, Transfer};
pub use mode::{Mode, Modes};
pub use naming::{Called, Host, Named, Naming, Step, WELCOME};
pub use negotiation::Notations;
pub use pinhole::{Carrier, DataEnd, HowEnded, Introduction, Leg, Pinhole, PinholeId, WhyHalfOpen, WhyRelay};
pub use refusal::Refusal;
pub use story::{Absence, HeaderTrouble, Place, Story, Stranger};

use crate::addr::{Ends, Side};
use crate::ftp::line::{Line, LineFault, MAX_COMMAND};
use crate::ftp::reply::{Code, ReplyReader};
use crate::policy::{Candidates, Decision, Limit, Rule, Timeouts};
use blocks::Ends as BlockEnds;
use data::Data;
use directory::Directory;
use limits::Watch;
use login::{Login, Marks};
use pending::{Expected, Pending};
use replies::Answering;

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// The client sent a line.
    ClientLine(Line),
    /// The server sent a line.
    ServerLine(Line),
    /// A side sent something that is no line.
    BadLine(Side, LineFault),
    /// The answer to [`Action::OpenPinhole`]: it stands, and the legs that are listened for have these ports.
    PinholeOpened {
        /// Which.
        id: PinholeId,
        /// The gate's port that the client can connect to.
        client_port: Option<u16>,
        /// The gate's port that the server can connect to.
        server_port: Option<u16>,
        /// Who moves its bytes.
        carrier: Carrier,
    },
    /// The answer to [`Action::OpenPinhole`]: it cannot be.
    PinholeFailed {
        /// Which.
        id: PinholeId,
        /// Why.
        refusal: Refusal,
    },
    /// Somebody else than the peer came to the pinhole, and was reset.
    Stranger(PinholeId, Stranger),
    /// The peer came to the pinhole: it is used up.
    DataStarted(PinholeId),
    /// The answer to [`Action::Deliver`]: the client has been sent what the server has, or takes no more for now.
    DataDelivered(PinholeId),
    /// The data connection is over.
    DataEnded(PinholeId, DataEnd),
    /// A side closed its control connection, or its half of it.
    PeerClosed(Side),
    /// A side reset its control connection, or cannot be written to.
    PeerLost(Side),
    /// The rules were reloaded; this is what they say about the session now.
    Decided(Decision),
    /// A limit was reached that is counted for more than this session: it ends.
    Limited(Limit),
    /// No new transfers: the gate shuts down, and the session ends with the transfer that runs.
    Drain,
    /// The gate shuts down now.
    Stop,
    /// The time that [`Session::poll_timeout`] told has come.
    Timeout,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a line, whose end is still to be added.
    Forward {
        /// To whom.
        to: Side,
        /// Without CR LF.
        line: Vec<u8>,
        /// Ahead of it send Telnet IP and Synch as urgent data (RFC 959 section 4.1.3).
        interrupt: bool,
    },
    /// Open a pinhole, and say how it went.
    OpenPinhole(Pinhole),
    /// Dial one leg of a pinhole whose legs are both dialled. That it was done before is no fault.
    Dial(PinholeId, Side),
    /// A pinhole that waits has this much time from now on: its transfer was asked for.
    Prolong(PinholeId, Duration),
    /// The server is done and makes no connection, where both sides were to make one: the client's ends in order, empty.
    Finish(PinholeId),
    /// The server says that it has sent all: tell when that has been written to the client, or nothing moves any more.
    Deliver(PinholeId),
    /// No control connection watches over this data connection any more: end it when nothing has moved for long.
    Linger(PinholeId),
    /// Close a pinhole; a connection that runs through it is reset on both sides.
    ClosePinhole(PinholeId),
    /// No more will be sent to this side.
    CloseWrite(Side),
    /// The server was found to understand only these notations: tell that to the next session with it.
    Remember(Notations),
    /// Tell the operator.
    Report(Event),
    /// Send what is still to be sent, then close both control connections. Nothing follows.
    Close(CloseReason),
}

/// What a session begins with.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Who is who.
    pub ends: Ends,
    /// The client's address is this machine's, or leads to it.
    pub client_is_gate: bool,
    /// What the client is told in 227 as the gate's address: F, or `advertise`; `None` while that is a name which
    /// nobody knows the address of.
    pub announced: Option<IpAddr>,
    /// The rule that holds, as long as the user does not decide.
    pub rule: Arc<Rule>,
    /// The rules that the user decides between.
    pub candidates: Option<Candidates>,
    /// How long to wait for what no rule speaks of.
    pub timeouts: Timeouts,
    /// What is known from earlier sessions of how the server wants to be asked.
    pub notations: Notations,
    /// How the client has named the server, where it has.
    pub called: Option<Called>,
    /// How much of its time to log in the client has taken already, to name the server.
    pub waited: Duration,
}

/// Bytes that a session holds on the heap between two inputs at most, whatever its peers say: a reply that is looked at
/// as a whole, the queue of commands, the login, the directory and the data connections. Names from the rules file are
/// not counted.
pub const MAX_HELD: usize = replies::MAX_HELD + pending::MAX_HELD + login::MAX_HELD + MAX_COMMAND + data::MAX_HELD;

/// How many faulty lines a client may send.
const MAX_FAULTS: u8 = 3;

/// Where the control connection stands.
///
///   Greeting --220--> Relaying --client's FIN--> ClientDone --all answered--> Closed
///      |                 |-- lost, its uploads run --> Abandoned --all answered--> Closed
///      |                 |-- 221 --> Leaving --server's FIN--> Closed
///      '-- client's FIN --> Closed
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    Greeting {
        until: Instant,
    },
    Relaying,
    /// The client will send no more; the server may still answer.
    ClientDone,
    /// The client's connection is lost, but what it has sent for its uploads is still to reach the server.
    Abandoned,
    /// The server said that it will close.
    Leaving {
        until: Instant,
    },
    Closed,
}

/// One control connection and its data connections.
#[derive(Debug)]
pub struct Session {
    ends: Ends,
    client_is_gate: bool,
    announced: Option<IpAddr>,
    rule: Arc<Rule>,
    control: Control,
    pending: Pending,
    replies: ReplyReader,
    /// Whose the reply is that has begun.
    answering: Answering,
    /// Lines of it that may be its end.
    block_ends: Option<Box<BlockEnds>>,
    /// The server has let the session begin.
    is_greeted: bool,
    login_marks: Marks,
    /// The last final reply was 421: the server goes, unless it says more.
    said_421: bool,
    /// The lines of a reply that is looked at as a whole.
    collected: Vec<Vec<u8>>,
    /// The reply in `collected` waits for its data connection, until then at most.
    held: Option<(Code, Instant)>,
    data: Data,
    epsv_all: bool,
    draining: bool,
    faults: u8,
    called: Option<Box<Called>>,
    login: Login,
    directory: Directory,
    /// `Some` where the client has limits.
    watch: Option<Box<Watch>>,
    /// When the server must have said something, where the client is not read before it does.
    silence: Option<Instant>,
    /// The end of a reply was in doubt: the server is asked nothing that matters before it has been silent until then.
    quiet_at: Option<Instant>,
    actions: VecDeque<Action>,
}

impl Session {
    /// A session whose two control connections stand, and whose server has yet to greet.
    #[must_use]
    pub fn new(setting: Setting, now: Instant) -> Self {
        let Setting { ends, client_is_gate, announced, rule, candidates, timeouts, notations, called, waited } =
            setting;
        let mut pending = Pending::default();
        let _nothing_before = pending.push(now, Expected::Greeting);
        let mut session = Self {
            ends,
            client_is_gate,
            announced,
            rule,
            control: Control::Greeting { until: now + timeouts.greeting },
            pending,
            replies: ReplyReader::default(),
            answering: Answering::default(),
            block_ends: None,
            is_greeted: false,
            login_marks: Marks::default(),
            said_421: false,
            collected: Vec::new(),
            held: None,
            data: Data::new(notations),
            epsv_all: false,
            draining: false,
            faults: 0,
            called: called.map(Box::new),
            login: Login::new(candidates),
            directory: Directory::default(),
            watch: None,
            silence: None,
            quiet_at: None,
            actions: VecDeque::new(),
        };
        session.watch_limits(now);
        session.has_waited(waited);
        session
    }

    /// Who is who.
    #[must_use]
    pub const fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The rule that holds now.
    #[must_use]
    pub const fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// Takes what happened. Every action must have been taken before.
    pub fn handle(&mut self, now: Instant, input: Input) {
        debug_assert!(self.actions.is_empty(), "actions were left behind");
        if self.control == Control::Closed && !matches!(input, Input::DataEnded(..)) {
            return;
        }
        let heard_server = matches!(input, Input::ServerLine(_));
        self.count(now, &input);
        match input {
            Input::ClientLine(line) => self.client_line(now, &line),
            Input::ServerLine(line) => self.server_line(now, line.bytes),
            Input::BadLine(side, fault) => self.bad_line(now, side, fault),
            Input::PinholeOpened { id, client_port, server_port, carrier } => {
                self.pinhole_opened(now, id, [client_port, server_port], carrier);
            }
            Input::PinholeFailed { id, refusal } => self.pinhole_failed(now, id, refusal),
            Input::Stranger(id, stranger) => {
                self.data.turned_away(id, stranger);
                self.report(Event::Stranger(stranger));
            }
            Input::DataStarted(id) => {
                if !self.data.started(id) {
                    self.close_all(now, vec![id]);
                }
                self.hold_on(now);
                self.release_if_due(now);
            }
            Input::DataDelivered(id) => {
                self.data.delivered(id);
                self.release_if_due(now);
            }
            Input::DataEnded(id, end) => {
                self.pending.data_over(now);
                self.data_ended(now, id, end);
                self.release_if_due(now);
            }
            Input::PeerClosed(side) => self.peer_closed(now, side),
            Input::PeerLost(side) => self.peer_lost(now, side),
            Input::Decided(decision) => self.decided(now, decision),
            Input::Limited(limit) => self.close_with_421(now, CloseReason::Limit(limit)),
            Input::Drain => self.drain(now),
            Input::Stop => self.close_with_421(now, CloseReason::Shutdown),
            Input::Timeout => self.timeout(now),
        }
        self.ask_in_turn(now);
        self.end_if_client_done(now);
        self.watch_server(now, heard_server);
    }

    /// The next thing to do, or `None` until something happens.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if action.is_none() && self.actions.capacity() > 0 {
            // An idle session holds no buffer.
            self.actions = VecDeque::new();
        }
        action
    }

    /// When [`Input::Timeout`] is due. It may change with every input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let control = match self.control {
            Control::Greeting { until } | Control::Leaving { until } => Some(until),
            Control::Relaying | Control::ClientDone | Control::Abandoned => None,
            Control::Closed => return None,
        };
        let answers = self
            .abort_deadline()
            .into_iter()
            .chain(self.turn_deadline())
            .chain(self.block_ends.as_ref().map(|ends| ends.deadline()));
        let held = self.held.map(|(_, until)| until);
        let others = self.data.deadline().into_iter().chain(self.directory.deadline());
        let limits = self.limits_deadline();
        control.into_iter().chain(others).chain(held).chain(self.silence).chain(answers).chain(limits).min()
    }

    /// Whether lines of this side are wanted now: not while what they would overtake is held.
    #[must_use]
    pub fn wants(&self, side: Side) -> bool {
        match (side, self.control) {
            (_, Control::Closed)
            | (Side::Client, Control::Greeting { .. } | Control::ClientDone | Control::Abandoned) => false,
            (Side::Client, Control::Relaying | Control::Leaving { .. }) => {
                !self.data.is_negotiating()
                    && self.directory.deadline().is_none()
                    && !self.pending.is_full()
                    && !self.is_held_back()
            }
            (Side::Server, _) => !self.data.holds_reply() && self.held.is_none(),
        }
    }

    /// Bytes that the session holds on the heap now, names from the rules file aside: at most [`MAX_HELD`].
    #[must_use]
    pub fn held(&self) -> usize {
        let collected: usize = self.collected.iter().map(|line| line.len() + size_of::<Vec<u8>>()).sum();
        collected + self.pending.held() + self.login.held() + self.directory.held() + self.data.held()
    }

    /// Whether a transfer runs, or one that was asked for has not ended.
    #[must_use]
    pub fn is_transferring(&self) -> bool {
        self.data.is_busy()
    }

    /// Whether the client has been sent the beginning of a reply, and its end is on its way.
    #[must_use]
    pub fn is_within_reply(&self) -> bool {
        self.cut_reply().is_some()
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn report(&mut self, event: Event) {
        self.act(Action::Report(event));
    }

    fn forward(&mut self, to: Side, line: Vec<u8>) {
        if to == Side::Client && self.control == Control::Abandoned {
            return;
        }
        self.act(Action::Forward { to, line, interrupt: false });
    }
}
