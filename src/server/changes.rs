//! What differs between two policies, in words.

use crate::policy::Policy;

/// One phrase for each listener and rule that came, went or changed.
pub(super) fn between(old: &Policy, new: &Policy) -> Vec<String> {
    let mut changes = Vec::new();
    named(
        "listener",
        &old.listeners.iter().map(|listener| (listener.name.as_str(), listener)).collect::<Vec<_>>(),
        &new.listeners.iter().map(|listener| (listener.name.as_str(), listener)).collect::<Vec<_>>(),
        &mut changes,
    );
    named(
        "rule",
        &old.rules.iter().map(|rule| (rule.name.as_str(), rule)).collect::<Vec<_>>(),
        &new.rules.iter().map(|rule| (rule.name.as_str(), rule)).collect::<Vec<_>>(),
        &mut changes,
    );
    if changes.is_empty() && old.rules != new.rules {
        changes.push("the order of the rules changed".to_owned());
    }
    if old.timeouts != new.timeouts {
        changes.push("timeouts changed".to_owned());
    }
    if old.limits != new.limits {
        changes.push("limits changed".to_owned());
    }
    changes
}

fn named<T: PartialEq>(kind: &str, old: &[(&str, T)], new: &[(&str, T)], changes: &mut Vec<String>) {
    for (name, item) in new {
        match old.iter().find(|(old_name, _)| old_name == name) {
            None => changes.push(format!("{kind} {name} added")),
            Some((_, old_item)) if old_item != item => changes.push(format!("{kind} {name} changed")),
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|(name, _)| !new.iter().any(|(new_name, _)| new_name == name));
    changes.extend(gone.map(|(name, _)| format!("{kind} {name} removed")));
}
