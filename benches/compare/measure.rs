//! What is measured: each figure in a fresh lab, by clients of our own.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::contender::{Contender, Running};
use super::ftp_client::{Client, Mode, Target};
use super::ftp_server::FtpServer;
use super::lab::Fault;
use super::lab::net::Net;
use super::lab::scratch::Scratch;
use super::usage::{held, spent};

/// Clients that go on at once, where rates are measured.
const CLIENTS: usize = 32;
const SMALL: usize = 1024;
const GIB: usize = 1 << 30;
/// Answers that are timed.
const ANSWERS: usize = 2000;
/// Clients that flood, and for how long the answers to others are timed then.
const FLOODERS: usize = 100;
const FLOOD: Duration = Duration::from_secs(3);
/// Idle sessions.
const IDLE: usize = 5000;
/// How long a rate is measured, and how long before it is.
const WINDOW: Duration = Duration::from_millis(1200);
const WARM_UP: Duration = Duration::from_millis(200);
/// The longest that one measurement may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A group of figures that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Sessions with login, one small transfer and QUIT.
    Sessions,
    /// Sessions with login and QUIT.
    Logins,
    /// Small transfers in sessions that last.
    Small(Mode),
    /// So many downloads or uploads that begin together, a GiB in all.
    Bulk { streams: usize, up: bool },
    /// How long a NOOP takes, with other traffic or without.
    Noop { busy: bool },
    /// How long a NOOP takes, and how fast a download is, while many clients send lines as fast as they are taken.
    Flood,
    /// How long the answer to EPSV or PASV is under way.
    Announce,
    /// Many sessions at once, that then do nothing.
    Idle,
}

/// One figure.
#[derive(Clone, Debug)]
pub struct Figure {
    pub name: String,
    pub value: f64,
}

impl Measure {
    pub const ALL: [Self; 16] = [
        Self::Sessions,
        Self::Logins,
        Self::Small(Mode::Passive),
        Self::Small(Mode::Active),
        Self::Bulk { streams: 1, up: false },
        Self::Bulk { streams: 1, up: true },
        Self::Bulk { streams: 8, up: false },
        Self::Bulk { streams: 8, up: true },
        Self::Bulk { streams: 10, up: false },
        Self::Bulk { streams: 100, up: false },
        Self::Bulk { streams: 1000, up: false },
        Self::Noop { busy: false },
        Self::Noop { busy: true },
        Self::Flood,
        Self::Announce,
        Self::Idle,
    ];

    /// The name of its first figure, or the beginning of the names of all.
    pub fn name(self) -> String {
        match self {
            Self::Sessions => "sessions".into(),
            Self::Logins => "logins".into(),
            Self::Small(Mode::Passive) => "small-passive".into(),
            Self::Small(Mode::Active) => "small-active".into(),
            Self::Bulk { streams, up } => format!("bulk-{streams}-{}", if up { "up" } else { "down" }),
            Self::Noop { busy: false } => "noop-idle".into(),
            Self::Noop { busy: true } => "noop-busy".into(),
            Self::Flood => "flood".into(),
            Self::Announce => "announce".into(),
            Self::Idle => "idle".into(),
        }
    }

    /// Whether this contender can do it at all, and is of interest here.
    pub fn suits(self, contender: Contender) -> bool {
        match self {
            Self::Small(Mode::Active) => contender.is_active_too(),
            Self::Sessions | Self::Logins | Self::Small(Mode::Passive) | Self::Noop { busy: false } | Self::Idle => {
                true
            }
            Self::Bulk { streams, .. } => !contender.has_many_rules() && streams <= contender.holds(),
            Self::Flood => !contender.has_many_rules() && FLOODERS <= contender.holds(),
            Self::Noop { busy: true } | Self::Announce => !contender.has_many_rules(),
        }
    }
}

/// A lab with a contender in it.
pub struct Stage {
    contender: Contender,
    net: Net,
    running: Running,
    /// The clients', on the client's host.
    runtime: Arc<Runtime>,
    _server: FtpServer,
    _folder: Scratch,
}

impl Stage {
    pub fn new(contender: Contender) -> Result<Self, Fault> {
        let net = Net::new()?;
        net.server.sysctl(&[("net/core/somaxconn", "16384")])?;
        net.gate.sysctl(&[("net/core/somaxconn", "16384")])?;
        net.client.ip(&super::ftp_client::addresses())?;
        let server = FtpServer::start(&net)?;
        let folder = Scratch::new("compare")?;
        let running = contender.start(&net, &folder)?;
        let runtime = Arc::new(net.client.run(|| Builder::new_current_thread().enable_all().build())?);
        Ok(Self { contender, net, running, runtime, _server: server, _folder: folder })
    }

    /// What the contender said last.
    pub fn said(&self) -> String {
        self.running.said()
    }

