//! The results: a table for people, JSON for programs, and what is to be reached.

use std::collections::BTreeMap;

use serde_json::json;

use super::contender::Contender;
use super::measure::Figure;

/// Every figure of every contender, in the order of the rounds.
#[derive(Default)]
pub struct Results {
    names: Vec<String>,
    values: BTreeMap<(String, &'static str), Vec<Option<f64>>>,
}

/// The middle of some rounds, the least and the most.
#[derive(Clone, Copy)]
struct Middle {
    least: f64,
    median: f64,
    most: f64,
}

impl Results {
    pub fn add(&mut self, round: usize, contender: Contender, figure: &Figure) {
        if !self.names.contains(&figure.name) {
            self.names.push(figure.name.clone());
        }
        let values = self.values.entry((figure.name.clone(), contender.name())).or_default();
        values.resize(round, None);
        values.push(Some(figure.value));
    }

    fn rounds(&self, name: &str, contender: Contender) -> &[Option<f64>] {
        self.values.get(&(name.to_owned(), contender.name())).map_or(&[], Vec::as_slice)
    }

    fn middle(&self, name: &str, contender: Contender) -> Option<Middle> {
        middle(self.rounds(name, contender).iter().flatten().copied())
    }

    /// Two contenders against each other, round by round.
    fn paired(&self, name: &str, one: Contender, other: &Against) -> Option<Middle> {
        let ours = self.rounds(name, one).iter();
        let pair = |theirs: &[Option<f64>], both: fn(f64, f64) -> f64| {
            middle(ours.clone().zip(theirs).filter_map(|(ours, theirs)| Some(both((*ours)?, (*theirs)?))))
        };
        match other {
            Against::Ratio(other) => pair(self.rounds(name, *other), |a, b| a / b),
            Against::More(other) => pair(self.rounds(name, *other), |a, b| a - b),
            Against::Other(figure) => pair(self.rounds(figure, one), |a, b| a / b),
            Against::Nothing => self.middle(name, one),
        }
    }

    /// The figures, each with its spread in percent of it.
    pub fn print(&self) {
        let columns: Vec<Contender> = Contender::ALL
            .into_iter()
            .filter(|contender| self.values.keys().any(|(_, name)| *name == contender.name()))
            .collect();
        let head: String = columns.iter().map(|contender| format!("{:>16}", contender.name())).collect();
        println!("{:24}{head}", "");
        for name in &self.names {
            let cell = |contender: &Contender| match self.middle(name, *contender) {
                Some(middle) => format!("{:>16}", middle.shown()),
                None => format!("{:>16}", "-"),
            };
            println!("{name:24}{}", columns.iter().map(cell).collect::<String>());
        }
    }

    /// What is to be reached, and what was.
    pub fn print_goals(&self) {
        println!("\n{:66}{:>18}{:>10}", "", "median (spread)", "wanted");
        for goal in GOALS {
            let Some(middle) = self.paired(goal.figure, goal.of, &goal.against) else { continue };
            let (sign, wanted, met) = match goal.bound {
                Bound::Least(least) => (">=", least, middle.median >= least),
                Bound::Most(most) => ("<=", most, middle.median <= most),
                Bound::MostOf(contender) => {
                    let Some(theirs) = self.paired(goal.figure, contender, &goal.against) else { continue };
                    ("<=", theirs.median, middle.median <= theirs.median)
                }
            };
            let what = format!("{} {}: {}", goal.of.name(), goal.figure, goal.against.shown());
            let met = if met { "" } else { "  NOT MET" };
            println!("{what:66}{:>18}{:>10}{met}", middle.shown(), format!("{sign} {}", digits(wanted)));
        }
    }

