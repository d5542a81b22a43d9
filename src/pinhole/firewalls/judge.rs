//! What rules do with a packet of which not all is known: so is what becomes of it.

use super::packet::{Holds, NEW, Packet};
use super::xtables;
use crate::net::netlink::{Expression, Rule, Table, Verdict, number};

/// How deep chains lead to one another in the kernel.
const DEPTH: u32 = 16;
/// Rules that are looked at for one packet: enough for any firewall that a person wrote.
const MOST_RULES: u32 = 20_000;

/// What may become of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// A rule may accept it, or another program may take it.
    pub(super) accepted: bool,
    /// A rule may drop it.
    pub(super) dropped: bool,
    /// It may be that no rule decides.
    through: bool,
}

impl Outcome {
    const ANY: Self = Self { accepted: true, dropped: true, through: true };

    /// Whatever else is true of it, it is dropped.
    pub(super) const fn is_certain_drop(self) -> bool {
        self.dropped && !self.accepted
    }

    /// Whatever else is true of it, it is accepted.
    pub(super) const fn is_certain_accept(self) -> bool {
        self.accepted && !self.dropped
    }
}

/// Holds the rules of a table against a packet.
pub(super) struct Judge<'r, F> {
    table: &'r Table,
    packet: &'r Packet,
    left: u32,
    /// Is told of each rule that may hold, and its chain.
    met: F,
}

impl<'r, F: FnMut(&'r str, &'r Rule)> Judge<'r, F> {
    pub(super) const fn new(table: &'r Table, packet: &'r Packet, met: F) -> Self {
        Self { table, packet, left: MOST_RULES, met }
    }

    /// What becomes of the packet in a chain that sees packets.
    pub(super) fn base(&mut self, chain: &'r str, policy_drops: bool) -> Outcome {
        let outcome = self.chain(chain, DEPTH);
        if !outcome.through {
            return outcome;
        }
        Outcome {
            accepted: outcome.accepted || !policy_drops,
            dropped: outcome.dropped || policy_drops,
            through: false,
        }
    }

    fn chain(&mut self, name: &str, depth: u32) -> Outcome {
        let Some((name, chain)) = self.table.chains.get_key_value(name).filter(|_| depth > 0) else {
            return Outcome::ANY;
        };
        let mut outcome = Outcome::default();
        for rule in &chain.rules {
            let Some(left) = self.left.checked_sub(1) else { return Outcome::ANY };
            self.left = left;
            let (holds, verdict) = rule_of(self.table, self.packet, &rule.expressions);
            if holds == Holds::No {
                continue;
            }
            (self.met)(name, rule);
            let does = match verdict {
                Verdict::Continue => continue,
                Verdict::Accept => Outcome { accepted: true, ..Outcome::default() },
                Verdict::Drop => Outcome { dropped: true, ..Outcome::default() },
                Verdict::Taken => Outcome { accepted: true, dropped: true, through: false },
                Verdict::Return => Outcome { through: true, ..Outcome::default() },
                Verdict::Jump(ref chain) | Verdict::Goto(ref chain) => self.chain(chain, depth - 1),
            };
            outcome.accepted |= does.accepted;
            outcome.dropped |= does.dropped;
            let comes_back = does.through && matches!(verdict, Verdict::Jump(_));
            outcome.through |= does.through && !comes_back;
            if holds == Holds::Yes && !comes_back {
                return outcome;
            }
        }
        outcome.through = true;
        outcome
    }
}

/// What a register holds.
#[derive(Clone, Debug)]
enum Value {
    Unknown,
    Bytes(Vec<u8>),
    /// Any interface but the loopback one.
    NotLoopback,
}

/// Whether all that a rule asks holds, and what it does then.
fn rule_of(table: &Table, packet: &Packet, expressions: &[Expression]) -> (Holds, Verdict) {
    let mut registers: [Value; 32] = std::array::from_fn(|_| Value::Unknown);
    let mut holds = Holds::Yes;
    for expression in expressions {
        let step = step(table, packet, expression, &mut registers);
        match step {
            Step::Asks(asked) => holds = holds.and(asked),
            Step::Does(Verdict::Continue) => {}
            Step::Does(verdict) => return (holds, verdict),
        }
        if holds == Holds::No {
            break;
        }
    }
    (holds, Verdict::Continue)
}

