//! The gate as a whole: listeners, reload, drain.

mod accept;
mod arrivals;
mod capacity;
mod changes;
mod clock;
mod datapath;
mod interception;
mod reload;
mod watchdog;
mod own;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::driver::{Context, Machine, Memory, Orders, Phase};
use crate::limits::Counts;
use crate::net::{self, Locals, Loops, Names, Translations};
use crate::pinhole::{Datapaths, Unavailable};
use crate::policy::{Listener, Policy, Source, Stand};
use crate::report;
use accept::{Acceptors, Sessions};
pub use capacity::capacity;
use clock::Clock;
pub use interception::Intercept;
pub use own::{OwnServer, own_servers};
use reload::Reload;
pub use reload::Reread;
use workers::Workers;

/// How often it is told how many lines of the log were left out.
const LEFT_OUT: Duration = Duration::from_secs(5);

/// Why the gate could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be had.
    #[error("listener `{name}` cannot listen on {bind}: {error}; {advice}")]
    Listen {
        /// The listener.
        name: String,
        /// Its address.
        bind: std::net::SocketAddr,
        /// What the kernel says.
        error: std::io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// A listener that sends with clients' addresses, without the privilege to.
    #[error(
        "listener `{name}` has `source: client`, which needs the privilege to use other hosts' addresses: \
         run with CAP_NET_ADMIN (or CAP_NET_RAW), or write `source: gate`"
    )]
    NotPrivileged {
        /// The listener.
        name: String,
    },
    /// A rule wants the kernel's datapath, which cannot be had.
    #[error("rule `{rule}` has `datapath: kernel`, which cannot be: {why}; mend that, or write `datapath: auto`")]
    NoKernelDatapath {
        /// The rule.
        rule: String,
        /// What is missing.
        why: Unavailable,
    },
    /// A listener's server is the gate itself.
    #[error(
        "listener `{}` has the server {}, where this gate itself listens (listener `{}`): each connection would make the next; \
         write the server's own address", .0.name, .0.server, .0.leads_to
    )]
    OwnServer(OwnServer),
    /// Connections cannot be handed to the transparent listeners (`--intercept`).
    #[error("--intercept: {0}")]
    Intercept(String),
    /// The threads that sessions run on cannot be had.
    #[error("cannot start the threads that sessions run on: {0}; `ulimit -u` and systemd's `TasksMax=` limit them")]
    Threads(std::io::Error),
    /// Signals cannot be taken.
    #[error("cannot take signals: {0}")]
    Signals(std::io::Error),
}

/// A gate that listens.
pub struct Gate {
    signals: Signals,
    orders: watch::Sender<Orders>,
    acceptors: Acceptors,
    sessions: Sessions,
    clock: Clock,
    datapaths: Datapaths,
    memory: Memory,
    names: Names,
    counts: Counts,
    machine: Arc<Machine>,
    loops: Loops,
    interception: interception::Watch,
}

impl Gate {
    /// Opens every listener of `policy`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Names the first listener that cannot be had; none is open then.
    pub fn start(mut policy: Policy, intercept: Intercept) -> Result<Self, StartError> {
        // Before anybody hears that the gate is there: a signal that comes early must not be the end of it, nor be lost.
        let signals = Signals::new().map_err(StartError::Signals)?;
        if let Err(error) = net::raise_file_limit() {
            report::system("the limit of open files cannot be raised", &error);
        }
        let capacity = capacity::now(&policy);
        policy.limits = policy.limits.with_defaults(capacity);
        check_servers(&policy)?;
        let machine = Machine {
            locals: Locals::default(),
            translations: Translations::default(),
            may_be_transparent: net::may_be_transparent(),
        };
        check_privilege(&policy, machine.may_be_transparent)?;
        let datapaths = Datapaths::new(policy.timeouts.connect);
        datapath::check(&policy, &datapaths)?;
        let workers = Workers::start().map_err(StartError::Threads)?;
        let sockets = Acceptors::default().open(&policy.listeners, &workers)?;
        let policy = Arc::new(policy);
        let (orders, _) = watch::channel(Orders { policy: Arc::clone(&policy), phase: Phase::Serving });
        let accepted = arrivals::Accepted::default();
        // Before anybody is served: nothing may get past a listener from now on.
        let interception = interception::Watch::start(intercept, Arc::clone(&accepted), orders.subscribe())
            .map_err(StartError::Intercept)?;
        let mut gate = Self {
            signals,
            orders,
            acceptors: Acceptors::default(),
            sessions: Sessions::new(workers, capacity, accepted),
            clock: Clock::new(Timestamp::now, &policy),
            datapaths,
            memory: Memory::default(),
            names: Names::with_lookups(capacity.lookups),
            counts: Counts::new(capacity),
            machine: Arc::new(machine),
            loops: Loops::default(),
            interception,
        };
        gate.datapaths.watch_firewalls(&policy);
        gate.acceptors.replace(sockets, &gate.context(), &gate.sessions);
        datapath::report(None, &policy, &gate.datapaths);
        gate.look_up_names(&policy);
        gate.look_for_translations(&policy);
        policy.listeners.iter().for_each(report::listening);
        report::ready(policy.rules.len());
        Ok(gate)
    }