    pub fn json(&self) -> serde_json::Value {
        let of = |name: &String| {
            let each = |contender: &Contender| {
                let rounds = self.rounds(name, *contender);
                let middle = self.middle(name, *contender)?;
                Some((contender.name().to_owned(), json!({ "median": middle.median, "rounds": rounds })))
            };
            Contender::ALL.iter().filter_map(each).collect::<serde_json::Map<_, _>>()
        };
        self.names.iter().map(|name| (name.clone(), of(name).into())).collect::<serde_json::Map<_, _>>().into()
    }
}

/// What a figure is held against.
enum Against {
    /// Another contender's, as a ratio.
    Ratio(Contender),
    /// Another contender's, as a difference.
    More(Contender),
    /// Another figure of the same contender, as a ratio.
    Other(&'static str),
    /// Nothing: it counts as it is.
    Nothing,
}

enum Bound {
    Least(f64),
    Most(f64),
    /// What the same comes to for another contender.
    MostOf(Contender),
}

struct Goal {
    figure: &'static str,
    of: Contender,
    against: Against,
    bound: Bound,
}

const GOALS: &[Goal] = {
    use Against::{More, Nothing, Other, Ratio};
    use Bound::{Least, Most, MostOf};
    use Contender::{Haproxy, Helper, Kernel, KernelRules, Relay, RelayRules, Routed};
    const fn goal(figure: &'static str, of: Contender, against: Against, bound: Bound) -> Goal {
        Goal { figure, of, against, bound }
    }
    &[
        goal("bulk-1-down", Kernel, Ratio(Helper), Least(0.97)),
        goal("bulk-1-up", Kernel, Ratio(Helper), Least(0.97)),
        goal("bulk-1-down", Relay, Ratio(Haproxy), Least(1.2)),
        goal("bulk-1-up", Relay, Ratio(Haproxy), Least(1.2)),
        goal("sessions", Relay, Ratio(Haproxy), Least(1.0)),
        goal("sessions", Kernel, Ratio(Haproxy), Least(1.0)),
        goal("small-passive", Relay, Ratio(Haproxy), Least(1.0)),
        goal("small-passive", Kernel, Ratio(Haproxy), Least(1.0)),
        goal("sessions", Kernel, Ratio(Helper), Least(0.85)),
        goal("small-passive", Kernel, Ratio(Helper), Least(0.85)),
        goal("small-active", Kernel, Ratio(Helper), Least(0.85)),
        goal("noop-idle.p50", Relay, More(Routed), MostOf(Haproxy)),
        goal("noop-idle.p99", Relay, More(Routed), MostOf(Haproxy)),
        goal("noop-busy.p50", Relay, More(Routed), MostOf(Haproxy)),
        goal("noop-busy.p99", Relay, More(Routed), MostOf(Haproxy)),
        goal("flood.p99", Relay, Nothing, Most(100_000.0)),
        goal("flood.p99", Kernel, Nothing, Most(100_000.0)),
        goal("flood.p99", Relay, Ratio(Haproxy), Most(1.0)),
        goal("flood.download", Relay, Other("bulk-1-down"), Least(0.5)),
        goal("flood.download", Kernel, Other("bulk-1-down"), Least(0.5)),
        goal("idle.process-kib", Relay, Nothing, Most(4.0)),
        goal("idle.process-kib", Kernel, Nothing, Most(4.0)),
        goal("idle.small-beside", Relay, Other("small-passive"), Least(0.95)),
        goal("idle.small-beside", Kernel, Other("small-passive"), Least(0.95)),
        goal("sessions", RelayRules, Ratio(Relay), Least(0.95)),
        goal("sessions", KernelRules, Ratio(Kernel), Least(0.95)),
        goal("small-passive", RelayRules, Ratio(Relay), Least(0.95)),
        goal("small-passive", KernelRules, Ratio(Kernel), Least(0.95)),
        goal("idle.accept-5000", RelayRules, Ratio(Relay), Most(1.05)),
        goal("idle.process-kib", RelayRules, Nothing, Most(4.0)),
    ]
};

impl Against {
    fn shown(&self) -> String {
        match self {
            Self::Ratio(other) => format!("ratio to {}", other.name()),
            Self::More(other) => format!("more than {}", other.name()),
            Self::Other(figure) => format!("ratio to {figure}"),
            Self::Nothing => "as it is".into(),
        }
    }
}

impl Middle {
    fn shown(self) -> String {
        let spread = (self.most - self.least) / self.median.abs() * 100.0;
        format!("{} ({spread:.0}%)", digits(self.median))
    }
}

fn middle(values: impl Iterator<Item = f64>) -> Option<Middle> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    Some(Middle { least: *values.first()?, median: *values.get(values.len() / 2)?, most: *values.last()? })
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
