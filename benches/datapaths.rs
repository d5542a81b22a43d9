//! How fast each datapath is, beside plain routing and the kernel's own FTP helper: `cargo bench --bench datapaths`.
//!
//! The ways take turns within each round, each in a lab of its own; what counts are the ratios. As root, like the tests.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::print_stdout, clippy::unwrap_used)]

#[path = "../tests/lab/mod.rs"]
mod lab;
#[path = "../tests/lab/talk.rs"]
mod talk;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::Family;
use lab::gate::Gate;
use lab::net::{Net, PATH};
use talk::Talk;

const ROUNDS: usize = 7;
const STREAM: usize = 2 << 30;
const BLOCK: usize = 1 << 20;
const ANSWERS: usize = 2000;

/// Between the client and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Routed,
    Helper,
    Kernel,
    Relay,
}

const WAYS: [Way; 4] = [Way::Routed, Way::Helper, Way::Kernel, Way::Relay];

const HELPER: &str = "table inet nat {
ct helper ftp { type \"ftp\" protocol tcp; }
chain first { type filter hook prerouting priority filter; tcp dport 21 ct helper set \"ftp\"; }
chain pre { type nat hook prerouting priority dstnat; ip daddr 10.1.0.1 tcp dport 21 dnat ip to 10.2.0.2; }
chain post { type nat hook postrouting priority srcnat; oifname \"wan\" masquerade; }
chain forward { type filter hook forward priority filter; policy drop; ct state established,related accept
 ip daddr 10.2.0.2 tcp dport 21 accept; }
}
";

const RULES: &str = "version: 1
listeners:
  - name: front
    bind: \"10.1.0.1:21\"
    server: \"10.2.0.2:21\"
rules:
  - name: bench
    from: any
    to: any
    action: allow
    inbound: \"10001-10020\"
    datapath: ";

/// A lab with a session in it.
struct Stage {
    net: Net,
    _gate: Option<Gate>,
    way: Way,
    client: Talk,
    server: Talk,
}

impl Stage {
    fn new(way: Way) -> Self {
        let net = Net::new().unwrap();
        let control = listen(&net, 21);
        let gate = match way {
            Way::Routed => None,
            Way::Helper => {
                let mut nft = Command::new("nft");
                nft.args(["-f", "-"]).env("PATH", PATH);
                net.gate.feed(nft, HELPER).unwrap();
                None
            }
            Way::Kernel | Way::Relay => {
                let datapath = if way == Way::Kernel { "kernel" } else { "relay" };
                Some(Gate::start_with(&net, &format!("{RULES}{datapath}\n"), 21).unwrap())
            }
        };
        let client = Talk::new(dial(&net, at(way, 21)));
        let server = Talk::new(control.accept().unwrap().0);
        let mut stage = Self { net, _gate: gate, way, client, server };
        stage.server.say("220 Ready");
        stage.client.expect("220 Ready");
        stage
    }

    /// EPSV; how long the answer was on its way, and where the client is to connect.
    fn passive(&mut self, port: u16) -> (Duration, SocketAddr) {
        self.client.say("EPSV");
        self.server.expect("EPSV");
        let begun = Instant::now();
        self.server.say(&format!("229 Here (|||{port}|)"));
        let told = self.client.line();
        let took = begun.elapsed();
        (took, at(self.way, told.split('|').nth(3).unwrap().parse().unwrap()))
    }

    /// Bytes per second of one download.
    fn download(&mut self) -> f64 {
        let data = listen(&self.net, 0);
        let (_, to) = self.passive(data.local_addr().unwrap().port());
        let mut ours = dial(&self.net, to);
        let mut theirs = data.accept().unwrap().0;
        let begun = Instant::now();
        let sender = std::thread::spawn(move || {
            let block = vec![7; BLOCK];
            (0..STREAM / BLOCK).for_each(|_| theirs.write_all(&block).unwrap());
        });
        let (mut block, mut got) = (vec![0; BLOCK], 0);
        loop {
            match ours.read(&mut block).unwrap() {
                0 => break,
                count => got += count,
            }
        }
        let took = begun.elapsed();
        sender.join().unwrap();
        assert_eq!(got, STREAM);
        STREAM as f64 / took.as_secs_f64()
    }

    /// The middle of how long an answer to EPSV takes, in microseconds.
    fn answer(&mut self) -> f64 {
        let mut all: Vec<f64> = (0..ANSWERS).map(|_| self.passive(50_000).0.as_secs_f64() * 1e6).collect();
        median(&mut all)
    }
}

/// Where the client finds the server.
fn at(way: Way, port: u16) -> SocketAddr {
    let ip = if way == Way::Routed { Net::server_address(Family::V4) } else { Net::gate_address(Family::V4) };
    SocketAddr::new(ip, port)
}

fn listen(net: &Net, port: u16) -> TcpListener {
    net.server.run(move || TcpListener::bind((Net::server_address(Family::V4), port))).unwrap()
}

fn dial(net: &Net, to: SocketAddr) -> TcpStream {
    net.client.run(move || TcpStream::connect(to)).unwrap()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // `cargo test --benches` only wants to know that this runs.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { return };
    let mut streams = WAYS.map(|_| Vec::new());
    let mut answers = WAYS.map(|_| Vec::new());
    for round in 0..rounds {
        for turn in 0..WAYS.len() {
            let which = (round + turn) % WAYS.len();
            streams[which].push(Stage::new(WAYS[which]).download());
            answers[which].push(Stage::new(WAYS[which]).answer());
        }
    }
    println!(
        "{:8} {:>12} {:>9} {:>9} {:>14} {:>12}",
        "", "one stream", "of helper", "spread", "229 under way", "more than"
    );
    println!("{:8} {:>12} {:>9} {:>9} {:>14} {:>12}", "", "GB/s", "", "", "us", "routed, us");
    let helper = median(&mut streams[1].clone());
    let routed = median(&mut answers[0].clone());
    for (which, way) in WAYS.into_iter().enumerate() {
        let stream = median(&mut streams[which]);
        let (least, most) = (streams[which][0], streams[which][rounds - 1]);
        let answer = median(&mut answers[which]);
        println!(
            "{:8} {:>12.2} {:>9.3} {:>8.0}% {:>14.1} {:>12.1}",
            format!("{way:?}").to_lowercase(),
            stream / 1e9,
            stream / helper,
            (most - least) / stream * 100.0,
            answer,
            answer - routed
        );
    }
}