    /// Where each listener really listens, in the order of the file: a port 0 has become a real one.
    #[must_use]
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.acceptors.addresses()
    }

    /// Says at once which names that clients are to be told have no address, and not only when one asks.
    fn look_up_names(&self, policy: &Policy) {
        let mut names: Vec<(&str, bool)> = policy.advertised_names().collect();
        names.sort_unstable();
        names.dedup();
        self.names.renew(&names.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, v6) in names {
            let (name, known) = (name.to_owned(), self.names.clone());
            tokio::spawn(async move {
                if let Err(error) = known.advertised(&name, v6).await {
                    report::not_advertised(&error);
                }
            });
        }
    }

    /// Says at once where it will not be known which address servers see clients at.
    fn look_for_translations(&self, policy: &Policy) {
        if let Some(listener) = policy.listeners.iter().find(has_client_source)
            && !self.machine.translations.may_ask()
        {
            report::translation_unknown(&listener.name);
        }
    }

    fn context(&self) -> Context {
        Context {
            datapaths: self.datapaths.clone(),
            orders: self.orders.subscribe(),
            memory: self.memory.clone(),
            names: self.names.clone(),
            counts: self.counts.clone(),
            machine: Arc::clone(&self.machine),
            loops: self.loops.clone(),
        }
    }

    /// Serves until SIGTERM or SIGINT, and then until transfers have ended or had their time. SIGHUP reloads.
    pub async fn run(mut self, reread: Reread) {
        notify_ready();
        let _until_the_end = watchdog::start(self.sessions.workers());
        let mut reload = Reload::new(reread);
        let mut told = tokio::time::interval(LEFT_OUT);
        loop {
            tokio::select! {
                order = self.signals.next() => match order {
                    Order::Reload => reload.start(),
                    Order::End => break,
                },
                read = reload.read() => self.reload(read).await,
                () = self.clock.changed() => self.judge_anew(),
                _ = told.tick() => report::lines_left_out(),
            }
        }
        self.drain().await;
    }

    /// All or nothing: a wrong file, or a listener that cannot be had, leaves everything as it was.
    async fn reload(&mut self, read: Result<Policy, String>) {
        let mut policy = match read {
            Ok(policy) => policy,
            Err(why) => return report::not_reloaded(&why),
        };
        policy.limits = policy.limits.with_defaults(capacity::now(&policy));
        self.acceptors.closed().await;
        let opened = check_servers(&policy)
            .and_then(|()| check_privilege(&policy, self.machine.may_be_transparent))
            .and_then(|()| datapath::check(&policy, &self.datapaths))
            .and_then(|()| self.acceptors.open(&policy.listeners, self.sessions.workers()));
        let sockets = match opened {
            Ok(sockets) => sockets,
            Err(why) => return report::not_reloaded(&why),
        };
        let old = Arc::clone(&self.orders.borrow().policy);
        let policy = Arc::new(policy);
        self.orders.send_modify(|orders| orders.policy = Arc::clone(&policy));
        self.clock.judge_by(&policy);
        self.look_up_names(&policy);
        let context = self.context();
        self.acceptors.replace(sockets, &context, &self.sessions);
        report::reloaded(&changes::between(&old, &policy));
        if !old.listeners.iter().any(|listener| has_client_source(&listener)) {
            self.look_for_translations(&policy);
        }
        datapath::report(Some(&old), &policy, &self.datapaths);
        self.datapaths.watch_firewalls(&policy);
    }

    /// A rule began or ceased to hold: running sessions are held against the rules as after a reload.
    fn judge_anew(&mut self) {
        let policy = Arc::clone(&self.orders.borrow().policy);
        self.clock.judge_by(&policy);
        self.orders.send_modify(|_| {});
    }

    async fn drain(mut self) {
        let limit = self.orders.borrow().policy.timeouts.drain;
        report::draining(self.sessions.count(), limit);
        self.acceptors.close();
        self.orders.send_modify(|orders| orders.phase = Phase::Draining);
        tokio::select! {
            () = self.sessions.all_ended() => {}
            () = tokio::time::sleep(limit) => {}
            () = self.signals.insist() => {}
        }
        self.orders.send_modify(|orders| orders.phase = Phase::Stopping);
        // Each session has but to say its last line.
        let _too_slow = tokio::time::timeout(Duration::from_secs(5), self.sessions.all_ended()).await;
        self.interception.ended().await;
        report::stopped();
    }
}

/// No listener may lead to the gate itself.
fn check_servers(policy: &Policy) -> Result<(), StartError> {
    match own_servers(&policy.listeners).into_iter().next() {
        Some(own) => Err(StartError::OwnServer(own)),
        None => Ok(()),
    }
}

fn check_privilege(policy: &Policy, may_be_transparent: bool) -> Result<(), StartError> {
    match policy.listeners.iter().find(has_client_source) {
        Some(listener) if !may_be_transparent => Err(StartError::NotPrivileged { name: listener.name.clone() }),
        _ => Ok(()),
    }
}

fn has_client_source(listener: &&Listener) -> bool {
    matches!(listener.stand, Stand::Transparent { source: Source::Client, .. })
}

/// Tells systemd, where there is one, that clients are served.
fn notify_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        report::system("systemd could not be told that the gate is ready", &error);
    }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// Log rotation tools send these; by default they would end the process.
    user: [Signal; 2],
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    async fn next(&mut self) -> Order {
        let [user1, user2] = &mut self.user;
        loop {
            tokio::select! {
                _ = self.hangup.recv() => return Order::Reload,
                _ = self.terminate.recv() => return Order::End,
                _ = self.interrupt.recv() => return Order::End,
                _ = user1.recv() => report::signal_ignored("SIGUSR1"),
                _ = user2.recv() => report::signal_ignored("SIGUSR2"),
            }
        }
    }

    /// Told to end a second time.
    async fn insist(&mut self) {
        while self.next().await != Order::End {}
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Reload,
    End,
}
