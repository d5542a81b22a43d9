//! Sees to it that connections to servers get to the transparent listeners, and not past them.
//!
//! It is looked at before anybody is served, at each reload, and every few seconds: another program may flush the rules of
//! nftables at any time. Meanwhile the [`Guard`] drops what is not handed over.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::arrivals::{Accepted, Arrivals, News};
use crate::driver::{Orders, Phase};
use crate::interception::{Bridged, Counts, Fault, Guard, Interception, Missing, Otherwise, Seen};
use crate::net;
use crate::policy::Policy;
use crate::report;

/// How often it is looked whether all is in place.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// How long an end waits for the last changes.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the command line says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intercept {
    /// The gate loads what is missing itself.
    pub load: bool,
    /// What happens to connections that do not get to the gate.
    pub otherwise: Otherwise,
    /// The rules file, for the command that the operator is told to run.
    pub rules_file: PathBuf,
}

/// The task that looks.
pub(super) struct Watch {
    task: JoinHandle<()>,
}

impl Watch {
    /// Looks now, and from now on. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The gate is to load what is missing, and cannot; the text says why.
    pub(super) fn start(
        options: Intercept,
        accepted: Accepted,
        orders: watch::Receiver<Orders>,
    ) -> Result<Self, String> {
        let mut watcher = Watcher::new(options, accepted);
        watcher.look(&orders.borrow().policy);
        if let Told::Failed(why) = &watcher.told
            && watcher.options.load
        {
            return Err(why.clone());
        }
        Ok(Self { task: tokio::spawn(watch(watcher, orders)) })
    }

    /// Waits until it is taken back, where it is to be: once the gate stops.
    pub(super) async fn ended(self) {
        let abort = self.task.abort_handle();
        if tokio::time::timeout(PATIENCE, self.task).await.is_err() {
            abort.abort();
        }
    }
}

async fn watch(mut watcher: Watcher, mut orders: watch::Receiver<Orders>) {
    let mut ticks = tokio::time::interval(LOOK_AGAIN);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = orders.changed() => if changed.is_err() { return },
        }
        let (policy, phase) = {
            let orders = orders.borrow_and_update();
            (Arc::clone(&orders.policy), orders.phase)
        };
        // The kernel's answers are waited for.
        let looked = tokio::task::spawn_blocking(move || {
            if phase == Phase::Stopping {
                watcher.end();
                return None;
            }
            watcher.look(&policy);
            Some(watcher)
        });
        match looked.await {
            Ok(Some(looked)) => watcher = looked,
            Ok(None) => return,
            // Its table of its own is gone, too.
            Err(error) => return report::interception_unknown(&error.to_string()),
        }
    }
}

struct Watcher {
    options: Intercept,
    guard: Option<Guard>,
    /// What the operator knows.
    told: Told,
    told_of_guard: Option<String>,
    bridged: Option<Bridged>,
    seen: Option<Seen>,
    /// When it was loaded because it was another one.
    contested: Vec<Instant>,
    arrivals: Arrivals,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// No listener needs any of it.
    NotNeeded,
    InPlace(Interception),
    Missing(Vec<Missing>),
    /// The kernel cannot be asked, or takes no changes.
    Failed(String),
}

impl Watcher {
    const fn new(options: Intercept, accepted: Accepted) -> Self {
        Self {
            options,
            guard: None,
            told: Told::Nothing,
            told_of_guard: None,
            bridged: None,
            seen: None,
            contested: Vec::new(),
            arrivals: Arrivals::new(accepted),
        }
    }

    fn look(&mut self, policy: &Policy) {
        let Some(interception) = Interception::of(policy, self.options.otherwise) else { return self.is_not_needed() };
        let bridged = interception.bridged();
        if bridged != self.bridged {
            bridged.iter().for_each(|found| report::bridged(&found.bridges, &found.settings));
            self.bridged = bridged;
        }
        let guarded = self.guard(&interception).err().map(|fault| explain(&fault));
        if guarded != self.told_of_guard {
            guarded.iter().for_each(|why| report::not_guarded(why));
            self.told_of_guard = guarded;
        }
        let known = match self.complete(&interception) {
            Ok(missing) if missing.is_empty() => Told::InPlace(interception),
            Ok(missing) => Told::Missing(missing),
            Err(fault) => Told::Failed(explain(&fault)),
        };
        if known != self.told {
            self.tell(&known);
            self.told = known;
        }
        self.look_at_arrivals();
    }

