//! How many lines of the log one client address may cause.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::crowds::Origin;
use super::{Bucket, Rate};

/// How many client addresses are told apart; those that come when it is full share one allowance.
const MOST: usize = 1 << 12;
/// How long it is not tried again to make room.
const SWEEP: Duration = Duration::from_secs(1);
/// How many addresses [`Lines::left_out`] names at a time.
const NAMED: usize = 10;
const PERIOD: Duration = Duration::from_secs(20);
/// For each address, of each kind: a hundred at once, then five a second.
const OF_AN_ADDRESS: u32 = 100;
/// For all addresses together, of each kind: two thousand at once, then a hundred a second.
const OF_ALL: u32 = 2000;

/// What a line is about. Each kind has its own allowance, so that one does not hide the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// A fault of a peer, or a refusal.
    Fault,
    /// A session that may turn out to be of no use: nobody has logged in yet.
    Session,
}

/// What is left of the lines that client addresses may cause.
#[derive(Debug, Default)]
pub struct Lines {
    sources: HashMap<Origin, Source>,
    all: Source,
    swept: Option<Instant>,
}

#[derive(Debug, Default)]
struct Source {
    faults: Bucket,
    sessions: Bucket,
    left_out: u64,
}

impl Source {
    fn bucket(&mut self, kind: LineKind) -> &mut Bucket {
        match kind {
            LineKind::Fault => &mut self.faults,
            LineKind::Session => &mut self.sessions,
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.left_out == 0 && self.faults.is_full(now) && self.sessions.is_full(now)
    }
}

/// Lines that were not written since that was last told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The addresses with the most of them.
    pub named: Vec<(Whence, u64)>,
    /// How many more lines there were, and of how many other addresses.
    pub others: u64,
    /// Of how many other addresses; those that are not told apart count as one.
    pub other_addresses: usize,
}

/// Where lines came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// A client address; for IPv6, its /64.
    Address(IpAddr),
    /// Addresses that are too many to be told apart.
    Others,
}

impl fmt::Display for Whence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip @ IpAddr::V4(_)) => write!(f, "{ip}"),
            Self::Address(ip @ IpAddr::V6(_)) => write!(f, "{ip}/64"),
            Self::Others => f.write_str("(others)"),
        }
    }
}

impl Lines {
    /// Whether another line of this kind may be written because of this client; one that may not is counted.
    pub fn may_write(&mut self, kind: LineKind, client: IpAddr, now: Instant) -> bool {
        let origin = self.origin(client, now);
        let source = self.sources.entry(origin).or_default();
        let (own, all) = (rate(OF_AN_ADDRESS), rate(OF_ALL));
        let may = source.bucket(kind).may_take(now, own, 1).is_ok() && self.all.bucket(kind).take(now, all, 1).is_ok();
        if may {
            let _was_asked_for = source.bucket(kind).take(now, own, 1);
        } else {
            source.left_out += 1;
        }
        may
    }

    /// Counts a line that is not written because of this client.
    pub fn leave_out(&mut self, client: IpAddr, now: Instant) {
        let origin = self.origin(client, now);
        self.sources.entry(origin).or_default().left_out += 1;
    }

    /// As whom this client is counted.
    fn origin(&mut self, client: IpAddr, now: Instant) -> Origin {
        let origin = Origin::of(client);
        if self.sources.contains_key(&origin) || self.sources.len() < MOST {
            return origin;
        }
        self.make_room(now);
        if self.sources.len() < MOST { origin } else { Origin::Others }
    }

    /// Takes the lines that were left out since the last time, those of the loudest addresses by name.
    pub fn left_out(&mut self) -> LeftOut {
        let quiet = self.sources.iter_mut().filter(|(_, source)| source.left_out > 0);
        let mut loudest: Vec<(Whence, u64)> =
            quiet.map(|(origin, source)| (whence(*origin), std::mem::take(&mut source.left_out))).collect();
        loudest.sort_unstable_by_key(|(_, lines)| std::cmp::Reverse(*lines));
        let others = loudest.split_off(loudest.len().min(NAMED));
        LeftOut { named: loudest, others: others.iter().map(|(_, lines)| lines).sum(), other_addresses: others.len() }
    }

    fn make_room(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        self.sources.retain(|_, source| !source.is_idle(now));
    }
}

const fn whence(origin: Origin) -> Whence {
    match origin {
        Origin::At(ip) => Whence::Address(ip),
        Origin::Others => Whence::Others,
    }
}

fn rate(lines: u32) -> Rate {
    Rate::of(NonZeroU32::new(lines).unwrap_or(NonZeroU32::MIN), PERIOD)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ip(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    #[test]
    fn lines_that_nobody_tried_to_write_are_counted_as_left_out() {
        let mut lines = Lines::default();
        (0..3).for_each(|_| lines.leave_out(ip(1), Instant::now()));
        assert_eq!(lines.left_out().named, [(Whence::Address(ip(1)), 3)]);
        assert!(lines.left_out().named.is_empty());
    }

    fn written(lines: &mut Lines, client: IpAddr, tries: u32, now: Instant) -> u32 {
        (0..tries).map(|_| u32::from(lines.may_write(LineKind::Fault, client, now))).sum()
    }

    #[test]
    fn an_address_has_a_hundred_lines_and_then_a_few_a_second() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        assert_eq!(written(&mut lines, ip(1), 1000, now), 100);
        assert_eq!(written(&mut lines, ip(1), 1000, now + Duration::from_secs(1)), 5);
        // Others have theirs, and so have lines of the other kind.
        assert_eq!(written(&mut lines, ip(2), 10, now), 10);
        assert!(lines.may_write(LineKind::Session, ip(1), now));
        let told = LeftOut { named: vec![(Whence::Address(ip(1)), 1895)], ..LeftOut::default() };
        assert_eq!(lines.left_out(), told);
        assert_eq!(lines.left_out(), LeftOut::default());
    }

    #[test]
    fn a_network_of_64_bits_is_one_client() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let mut all = 0;
        for host in 0..200_u16 {
            let client = IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]);
            all += written(&mut lines, client, 1, now);
        }
        assert_eq!(all, 100);
        assert_eq!(lines.left_out().named[0].0.to_string(), "2001:db8:0:1::/64");
    }

    #[test]
    fn many_addresses_have_a_limit_together_and_none_of_their_lines_is_lost_uncounted() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let addresses = u32::try_from(MOST).unwrap() + 500;
        let all: u32 = (0..addresses).map(|number| written(&mut lines, ip(number), 2, now)).sum();
        assert_eq!(all, OF_ALL);
        assert!(lines.sources.len() <= MOST + 1);
        let LeftOut { named, others, other_addresses } = lines.left_out();
        assert_eq!(named.len(), NAMED);
        assert_eq!(named[0], (Whence::Others, 1000));
        let left_out: u64 = named.iter().map(|(_, lines)| lines).sum();
        assert_eq!(left_out + others, u64::from(addresses * 2 - OF_ALL));
        assert!(other_addresses > 3000, "{other_addresses}");
        // What is idle and told makes room.
        let later = now + PERIOD;
        assert_eq!(written(&mut lines, ip(addresses + 1), 1, later), 1);
        assert!(lines.sources.len() < 3, "{}", lines.sources.len());
    }
}
