//! Whether data goes through the kernel, and what the operator is told of that.

use std::sync::Arc;

use super::StartError;
use crate::addr::Network;
use crate::pinhole::Datapaths;
use crate::policy::{Datapath, Listener, Permission, Policy, Rule, Stand};
use crate::report;

/// Starts the kernel's datapath where a rule has a use for it; it must be there where one says so.
pub(super) fn check(policy: &Policy, datapaths: &Datapaths) -> Result<(), StartError> {
    if !wants_kernel(policy) {
        return Ok(());
    }
    let Err(why) = datapaths.start_kernel() else { return Ok(()) };
    let insists = |rule: &&Arc<Rule>| rule.permission == Permission::Allow && rule.datapath == Datapath::Kernel;
    match policy.rules.iter().find(insists) {
        Some(rule) => Err(StartError::NoKernelDatapath { rule: rule.name.clone(), why: why.clone() }),
        None => Ok(()),
    }
}

/// Says whether there is a kernel's datapath and what stands in its way, as far as the rules before (`old`) gave no reason
/// to say so.
pub(super) fn report(old: Option<&Policy>, new: &Policy, datapaths: &Datapaths) {
    if !wants_kernel(new) {
        return;
    }
    if !old.is_some_and(wants_kernel) {
        report::kernel_datapath(datapaths.start_kernel().map_err(|why| why as _));
    }
    let is_new = |v6: &bool| leads(new, *v6) && !old.is_some_and(|old| leads(old, *v6));
    let obstacles = [false, true].into_iter().filter(is_new).filter_map(|v6| datapaths.obstacle(v6));
    obstacles.for_each(|obstacle| report::obstacle(&obstacle));
}

/// Whether any data connection may go through the kernel.
fn wants_kernel(policy: &Policy) -> bool {
    policy.rules.iter().any(|rule| may_lead(rule))
}

fn may_lead(rule: &Rule) -> bool {
    rule.permission == Permission::Allow && rule.datapath != Datapath::Relay
}

/// Whether data connections of this family may: both sides of one are of the same.
fn leads(policy: &Policy, v6: bool) -> bool {
    let listeners = || policy.listeners.iter().filter(|listener| listener.bind.is_ipv6() == v6);
    let serves = |rule: &Rule, listener: &Listener| {
        (rule.listeners.is_empty() || rule.listeners.contains(&listener.name))
            && match listener.stand {
                Stand::Reverse { server } => {
                    server.ip().is_ipv6() == v6 && rule.to.iter().any(|to| to.contains(server))
                }
                Stand::Transparent { .. } | Stand::Explicit => rule.to.iter().any(|to| is_of(&to.network, v6)),
            }
    };
    policy
        .rules
        .iter()
        .filter(|rule| may_lead(rule) && rule.from.iter().any(|from| is_of(from, v6)))
        .any(|rule| listeners().any(|listener| serves(rule, listener)))
}

fn is_of(network: &Network, v6: bool) -> bool {
    match network {
        Network::Any => true,
        Network::Net(net) => net.addr().is_ipv6() == v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_families_that_both_sides_can_have_are_led() {
        let families = |listener: &str, rule: &str| {
            let text = format!(
                "version: 1\nlisteners: [{{ name: a, {listener} }}]\n\
                 rules: [{{ name: r, action: allow, inbound: 10001, {rule} }}]\n"
            );
            let policy = crate::rules::parse(&text, "test").unwrap_or_else(|why| panic!("{why}"));
            [false, true].map(|v6| leads(&policy, v6))
        };
        let any = "from: any, to: any";
        for (listener, rule, expected) in [
            ("bind: '0.0.0.0:21', server: '10.0.2.2:21'", any, [true, false]),
            ("bind: '[::]:21', server: '[2001:db8::2]:21'", any, [false, true]),
            ("bind: '[::]:21', server: '10.0.2.2:21'", any, [false, false]),
            ("bind: '0.0.0.0:21', server: '10.0.2.2:21'", "from: any, to: any, datapath: relay", [false, false]),
            ("bind: '0.0.0.0:21', transparent: tproxy", any, [true, false]),
            ("bind: '[::]:21', explicit: user-at-host", any, [false, true]),
            ("bind: '[::]:21', explicit: user-at-host", "from: any, to: 10.0.0.0/8", [false, false]),
            ("bind: '[::]:21', transparent: tproxy", "from: 10.0.0.0/8, to: any", [false, false]),
        ] {
            assert_eq!(families(listener, rule), expected, "{listener} {rule}");
        }
    }
}
