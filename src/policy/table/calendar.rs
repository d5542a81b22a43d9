//! Which of the hours in the rules hold.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;

use crate::policy::Hours;

/// The number of no hours: what always holds.
pub(super) const ALWAYS: u32 = 0;

/// The hours of all rules, each once, and which of them held when somebody last asked.
#[derive(Debug)]
pub(super) struct Calendar {
    hours: Vec<Hours>,
    known: RwLock<Arc<Holding>>,
}

/// Which hours hold, until that may change.
#[derive(Debug)]
pub(super) struct Holding {
    from: Timestamp,
    /// `None`: it never does.
    pub(super) until: Option<Timestamp>,
    /// By their number.
    holds: Vec<bool>,
}

impl Holding {
    fn new(hours: &[Hours], at: Timestamp) -> Self {
        Self {
            from: at,
            until: hours.iter().filter_map(|hours| hours.next_change(at)).min(),
            holds: std::iter::once(true).chain(hours.iter().map(|hours| hours.contain(at))).collect(),
        }
    }

    pub(super) fn holds(&self, number: u32) -> bool {
        self.holds.get(number as usize).is_some_and(|holds| *holds)
    }

    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.holds == other.holds
    }

    fn is_of(&self, at: Timestamp) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

impl Calendar {
    /// What holds at this moment. It is worked out anew only where `at` lies beyond what is known.
    pub(super) fn at(&self, at: Timestamp) -> Arc<Holding> {
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.is_of(at) {
                return Arc::clone(&known);
            }
        }
        let holding = Arc::new(Holding::new(&self.hours, at));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&holding);
        holding
    }
}

/// Gives each of the hours a number.
#[derive(Default)]
pub(super) struct CalendarBuilder {
    hours: Vec<Hours>,
    /// Those that were written alike.
    numbers: HashMap<String, Vec<u32>>,
}

impl CalendarBuilder {
    pub(super) fn number(&mut self, hours: Option<&Hours>) -> u32 {
        let Some(hours) = hours else { return ALWAYS };
        let alike = self.numbers.entry(hours.to_string()).or_default();
        let same = |number: &&u32| self.hours.get(**number as usize - 1).is_some_and(|known| known == hours);
        if let Some(&number) = alike.iter().find(same) {
            return number;
        }
        self.hours.push(hours.clone());
        let number = super::number(self.hours.len());
        alike.push(number);
        number
    }

    pub(super) fn build(self) -> Calendar {
        // Nothing is known of any moment yet.
        let nothing = Holding { from: Timestamp::MAX, until: Some(Timestamp::MIN), holds: Vec::new() };
        Calendar { hours: self.hours, known: RwLock::new(Arc::new(nothing)) }
    }
}
