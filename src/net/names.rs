//! Names of hosts, looked up as `/etc/hosts` and `/etc/resolv.conf` say.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long one name server has for one answer, and how long all of it may take.
const ANSWER: Duration = Duration::from_secs(2);
const LOOKUP: Duration = Duration::from_secs(5);
/// How long a name server that was silent is left alone, where what it said last will do: clients would wait for it.
const REST: Duration = Duration::from_secs(30);
/// For each lookup that runs, so many may wait for their turn.
const WAITING: usize = 16;
/// How many names that clients are told are looked up at a time.
const ADVERTISED: usize = 4;
/// How many names are kept for their time to live.
const KEPT: u64 = 1024;

/// Looks names up, and keeps what it found for as long as the name server says. Clones share that.
#[derive(Clone, Default)]
pub struct Names {
    known: Arc<Mutex<Known>>,
    turns: Arc<Turns>,
}

/// Whose turn it is to look a name up: each lookup has sockets of its own.
struct Turns {
    running: Semaphore,
    waiting: Semaphore,
    /// For names that clients are told: nothing that clients do may take these away.
    advertised: Semaphore,
    /// How many lookups of each client run or wait, and how many may.
    clients: Mutex<HashMap<IpAddr, usize>>,
    per_client: usize,
}

/// One lookup of a client.
struct Share<'a> {
    clients: &'a Mutex<HashMap<IpAddr, usize>>,
    client: IpAddr,
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = clients.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Turns {
    fn new(lookups: usize) -> Self {
        Self {
            running: Semaphore::new(lookups),
            waiting: Semaphore::new(lookups * WAITING),
            advertised: Semaphore::new(ADVERTISED),
            clients: Mutex::default(),
            per_client: (lookups / 2).max(1),
        }
    }

    /// A client's share: half of the lookups, so that names whose servers are silent do not keep other clients waiting.
    fn share(&self, client: IpAddr) -> Option<Share<'_>> {
        let client = network(client);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(client).or_default();
        if *count >= self.per_client {
            return None;
        }
        *count += 1;
        Some(Share { clients: &self.clients, client })
    }

    /// The right to look one name up; `None` where too many wait for it, or for too long.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.running.try_acquire() {
            return Some(turn);
        }
        let _place = self.waiting.try_acquire().ok()?;
        tokio::time::timeout(LOOKUP, self.running.acquire()).await.ok()?.ok()
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self::new(64)
    }
}

#[derive(Default)]
struct Known {
    resolver: Option<TokioResolver>,
    /// The names that clients are told the address of.
    advertised: HashMap<String, Last>,
}

/// What was last known of a name.
#[derive(Clone)]
struct Last {
    addresses: Vec<IpAddr>,
    /// Since when no name server has answered.
    silent: Option<Instant>,
}

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no such name, or it has no address.
    #[error("there is no address for `{0}`")]
    Unknown(String),
    /// No name server said anything.
    #[error("no name server answered for `{0}`")]
    Unanswered(String),
    /// A name server answered and could not say, or there is none to ask.
    #[error("the address of `{name}` cannot be looked up: {why}")]
    Failed {
        /// The name.
        name: String,
        /// What went wrong.
        why: String,
    },
    /// Too many other names are being looked up.
    #[error("too many names are being looked up at once to look up `{0}`")]
    TooMany(String),
}

impl NameError {
    /// What it means for a name that a lookup failed. A name server that is away is one to which no connection can be had,
    /// which says little to those who do not know the resolver.
    fn of(name: &str, error: &NetError) -> Self {
        let name = name.to_owned();
        if error.is_no_records_found() {
            Self::Unknown(name)
        } else if matches!(error, NetError::NoConnections | NetError::Timeout | NetError::Io(_)) {
            Self::Unanswered(name)
        } else {
            Self::Failed { name, why: error.to_string() }
        }
    }
}

impl Names {
    /// Looks up so many names at a time; some more wait for their turn.
    #[must_use]
    pub fn with_lookups(lookups: u32) -> Self {
        let lookups = usize::try_from(lookups).unwrap_or(1).max(1);
        Self { turns: Arc::new(Turns::new(lookups)), ..Self::default() }
    }

    /// The addresses of a host that a client names, IPv4 first. Takes ten seconds at most, with the wait for its turn.
    ///
    /// # Errors
    /// Where there are none, no name server says, or this client has too many others looked up.
    pub async fn addresses(&self, name: &str, client: IpAddr) -> Result<Vec<IpAddr>, NameError> {
        let too_many = || NameError::TooMany(name.to_owned());
        let _share = self.turns.share(client).ok_or_else(too_many)?;
        let _turn = self.turns.turn().await.ok_or_else(too_many)?;
        Box::pin(self.look_up(name)).await
    }

