//! Rules of any shape are read without harm; what extensions of iptables ask is read as their headers have it.

use proptest::prelude::*;

use super::judge::Judge;
use super::packet::{DNAT, Holds, Packet};
use super::xtables;
use crate::net::netlink::{Chain, Expression, Rule, Table, Writer, number};

const NAMES: [&str; 18] = [
    "meta",
    "ct",
    "payload",
    "cmp",
    "range",
    "bitwise",
    "byteorder",
    "lookup",
    "immediate",
    "reject",
    "match",
    "target",
    "objref",
    "limit",
    "counter",
    "queue",
    "notrack",
    "fib",
];

fn expression(name: &str, fill: impl FnOnce(&mut Writer)) -> Expression {
    let mut writer = Writer::default();
    writer.nest(0, fill);
    Expression { name: name.to_owned(), data: writer.as_bytes()[4..].to_vec() }
}

fn extension(kind: &str, name: &str, info: &[u8]) -> Expression {
    expression(kind, |w| {
        w.text(1, name);
        w.bytes(3, info);
    })
}

fn asks(name: &str, info: &[u8], packet: &Packet) -> Holds {
    xtables::matches(&extension("match", name, info), packet)
}

#[test]
fn ports_marks_and_states_of_iptables_are_read() {
    let packet = Packet { mark: Some(0x2121), ..Packet::to(number::IPV4, 10_003) };
    let tcp = |from: u16, to: u16, inverted: u8| {
        let ports = [0, u16::MAX, from, to].map(u16::to_ne_bytes).concat();
        asks("tcp", &[&ports[..], &[0, 0, 0, inverted]].concat(), &packet)
    };
    assert_eq!([tcp(10_001, 10_005, 0), tcp(21, 21, 0), tcp(21, 21, 2)], [Holds::Yes, Holds::No, Holds::Yes]);
    let mark = |mark: u32, mask: u32, inverted| {
        let info = [mark, mask].map(u32::to_ne_bytes).concat();
        asks("mark", &[&info[..], &[inverted, 0, 0, 0]].concat(), &packet)
    };
    assert_eq!([mark(0x2121, !0, 0), mark(1, 1, 0), mark(2, !0, 1)], [Holds::Yes, Holds::Yes, Holds::Yes]);
    assert_eq!(asks("connmark", &[0; 12], &packet), Holds::Maybe);
    let state = |mask: u16, packet: &Packet| {
        let mut info = vec![0; 164];
        info[146..148].copy_from_slice(&1_u16.to_ne_bytes());
        info[150..152].copy_from_slice(&mask.to_ne_bytes());
        asks("conntrack", &info, packet)
    };
    assert_eq!([state(6, &packet), state(8, &packet), state(0x80, &packet)], [Holds::No, Holds::Yes, Holds::No]);
    assert_eq!(state(0x80, &Packet { ct_status: Some(DNAT), ..packet }), Holds::Yes);
    assert_eq!(state(0x80, &Packet { ct_status: None, ..packet }), Holds::Maybe);
    assert_eq!(asks("udp", &[], &packet), Holds::No);
    assert_eq!(asks("addrtype", &[0; 8], &packet), Holds::Maybe);
}

#[test]
fn several_ports_of_iptables_are_read() {
    let multiport = |to_port, inverted| {
        let mut info = vec![1, 3];
        let ports = [22, 10_001, 10_005];
        (0..15).for_each(|n: usize| info.extend(ports.get(n).copied().unwrap_or(0_u16).to_ne_bytes()));
        info.extend((0..15).map(|n| u8::from(n == 1)));
        info.push(inverted);
        asks("multiport", &info, &Packet { to_port, ..Packet::to(number::IPV6, 0) })
    };
    assert_eq!(
        [multiport(Some(22), 0), multiport(Some(10_003), 0), multiport(Some(23), 0)],
        [Holds::Yes, Holds::Yes, Holds::No]
    );
    assert_eq!([multiport(Some(22), 1), multiport(None, 0)], [Holds::No, Holds::Maybe]);
}

/// Chains that lead to one another are followed as far as the kernel does, and no further.
#[test]
fn chains_in_a_circle_end() {
    let jump = expression("immediate", |w| {
        w.u32(1, 0);
        w.nest(2, |w| {
            w.nest(2, |w| {
                w.bytes(1, &(-3_i32).to_be_bytes());
                w.text(2, "a");
            });
        });
    });
    let rule = |handle| Rule { handle, expressions: vec![jump.clone()] };
    let mut table = Table::default();
    table.chains.insert("a".to_owned(), Chain { base: None, rules: (0..50).map(rule).collect() });
    let packet = Packet::to(number::IPV4, 21);
    let outcome = Judge::new(&table, &packet, |_, _| ()).base("a", true);
    assert!(!outcome.is_certain_drop() && !outcome.is_certain_accept());
}

proptest! {
    #[test]
    fn any_rule_can_be_read(
        rules in prop::collection::vec(prop::collection::vec((0..NAMES.len(), any::<Vec<u8>>()), 0..6), 0..6),
        drops: bool,
    ) {
        let expression = |(name, data): (usize, Vec<u8>)| {
            // Half of them as attributes that are at least well-formed.
            let whole = extension("", "conntrack", &data).data;
            Expression { name: NAMES[name].to_owned(), data: if data.len() % 2 == 0 { data } else { whole } }
        };
        let rule = |expressions: Vec<(usize, Vec<u8>)>| Rule {
            handle: 1,
            expressions: expressions.into_iter().map(expression).collect(),
        };
        let mut table = Table::default();
        table.chains.insert("a".to_owned(), Chain { base: None, rules: rules.into_iter().map(rule).collect() });
        let packet = Packet::to(number::IPV4, 21);
        let outcome = Judge::new(&table, &packet, |_, _| ()).base("a", drops);
        prop_assert!(outcome.accepted || outcome.dropped);
    }
}