    pub fn measure(&self, measure: Measure) -> Result<Vec<Figure>, Fault> {
        let figure = |name: String, value: f64| Figure { name, value };
        let name = measure.name();
        let mut values = match measure {
            Measure::Sessions => vec![figure(String::new(), self.rate(Work::Session)?)],
            Measure::Logins => vec![figure(String::new(), self.rate(Work::Login)?)],
            Measure::Small(mode) => vec![figure(String::new(), self.rate(Work::Transfer(mode))?)],
            Measure::Bulk { streams, up } => self.bulk(streams, up)?,
            Measure::Noop { busy } => self.noop(busy)?,
            Measure::Flood => self.flood()?,
            Measure::Announce => self.announce()?,
            Measure::Idle => self.idle()?,
        };
        values.iter_mut().for_each(|figure| figure.name.insert_str(0, &name));
        Ok(values)
    }

    fn target(&self) -> Target {
        let Self { contender, .. } = self;
        Target { at: contender.at(), notation: contender.notation(), patient: contender.takes_patience() }
    }

    /// Does this on the client's host.
    fn on_client<T: Send + 'static>(
        &self,
        work: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> Result<T, Fault> {
        let runtime = Arc::clone(&self.runtime);
        self.net.client.run(move || {
            let done = runtime.block_on(async { tokio::time::timeout(LIMIT, work).await });
            Ok(done.map_err(|_| format!("not done in {LIMIT:?}"))??)
        })
    }

    /// How often in a second clients that go on at once do it.
    fn rate(&self, work: Work) -> Result<f64, Fault> {
        let target = self.target();
        self.on_client(async move {
            let tally = Arc::new(Tally::default());
            let mut clients = JoinSet::new();
            for number in 0..CLIENTS {
                clients.spawn(work.again_and_again(target, number, Arc::clone(&tally)));
            }
            tokio::time::sleep(WARM_UP).await;
            let (before, begun) = (tally.done.load(Ordering::Relaxed), Instant::now());
            tokio::time::sleep(WINDOW).await;
            let (after, took) = (tally.done.load(Ordering::Relaxed), begun.elapsed());
            tally.over.store(true, Ordering::Relaxed);
            all(clients).await?;
            Ok((after - before) as f64 / took.as_secs_f64())
        })
    }

    /// GB per second of a GiB in so many streams, and seconds of processor time for it.
    fn bulk(&self, streams: usize, up: bool) -> Result<Vec<Figure>, Fault> {
        let target = self.target();
        let clients = self.on_client(target.sessions(streams))?;
        let process = self.running.process()?;
        let before = spent(process)?;
        let count = GIB / streams;
        let took = self.on_client(async move {
            let begun = Instant::now();
            let mut transfers = JoinSet::new();
            for mut client in clients {
                transfers.spawn(async move {
                    if up {
                        client.upload(count, Mode::Passive).await
                    } else {
                        client.download(count, Mode::Passive).await
                    }
                });
            }
            all(transfers).await?;
            Ok(begun.elapsed().as_secs_f64())
        })?;
        let after = spent(process)?;
        Ok(vec![
            Figure { name: String::new(), value: (count * streams) as f64 / took / 1e9 },
            Figure { name: ".process-cpu".into(), value: after.processes - before.processes },
            Figure { name: ".machine-cpu".into(), value: after.machine - before.machine },
        ])
    }

    /// Microseconds from a NOOP to its answer, with a download going on beside it or without.
    fn noop(&self, busy: bool) -> Result<Vec<Figure>, Fault> {
        let target = self.target();
        self.on_client(async move {
            let mut client = target.session(0).await?;
            let mut beside = JoinSet::new();
            let over = Arc::new(AtomicBool::new(false));
            if busy {
                let (mut other, over) = (target.session(1).await?, Arc::clone(&over));
                beside.spawn(async move {
                    while !over.load(Ordering::Relaxed) {
                        other.download(GIB / 4, Mode::Passive).await?;
                    }
                    Ok(())
                });
            }
            let mut took = Vec::with_capacity(ANSWERS);
            for _ in 0..ANSWERS {
                let begun = Instant::now();
                client.noop().await?;
                took.push(begun.elapsed().as_secs_f64() * 1e6);
            }
            over.store(true, Ordering::Relaxed);
            all(beside).await?;
            Ok(quantiles(took))
        })
    }

