//! Other firewalls on this machine: what one of them drops, none of our accept verdicts brings back.
//!
//! Their rules are read when the gate starts, with new rules of its own, and every ten seconds: each is held against the
//! packets that the gate needs. Of those much is not known (whose they are, by which interface they come), so that a rule
//! may hold or not; only what is dropped in any case is complained about.

mod accept;
mod judge;
mod needs;
mod obstacle;
mod packet;
#[cfg(test)]
mod tests;
mod xtables;

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::net::netlink::{Ruleset, number};
use crate::policy::Policy;
use crate::report;
use crate::session::WhyRelay;
use needs::Needs;
use obstacle::{Kind, Obstacle};

/// A firewall may be loaded at any time; how soon that is found out.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// What tables of gates are called: see `kernel::nftables`.
const GATES: &str = "ftpgate-";

/// What is known of them. Nothing, until somebody has looked.
#[derive(Debug, Default)]
pub(super) struct Firewalls(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    needs: Needs,
    obstacles: Vec<Obstacle>,
    is_watched: bool,
}

impl Firewalls {
    /// Looks now, says what there is, and watches from now on. Without the privilege nothing is known, and nothing said.
    pub(super) fn watch(self: &Arc<Self>, policy: &Policy, has_kernel: bool) {
        self.known().needs = Needs::of(policy, has_kernel);
        if self.look() == Err(ErrorKind::PermissionDenied) || std::mem::replace(&mut self.known().is_watched, true) {
            return;
        }
        let watched = Arc::downgrade(self);
        // A thread of its own: there may be thousands of rules.
        let thread = std::thread::Builder::new().name("firewalls".to_owned()).spawn(move || run(&watched));
        if let Err(error) = thread {
            report::system("changes of this machine's firewalls are not seen", &error);
        }
    }

    /// Why the kernel cannot lead data connections of this family, as far as that is known.
    pub(super) fn close(&self, is_ipv4: bool) -> Option<WhyRelay> {
        let family = if is_ipv4 { number::IPV4 } else { number::IPV6 };
        let known = self.known();
        known.obstacles.iter().filter(|obstacle| obstacle.concerns(family)).find_map(|obstacle| match obstacle.kind {
            Kind::Kernel => Some(WhyRelay::Firewall),
            Kind::Helper => Some(WhyRelay::Helper),
            Kind::Gate => None,
        })
    }

    /// Looks, and says what has changed.
    fn look(&self) -> Result<(), ErrorKind> {
        // Not under the lock: sessions look there.
        let needs = self.known().needs.clone();
        let rules = Ruleset::read(|table| table.starts_with(GATES)).map_err(|error| error.kind())?;
        let found = obstacle::find(&rules, &needs, helpers_by_setting());
        let mut known = self.known();
        if known.needs != needs {
            return Ok(());
        }
        let is_new = |obstacle: &&Obstacle| !known.obstacles.contains(obstacle);
        for Obstacle { kind, text, .. } in found.iter().filter(is_new) {
            match kind {
                Kind::Kernel | Kind::Helper => report::obstacle(text),
                Kind::Gate => report::firewall_obstacle(text),
            }
        }
        let is_gone = |old: &&Obstacle| !found.iter().any(|new| (new.kind, &new.place) == (old.kind, &old.place));
        for Obstacle { kind, place, .. } in known.obstacles.iter().filter(is_gone) {
            match kind {
                Kind::Kernel | Kind::Helper => report::no_obstacle(place),
                Kind::Gate => report::no_firewall_obstacle(place),
            }
        }
        known.obstacles = found;
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(firewalls: &Weak<Firewalls>) {
    loop {
        std::thread::sleep(LOOK_AGAIN);
        let Some(firewalls) = firewalls.upgrade() else { return };
        // What cannot be read now, for it changes or the kernel is short of memory, is read the next time.
        let _ = firewalls.look();
    }
}

/// Kernels before 6.0 can set helpers by themselves.
fn helpers_by_setting() -> Option<Obstacle> {
    const SETTING: &str = "net.netfilter.nf_conntrack_helper";
    let value = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_helper").ok()?;
    (value.trim() == "1").then(|| Obstacle {
        kind: Kind::Helper,
        family: number::INET,
        place: SETTING.to_owned(),
        text: format!(
            "the kernel sets conntrack's helpers by itself, and that for FTP takes data connections from their pinholes: \
             `sysctl -w {SETTING}=0` (until then the relay moves the data)"
        ),
    })
}
