//! Bytes to rules.

use std::time::Duration;

use ftpgate::addr::PortRanges;
use ftpgate::policy::{Permission, Policy, ServerMode};
use ftpgate::rules::parse_bytes;

/// A file is either wrong, and every mistake has its place and a remedy, or it means what no rule may exceed.
pub fn rules(data: &[u8]) {
    match parse_bytes(data, "fuzz.yaml") {
        Ok(policy) => sound(&policy),
        Err(mistakes) => {
            let shown = mistakes.to_string();
            shown.split(['\n', '\t']).for_each(super::assert_harmless);
            assert!(!mistakes.list().is_empty());
            let lines = data.split(|byte| *byte == b'\n').count();
            for mistake in mistakes.list() {
                assert!(!mistake.message.is_empty() && !mistake.help.is_empty(), "{mistake:?}");
                assert!((1..=lines).contains(&mistake.line) && mistake.column >= 1, "{mistake:?} of {lines} lines");
            }
        }
    }
}

fn sound(policy: &Policy) {
    assert!(!policy.listeners.is_empty() && !policy.rules.is_empty());
    assert!(policy.listeners.iter().all(|listener| listener.bind.port() != 0));
    for rule in &policy.rules {
        assert!(!rule.from.is_empty() && !rule.to.is_empty(), "an empty list matches nobody");
        let waits = rule.pinhole_timeout;
        assert!((Duration::from_secs(1)..=Duration::from_secs(600)).contains(&waits), "{waits:?}");
        let (inbound, outbound) = (rule.inbound.as_ref(), rule.outbound.as_ref());
        assert_eq!(rule.permission == Permission::Allow, inbound.is_some() || outbound.is_some());
        inbound.into_iter().for_each(|ports| [&ports.gate_ports, &ports.server_ports].into_iter().for_each(unreserved));
        if let Some(ports) = outbound {
            assert!(ports.gate_ports.is_some() || rule.server_mode == ServerMode::Passive);
            ports.gate_ports.iter().chain([&ports.client_ports]).for_each(unreserved);
        }
    }
}

fn unreserved(ranges: &PortRanges) {
    assert!(ranges.as_slice().iter().all(|range| range.first() >= 1024 && range.first() <= range.last()), "{ranges}");
}