enum Step {
    Asks(Holds),
    Does(Verdict),
}

fn step(table: &Table, packet: &Packet, e: &Expression, registers: &mut [Value; 32]) -> Step {
    const NOTHING: Step = Step::Asks(Holds::Yes);
    match e.name.as_str() {
        "counter" | "log" | "notrack" | "dup" | "last" => NOTHING,
        // A counter, or a helper.
        "objref" if matches!(e.number(&[1]), Some(1 | 3)) => NOTHING,
        "meta" | "ct" | "payload" => {
            let value = match e.name.as_str() {
                "meta" => meta(packet, e),
                "ct" => ct(packet, e),
                _ => payload(packet, e),
            };
            // Where it sets something there is no register to load.
            put(registers, e.number(&[1]), value);
            NOTHING
        }
        "cmp" => Step::Asks(compare(e, get(registers, e.number(&[1])))),
        "range" => Step::Asks(range(e, get(registers, e.number(&[1])))),
        "bitwise" => {
            let value = bitwise(e, get(registers, e.number(&[1])));
            put(registers, e.number(&[2]), value);
            NOTHING
        }
        "byteorder" => {
            let value = match get(registers, e.number(&[1])) {
                Value::Bytes(bytes) if e.number(&[5]) == u32::try_from(bytes.len()).ok() => {
                    Value::Bytes(bytes.iter().rev().copied().collect())
                }
                Value::Unknown | Value::Bytes(_) | Value::NotLoopback => Value::Unknown,
            };
            put(registers, e.number(&[2]), value);
            NOTHING
        }
        "lookup" => look_up(table, e, registers),
        "immediate" => match e.find(&[2, 2]).map(Verdict::read) {
            Some(Some(verdict)) => Step::Does(verdict),
            Some(None) => Step::Does(Verdict::Taken),
            None => {
                put(registers, e.number(&[1]), Value::Unknown);
                NOTHING
            }
        },
        "reject" => Step::Does(Verdict::Drop),
        "queue" | "synproxy" | "fwd" => Step::Does(Verdict::Taken),
        "match" => Step::Asks(xtables::matches(e, packet)),
        "target" => xtables::target(e).map_or(NOTHING, Step::Does),
        _ => {
            registers.fill(Value::Unknown);
            Step::Asks(Holds::Maybe)
        }
    }
}

/// Registers of sixteen bytes and of four bytes are the same memory.
fn place(register: Option<u32>) -> Option<usize> {
    match register? {
        wide @ 1..=4 => usize::try_from((wide - 1) * 4).ok(),
        narrow @ 8..=23 => usize::try_from(narrow - 8).ok(),
        _ => None,
    }
}

fn get(registers: &[Value; 32], register: Option<u32>) -> &Value {
    place(register).and_then(|place| registers.get(place)).unwrap_or(&Value::Unknown)
}

fn put(registers: &mut [Value; 32], register: Option<u32>, value: Value) {
    if let Some(held) = place(register).and_then(|place| registers.get_mut(place)) {
        *held = value;
    }
}

fn known<const N: usize>(value: Option<[u8; N]>) -> Value {
    value.map_or(Value::Unknown, |bytes| Value::Bytes(bytes.to_vec()))
}

const TCP: u8 = 6;

fn meta(packet: &Packet, e: &Expression) -> Value {
    const ETHERTYPES: [[u8; 2]; 2] = [[0x08, 0x00], [0x86, 0xdd]];
    match e.number(&[2]) {
        Some(1) => known(Some(ETHERTYPES[usize::from(packet.family == number::IPV6)])),
        Some(3) => known(packet.mark.map(u32::to_ne_bytes)),
        Some(4..=7) => Value::NotLoopback,
        Some(15) => known(Some([packet.family])),
        Some(16) => known(Some([TCP])),
        Some(19) => known(Some([0])),
        _ => Value::Unknown,
    }
}

fn ct(packet: &Packet, e: &Expression) -> Value {
    match e.number(&[2]) {
        Some(0) => known(Some(packet.ct_state.to_ne_bytes())),
        Some(2) => known(packet.ct_status.map(u32::to_ne_bytes)),
        Some(3) => known(packet.ct_mark.map(u32::to_ne_bytes)),
        _ => Value::Unknown,
    }
}

