//! What a decision costs at any number of rules, and what it costs to load them: `cargo bench --bench policy`.
//!
//! It asks a thousand different clients and servers in turn, so that it is not always the same part of the tables.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot go on ends")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use divan::Bencher;
use divan::counter::ItemsCount;
use ftpgate::addr::{ClientAddr, ServerAddr};
use ftpgate::policy::{Asker, Decision, Policy};
use ftpgate::rules;
use jiff::Timestamp;

const SIZES: [u32; 3] = [10, 1_000, 100_000];
const ASKED: u32 = 1_000;

fn main() {
    divan::main();
}

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0A00_0000 + number).into()
}

fn v6(number: u32) -> IpAddr {
    Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number) << 64).into()
}

/// A file of one listener and these rules, each without its name.
fn text(rules: impl Iterator<Item = String>) -> String {
    let mut text =
        "version: 1\nlisteners:\n  - {name: public, bind: \"0.0.0.0:21\", server: \"10.0.2.2:21\"}\nrules:\n"
            .to_owned();
    for (place, rule) in rules.enumerate() {
        let _ = writeln!(text, "  - name: r{place}\n    action: allow\n    inbound: 10001\n{rule}");
    }
    text
}

fn policy(count: u32, rule: impl Fn(u32) -> String) -> Policy {
    rules::parse(&text((0..count).map(rule)), "bench").unwrap()
}

/// One rule for each client.
fn partners(count: u32, client: fn(u32) -> IpAddr) -> Policy {
    policy(count, |n| format!("    from: \"{}\"\n    to: \"10.0.2.2:21\"", client(n)))
}

fn server() -> IpAddr {
    Ipv4Addr::new(10, 0, 2, 2).into()
}

fn ask(bencher: Bencher<'_, '_>, policy: &Policy, who: impl Fn(u32) -> (IpAddr, IpAddr)) {
    let at = Timestamp::UNIX_EPOCH;
    let askers: Vec<Asker<'_>> = (0..ASKED)
        .map(|n| {
            let (client, server) = who(n);
            let (client, server) = (SocketAddr::new(client, 50_000), SocketAddr::new(server, 21));
            Asker {
                listener: "public",
                is_explicit: false,
                client: ClientAddr::new(client),
                server: ServerAddr::new(server),
                at,
            }
        })
        .collect();
    let mut next = askers.iter().cycle();
    bencher.bench_local(|| policy.decide(black_box(next.next().unwrap())));
}

/// Some number below `count`, far from the one before.
const fn spread(n: u32, count: u32) -> u32 {
    n.wrapping_mul(2_654_435_761) % count
}

#[divan::bench(args = SIZES)]
fn match_early(bencher: Bencher<'_, '_>, count: u32) {
    ask(bencher, &partners(count, v4), |n| (v4(n % 5), server()));
}

#[divan::bench(args = SIZES)]
fn match_late(bencher: Bencher<'_, '_>, count: u32) {
    ask(bencher, &partners(count, v4), |n| (v4(count - 1 - n % 5), server()));
}

#[divan::bench(args = SIZES)]
fn match_anywhere(bencher: Bencher<'_, '_>, count: u32) {
    ask(bencher, &partners(count, v4), |n| (v4(spread(n, count)), server()));
}

#[divan::bench(args = SIZES)]
fn match_anywhere_v6(bencher: Bencher<'_, '_>, count: u32) {
    ask(bencher, &partners(count, v6), |n| (v6(spread(n, count)), server()));
}

#[divan::bench(args = SIZES)]
fn match_none(bencher: Bencher<'_, '_>, count: u32) {
    ask(bencher, &partners(count, v4), |n| (v4(count + n), server()));
}

/// Every client lies in a network of each length from 8 on, and so does every server; only the last rule is for both.
#[divan::bench(args = SIZES)]
fn nested_networks(bencher: Bencher<'_, '_>, count: u32) {
    let net = |ip: u32, length: u32| format!("{}/{length}", Ipv4Addr::from_bits(ip & (u32::MAX << (32 - length))));
    let policy = policy(count, |n| {
        let (length, ip) = (8 + n % 25, 0x0A00_0000 + n / 25 * 8);
        match n + 1 {
            last if last == count => "    from: any\n    to: any".to_owned(),
            odd if odd % 2 == 1 => format!("    from: \"{}\"\n    to: \"192.0.2.0/24\"", net(ip, length)),
            _ => format!("    from: \"192.0.2.0/24\"\n    to: \"{}\"", net(ip, length)),
        }
    });
    ask(bencher, &policy, |n| (v4(spread(n, count / 25 + 1) * 8), v4(spread(n, count / 25 + 1) * 8)));
}

/// All rules are for the same addresses, and each for another user: until one is named, and when it is.
#[divan::bench(args = SIZES)]
fn many_users(bencher: Bencher<'_, '_>, count: u32) {
    let policy = policy(count, |n| format!("    from: any\n    to: any\n    users: user{n}"));
    ask(bencher, &policy, |n| (v4(n), server()));
}

#[divan::bench(args = SIZES)]
fn choose_user(bencher: Bencher<'_, '_>, count: u32) {
    let policy = policy(count, |n| format!("    from: any\n    to: any\n    users: user{n}"));
    let (client, server) = (SocketAddr::new(v4(1), 50_000), SocketAddr::new(server(), 21));
    let (client, server) = (ClientAddr::new(client), ServerAddr::new(server));
    let asker = Asker { listener: "public", is_explicit: false, client, server, at: Timestamp::UNIX_EPOCH };
    let Decision::AtLogin(candidates) = policy.decide(&asker) else { unreachable!("every rule has users") };
    let names: Vec<String> = (0..ASKED).map(|n| format!("user{}", spread(n, count))).collect();
    let mut next = names.iter().cycle();
    bencher.bench_local(|| candidates.choose(black_box(next.next().unwrap().as_bytes())));
}

#[divan::bench(args = SIZES)]
fn with_hours(bencher: Bencher<'_, '_>, count: u32) {
    let policy = policy(count, |n| {
        format!("    from: \"{}\"\n    to: any\n    hours: \"daily {:02}:00-18:00 Europe/Berlin\"", v4(n), n % 24)
    });
    ask(bencher, &policy, |n| (v4(spread(n, count)), server()));
}

#[divan::bench(args = SIZES)]
fn may_admit(bencher: Bencher<'_, '_>, count: u32) {
    let policy = partners(count, v4);
    let mut clients = (0..ASKED).map(|n| ClientAddr::new(SocketAddr::new(v4(spread(n, count)), 1))).cycle();
    bencher.bench_local(|| policy.may_admit("public", clients.next().unwrap(), Timestamp::UNIX_EPOCH));
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn load(bencher: Bencher<'_, '_>, count: u32) {
    let text = text((0..count).map(|n| format!("    from: \"{}\"\n    to: \"10.0.2.2:21\"", v4(n))));
    bencher.counter(ItemsCount::new(count)).bench_local(|| rules::parse(black_box(&text), "bench").unwrap());
}