    /// Microseconds from a NOOP to its answer, then GB per second of one download, beside clients that flood.
    fn flood(&self) -> Result<Vec<Figure>, Fault> {
        let target = self.target();
        let mut client = self.on_client(target.session(0))?;
        let flooders = self.on_client(async move {
            let mut flooders = Vec::with_capacity(FLOODERS);
            for number in 1..=FLOODERS {
                flooders.push(Client::connect(target, number).await?.into_stream().into_std()?);
            }
            Ok(flooders)
        })?;
        let over = Arc::new(AtomicBool::new(false));
        let flood = std::thread::spawn({
            let over = Arc::clone(&over);
            move || flood(flooders, &over)
        });
        let measured = self.on_client(async move {
            let mut took = Vec::with_capacity(ANSWERS);
            let begun = Instant::now();
            while took.len() < ANSWERS && begun.elapsed() < FLOOD {
                let begun = Instant::now();
                client.noop().await?;
                took.push(begun.elapsed().as_secs_f64() * 1e6);
            }
            let begun = Instant::now();
            client.download(GIB / 4, Mode::Passive).await?;
            let speed = (GIB / 4) as f64 / begun.elapsed().as_secs_f64() / 1e9;
            let mut figures = quantiles(took);
            figures.push(Figure { name: ".download".into(), value: speed });
            Ok(figures)
        });
        over.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| "the flood failed")?;
        measured
    }

    /// Microseconds from the server's 229 or 227 to the client's.
    fn announce(&self) -> Result<Vec<Figure>, Fault> {
        let target = self.target();
        self.on_client(async move {
            let mut client = target.session(0).await?;
            let mut took = Vec::with_capacity(ANSWERS);
            for _ in 0..ANSWERS {
                took.push(client.passive().await?.1 as f64 / 1e3);
            }
            Ok(quantiles(took))
        })
    }

    /// Seconds until all sessions have logged in that come at once, and the memory that each of them holds.
    fn idle(&self) -> Result<Vec<Figure>, Fault> {
        let target = self.target();
        // A few come and go first, so that what is there once is not counted to each.
        drop(self.on_client(target.sessions(CLIENTS))?);
        std::thread::sleep(Duration::from_millis(300));
        let process = self.running.process()?;
        let before = held(process)?;
        let count = IDLE.min(self.contender.holds());
        let begun = Instant::now();
        let clients = self.on_client(target.sessions(count))?;
        let took = begun.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_millis(300));
        let after = held(process)?;
        let beside = self.rate(Work::Transfer(Mode::Passive))?;
        drop(clients);
        let each = |before: f64, after: f64| (after - before) / count as f64 / 1024.0;
        Ok(vec![
            Figure { name: ".accept-5000".into(), value: took * IDLE as f64 / count as f64 },
            Figure { name: ".process-kib".into(), value: each(before.processes, after.processes) },
            Figure { name: ".kernel-kib".into(), value: each(before.kernel, after.kernel) },
            Figure { name: ".small-beside".into(), value: beside },
        ])
    }
}

/// Sends lines that no server takes, each as fast as it can, and drops the answers.
fn flood(mut clients: Vec<std::net::TcpStream>, over: &AtomicBool) {
    let lines = "AUTH TLS\r\n".repeat(400);
    let mut sink = vec![0; 1 << 16];
    while !over.load(Ordering::Relaxed) && !clients.is_empty() {
        // A line that is cut short is the beginning of the next, and no better.
        clients.retain_mut(|client| goes_on(client.write(lines.as_bytes())) && goes_on(client.read(&mut sink)));
    }
}

/// Whether a connection that would not wait is still there.
fn goes_on(done: io::Result<usize>) -> bool {
    match done {
        Ok(count) => count > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

impl Target {
    /// A session that has logged in.
    async fn session(self, number: usize) -> io::Result<Client> {
        let mut client = Client::connect(self, number).await?;
        client.log_in().await?;
        Ok(client)
    }

    /// So many that come at once.
    async fn sessions(self, count: usize) -> io::Result<Vec<Client>> {
        let mut coming = JoinSet::new();
        for number in 0..count {
            coming.spawn(async move { self.session(number).await });
        }
        let mut clients = Vec::with_capacity(count);
        while let Some(client) = coming.join_next().await {
            clients.push(client??);
        }
        Ok(clients)
    }
}

/// What each client does.
#[derive(Clone, Copy)]
enum Work {
    Session,
    Login,
    Transfer(Mode),
}

impl Work {
    async fn again_and_again(self, target: Target, number: usize, tally: Arc<Tally>) -> io::Result<()> {
        let mut lasting = match self {
            Self::Transfer(_) => Some(target.session(number).await?),
            Self::Session | Self::Login => None,
        };
        // Other addresses each time: nobody's ports are used up.
        let mut next = number;
        while !tally.over.load(Ordering::Relaxed) {
            match (self, &mut lasting) {
                (Self::Transfer(mode), Some(client)) => client.download(SMALL, mode).await?,
                _ => {
                    let mut client = target.session(next).await?;
                    next += CLIENTS;
                    if let Self::Session = self {
                        match client.download(SMALL, Mode::Passive).await {
                            Err(error) if target.patient && error.kind() == ErrorKind::ConnectionRefused => continue,
                            downloaded => downloaded?,
                        }
                    }
                    client.quit().await?;
                }
            }
            tally.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Tally {
    done: AtomicUsize,
    over: AtomicBool,
}

async fn all(mut tasks: JoinSet<io::Result<()>>) -> io::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

fn quantiles(mut values: Vec<f64>) -> Vec<Figure> {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[(values.len() as f64 * share) as usize];
    vec![Figure { name: ".p50".into(), value: at(0.5) }, Figure { name: ".p99".into(), value: at(0.99) }]
}