fn payload(packet: &Packet, e: &Expression) -> Value {
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    const SYN: u8 = 2;
    let place = (e.number(&[2]), e.number(&[3]), e.number(&[4]));
    let protocol_at = if packet.family == number::IPV6 { 6 } else { 9 };
    match place {
        (Some(TRANSPORT), Some(0), Some(2)) => known(packet.from_port.map(u16::to_be_bytes)),
        (Some(TRANSPORT), Some(2), Some(2)) => known(packet.to_port.map(u16::to_be_bytes)),
        (Some(TRANSPORT), Some(13), Some(1)) if packet.ct_state == NEW => known(Some([SYN])),
        (Some(NETWORK), Some(at), Some(1)) if at == protocol_at => known(Some([TCP])),
        _ => Value::Unknown,
    }
}

fn compare(e: &Expression, value: &Value) -> Holds {
    let Some(wanted) = e.find(&[3, 1]) else { return Holds::Maybe };
    let operator = e.number(&[2]);
    match (value, operator) {
        (Value::Unknown, _) => Holds::Maybe,
        (Value::NotLoopback, _) => {
            // The name, or the number, which is always the same.
            let is_loopback = wanted.starts_with(b"lo\0") || wanted == 1_u32.to_ne_bytes();
            match operator {
                Some(0) if is_loopback => Holds::No,
                Some(1) if is_loopback => Holds::Yes,
                _ => Holds::Maybe,
            }
        }
        (Value::Bytes(bytes), operator) => {
            let Some(bytes) = bytes.get(..wanted.len()) else { return Holds::Maybe };
            match operator {
                Some(0) => Holds::when(bytes == wanted),
                Some(1) => Holds::when(bytes != wanted),
                Some(2) => Holds::when(bytes < wanted),
                Some(3) => Holds::when(bytes <= wanted),
                Some(4) => Holds::when(bytes > wanted),
                Some(5) => Holds::when(bytes >= wanted),
                _ => Holds::Maybe,
            }
        }
    }
}

fn range(e: &Expression, value: &Value) -> Holds {
    let (Value::Bytes(bytes), Some(first), Some(last)) = (value, e.find(&[3, 1]), e.find(&[4, 1])) else {
        return Holds::Maybe;
    };
    let holds = Holds::when(first <= bytes.as_slice() && bytes.as_slice() <= last);
    if e.number(&[2]) == Some(1) { holds.not() } else { holds }
}

fn bitwise(e: &Expression, value: &Value) -> Value {
    let (Value::Bytes(bytes), Some(mask), Some(flip)) = (value, e.find(&[4, 1]), e.find(&[5, 1])) else {
        return Value::Unknown;
    };
    if mask.len() != bytes.len() || flip.len() != bytes.len() {
        return Value::Unknown;
    }
    Value::Bytes(bytes.iter().zip(mask).zip(flip).map(|((byte, mask), flip)| byte & mask ^ flip).collect())
}

/// A set, or a map to verdicts.
fn look_up(table: &Table, e: &Expression, registers: &mut [Value; 32]) -> Step {
    const VERDICT: u32 = 0;
    let is_inverted = e.number(&[5]).is_some_and(|flags| flags & 1 != 0);
    let leads = e.number(&[3]);
    let elements = e.text(&[1]).and_then(|set| table.sets.get(&set));
    let found = match (elements, get(registers, e.number(&[2]))) {
        (Some(elements), Value::Bytes(bytes)) if elements.0.iter().all(|(first, ..)| first.len() == bytes.len()) => {
            Some(elements.0.iter().find(|(first, last, _)| first <= bytes && bytes <= last))
        }
        _ => None,
    };
    match (leads, found) {
        (None, Some(found)) => Step::Asks(Holds::when(found.is_some() != is_inverted)),
        (Some(VERDICT), Some(Some((.., Some(verdict))))) => Step::Does(verdict.clone()),
        (Some(VERDICT), Some(None)) => Step::Asks(Holds::No),
        (Some(VERDICT), _) => Step::Does(Verdict::Taken),
        (None, None) => Step::Asks(Holds::Maybe),
        (Some(into), found) => {
            put(registers, Some(into), Value::Unknown);
            Step::Asks(match found {
                Some(Some(_)) => Holds::Yes,
                Some(None) => Holds::No,
                None => Holds::Maybe,
            })
        }
    }
}