    /// The future is several KiB, so callers box it: most sessions look nothing up.
    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let failed = |error: NetError| NameError::Failed { name: name.to_owned(), why: error.to_string() };
        let resolver = self.resolver().map_err(failed)?;
        let found = match tokio::time::timeout(LOOKUP, resolver.lookup_ip(name)).await {
            Ok(Ok(found)) => found.iter().map(|ip| ip.to_canonical()).collect::<Vec<_>>(),
            Ok(Err(error)) => return Err(NameError::of(name, &error)),
            Err(_) => return Err(NameError::Unanswered(name.to_owned())),
        };
        if found.is_empty() { Err(NameError::Unknown(name.to_owned())) } else { Ok(found) }
    }

    /// The address of this family that clients are told for a name: the one that it has now, or where nobody can say,
    /// the one that it had last.
    ///
    /// # Errors
    /// Where none is known.
    pub async fn advertised(&self, name: &str, v6: bool) -> Result<IpAddr, NameError> {
        let last = self.lock().advertised.get(name).cloned();
        let addresses = match last {
            Some(Last { addresses, silent }) if silent.is_some_and(|since| since.elapsed() < REST) => addresses,
            last => match self.look_up_advertised(name).await {
                Ok(addresses) => {
                    let last = Last { addresses: addresses.clone(), silent: None };
                    self.lock().advertised.insert(name.to_owned(), last);
                    addresses
                }
                Err(error @ NameError::Unknown(_)) => return Err(error),
                Err(error @ (NameError::Unanswered(_) | NameError::Failed { .. } | NameError::TooMany(_))) => {
                    let addresses = last.ok_or(error)?.addresses;
                    let last = Last { addresses: addresses.clone(), silent: Some(Instant::now()) };
                    self.lock().advertised.insert(name.to_owned(), last);
                    addresses
                }
            },
        };
        let fits = addresses.into_iter().find(|ip| ip.is_ipv6() == v6);
        fits.ok_or_else(|| NameError::Unknown(name.to_owned()))
    }

    async fn look_up_advertised(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let turn = tokio::time::timeout(LOOKUP, self.turns.advertised.acquire()).await;
        let _turn = turn.ok().and_then(Result::ok).ok_or_else(|| NameError::TooMany(name.to_owned()))?;
        Box::pin(self.look_up(name)).await
    }

    /// Whether clients were told this address for some name.
    #[must_use]
    pub fn is_advertised(&self, ip: IpAddr) -> bool {
        self.lock().advertised.values().any(|last| last.addresses.contains(&ip))
    }

    /// Reads the system's settings anew with the next name, and keeps only these of the names that clients are told.
    pub fn renew(&self, advertised: &[&str]) {
        let mut known = self.lock();
        known.resolver = None;
        known.advertised.retain(|name, _| advertised.contains(&name.as_str()));
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        if let Some(resolver) = &self.lock().resolver {
            return Ok(resolver.clone());
        }
        let mut builder = TokioResolver::builder_tokio()?;
        let options = builder.options_mut();
        options.timeout = ANSWER;
        options.attempts = 2;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = KEPT;
        let resolver = builder.build()?;
        Ok(self.lock().resolver.insert(resolver).clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one client: its address, or for IPv6 its /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: usize) -> IpAddr {
        [192, 0, 2, u8::try_from(number).unwrap()].into()
    }

    #[test]
    fn one_client_has_half_of_the_lookups() {
        let turns = Turns::new(4);
        let [one, two] = [client(1), client(2)];
        let first = turns.share(one).unwrap();
        let _second = turns.share(one).unwrap();
        assert!(turns.share(one).is_none() && turns.share(two).is_some());
        drop(first);
        assert!(turns.share(one).is_some());
        let same_host = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|ip| turns.share(ip.parse().unwrap()));
        assert_eq!(same_host.each_ref().map(Option::is_some), [true, true, false]);
        drop(same_host);
        assert_eq!(turns.clients.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn only_so_many_lookups_run_and_wait() {
        let names = Names::with_lookups(1);
        let turn = names.turns.turn().await.unwrap();
        let queue: Vec<_> = (0..WAITING)
            .map(|number| {
                let names = names.clone();
                tokio::spawn(async move { names.addresses("localhost", client(number)).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(names.addresses("localhost", client(99)).await, Err(NameError::TooMany("localhost".to_owned())));
        drop(turn);
        for waiting in queue {
            assert!(waiting.await.unwrap().is_ok());
        }
    }

    /// Nobody who reads the log knows what "no connections available" would mean.
    #[test]
    fn a_name_server_that_is_away_is_said_to_be() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        for away in [NetError::NoConnections, NetError::Timeout, NetError::from(refused)] {
            let said = NameError::of("ftp.example", &away).to_string();
            assert_eq!(said, "no name server answered for `ftp.example`", "{away}");
        }
        let said = NameError::of("ftp.example", &NetError::from("told nonsense")).to_string();
        assert_eq!(said, "the address of `ftp.example` cannot be looked up: told nonsense");
    }

    #[tokio::test]
    async fn the_hosts_file_is_asked() {
        let names = Names::default();
        let found = names.addresses("localhost", client(99)).await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
        assert_eq!(names.advertised("localhost", false).await.unwrap(), IpAddr::from([127, 0, 0, 1]));
    }
}