    /// Where the kernel does not tell its counts, that was said already.
    fn look_at_arrivals(&mut self) {
        let Ok(Counts { handed_over, dropped }) = Interception::counts() else { return };
        let by_guard = self.guard.as_ref().and_then(|guard| guard.dropped().ok()).unwrap_or(0);
        for news in self.arrivals.look(Instant::now(), handed_over, dropped.saturating_add(by_guard)) {
            match news {
                News::NoneArrives(packets) => report::none_arrives(packets),
                News::Arrives => report::arrives(),
                News::Dropped(packets) => report::bypass_dropped(packets),
            }
        }
    }

    fn is_not_needed(&mut self) {
        self.guard = None;
        // A gate that loads it removes it with the last listener that needs it.
        if self.options.load && !matches!(self.told, Told::Nothing | Told::NotNeeded) {
            unload();
        }
        if self.told == Told::Nothing && (self.options.load || self.options.otherwise == Otherwise::Open) {
            report::nothing_to_intercept();
        }
        self.told = Told::NotNeeded;
    }

    /// Drops what gets past the listeners, whatever becomes of the operator's rules.
    fn guard(&mut self, interception: &Interception) -> Result<(), Fault> {
        if self.options.otherwise == Otherwise::Open {
            return Ok(());
        }
        match &mut self.guard {
            Some(guard) => guard.change(interception),
            None => Guard::start(interception).map(|guard| self.guard = Some(guard)),
        }
    }

    /// Loads what is missing where the gate is to; what is missing still.
    fn complete(&mut self, interception: &Interception) -> Result<Vec<Missing>, Fault> {
        let missing = interception.missing(&mut self.seen)?;
        if !self.options.load || !missing.iter().any(|missing| missing.can_be_loaded()) {
            return Ok(missing);
        }
        interception.load()?;
        // The same rules as a moment ago, and it was there: somebody else has done it.
        let is_again = matches!(&self.told, Told::InPlace(told) if told == interception);
        report::interception_loaded(&listed(&missing), is_again);
        if is_again && missing.contains(&Missing::OtherRules) {
            self.is_contested();
        }
        interception.missing(&mut self.seen)
    }

    /// Another gate may load its own in turn.
    fn is_contested(&mut self) {
        const OFTEN: usize = 3;
        const WITHIN: Duration = Duration::from_secs(60);
        let now = Instant::now();
        self.contested.retain(|at| now.saturating_duration_since(*at) < WITHIN);
        self.contested.push(now);
        if self.contested.len() >= OFTEN {
            report::interception_contested();
            self.contested.clear();
        }
    }

    fn tell(&self, known: &Told) {
        let is_closed = self.options.otherwise == Otherwise::Closed;
        let status = match known {
            Told::Nothing | Told::NotNeeded => return,
            Told::InPlace(interception) => {
                report::intercepting(is_closed, &interception.without_listener().collect::<Vec<_>>());
                "serving".to_owned()
            }
            Told::Missing(missing) => {
                let text = listed(missing);
                let command = missing.iter().any(|missing| missing.can_be_loaded()).then(|| self.command());
                report::interception_missing(&text, is_closed, command.as_deref());
                format!("not ready: {text}")
            }
            Told::Failed(why) => {
                report::interception_unknown(why);
                format!("interception unknown: {why}")
            }
        };
        if let Err(error) = sd_notify::notify(&[NotifyState::Status(&status)]) {
            report::system("systemd could not be told how the gate is", &error);
        }
    }

    /// What an operator runs to have it in place.
    fn command(&self) -> String {
        let open = if self.options.otherwise == Otherwise::Open { "--fail-open " } else { "" };
        let file = std::path::absolute(&self.options.rules_file);
        let file = file.as_deref().unwrap_or(&self.options.rules_file).display().to_string();
        format!("ftpgate intercept {open}{} | sudo sh", quoted(&file))
    }

    /// What the gate loaded stays, so that nothing gets past a gate that does not run; unless that is wanted.
    fn end(&mut self) {
        if self.options.load && self.options.otherwise == Otherwise::Open && self.told != Told::NotNeeded {
            unload();
        }
    }
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

fn unload() {
    match Interception::unload() {
        Ok(()) => report::interception_unloaded(),
        Err(fault) => report::interception_unknown(&explain(&fault)),
    }
}

fn explain(fault: &Fault) -> String {
    if net::may_change_network() { fault.to_string() } else { format!("{fault}: this takes CAP_NET_ADMIN") }
}

fn listed(missing: &[Missing]) -> String {
    let missing: Vec<String> = missing.iter().map(Missing::to_string).collect();
    missing.join("; ")
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_path_is_one_word() {
        assert_eq!(quoted("/etc/ftpgate/rules.yaml"), "/etc/ftpgate/rules.yaml");
        assert_eq!(quoted("a b;touch x$(id)'q"), r"'a b;touch x$(id)'\''q'");
    }
}
