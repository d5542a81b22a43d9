//! A conversation written down in the form of tests/transcripts, so that it can become a file there.

use ftpgate::addr::Side;
use ftpgate::ftp::line::LineFault;
use ftpgate::policy::{AtSessionEnd, Decision, Rule, ServerMode};
use ftpgate::session::{Action, HowEnded, Input, Refusal};

use crate::cast::Cast;
use crate::show;

#[derive(Debug, Default)]
pub(crate) struct Script {
    text: String,
    now: u64,
}

impl Script {
    pub(crate) fn new(seed: u64, cast: &Cast) -> Self {
        let ends = cast.ends;
        let text = format!(
            "# seed {seed}: {:?} {:?}\nungreeted\nslow\nends client={} front={} back={} server={} announced={}\nrule {}\n",
            cast.manner,
            cast.combination,
            ends.client,
            ends.front,
            ends.back,
            ends.server,
            cast.announced,
            rule(&cast.rule)
        );
        Self { text, now: 0 }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub(crate) fn time(&mut self, now: u64) {
        let passed = now - self.now;
        self.now = now;
        self.line(&format!("after {passed}s"));
    }

    pub(crate) fn input(&mut self, _now: u64, input: &Input) {
        let line = match input {
            Input::ClientLine(line) => {
                let interrupt = if line.interrupt { "\\xff\\xf4\\xff\\xf2" } else { "" };
                format!("client: {interrupt}{}", escape(&line.bytes))
            }
            Input::ServerLine(line) => format!("server: {}", escape(&line.bytes)),
            Input::BadLine(side, fault) => format!("{side}: {}", bad(*fault)),
            Input::PinholeOpened { id, client_port, server_port, .. } => {
                let port =
                    |name: &str, port: &Option<u16>| port.map(|port| format!(" {name} {port}")).unwrap_or_default();
                format!("opened {}{}{}", id.0, port("client", client_port), port("server", server_port))
            }
            Input::PinholeFailed { id, refusal: Refusal::ServerPortClosed(_) } => format!("unreached {}", id.0),
            Input::PinholeFailed { id, .. } => format!("full {}", id.0),
            Input::Stranger(id, stranger) => format!("stranger {} {} {}", id.0, stranger.port, stranger.from),
            Input::DataStarted(id) => format!("started {}", id.0),
            Input::DataEnded(id, end) => format!("ended {} {} {}/{}", id.0, how(end.how), end.to_server, end.to_client),
            Input::DataDelivered(id) => format!("delivered {}", id.0),
            Input::PeerClosed(side) => format!("closed {side}"),
            Input::PeerLost(side) => format!("lost {side}"),
            Input::Decided(Decision::Deny(_)) => "denied".to_owned(),
            Input::Decided(Decision::Allow(allowed)) => format!("reloaded {}", rule(allowed)),
            // Nobody here asks for users.
            Input::Decided(Decision::AtLogin(_)) => return,
            Input::Limited(limit) => format!("limited {}", limit.name()),
            Input::Drain => "drain".to_owned(),
            Input::Stop => "stop".to_owned(),
            // Told by `after`.
            Input::Timeout => return,
        };
        self.line(&line);
    }

    pub(crate) fn action(&mut self, action: &Action) {
        if let Some(line) = show::action(action) {
            self.line(&format!("  -> {line}"));
        }
    }
}

fn rule(rule: &Rule) -> String {
    let mut words = Vec::new();
    words.push(match &rule.inbound {
        Some(inbound) => format!("inbound={} server_ports={}", inbound.gate_ports, inbound.server_ports),
        None => "inbound=no".to_owned(),
    });
    words.push(match &rule.outbound {
        Some(outbound) => {
            format!("outbound={}", outbound.gate_ports.as_ref().expect("the cast has ports for servers in every mode"))
        }
        None => "outbound=no".to_owned(),
    });
    if let Some(port) = rule.outbound.as_ref().and_then(|outbound| outbound.source_port) {
        words.push(format!("source_port={port}"));
    }
    match rule.server_mode {
        ServerMode::Same => {}
        ServerMode::Passive => words.push("server_mode=passive".to_owned()),
        ServerMode::Active => words.push("server_mode=active".to_owned()),
    }
    if rule.at_session_end == AtSessionEnd::Finish {
        words.push("at_session_end=finish".to_owned());
    }
    words.push(format!("pinhole_timeout={}", rule.pinhole_timeout.as_secs()));
    words.join(" ")
}

const fn bad(fault: LineFault) -> &'static str {
    match fault {
        LineFault::TooLong | LineFault::Endless => "\\z",
        LineFault::Nul => "RETR a\\0b",
        LineFault::ProxyHeader => "PROXY TCP4",
        LineFault::Tls => "\\x16\\x03\\x01",
        LineFault::BareCr => "RETR a\\rPORT 1,2,3,4,5,6",
    }
}

const fn how(how: HowEnded) -> &'static str {
    match how {
        HowEnded::Complete => "complete",
        HowEnded::CutBy(Side::Client) => "cut-by-client",
        HowEnded::CutBy(Side::Server) => "cut-by-server",
        HowEnded::NotReached { side: Side::Client, .. } => "client-not-reached",
        HowEnded::NotReached { side: Side::Server, .. } => "server-not-reached",
        HowEnded::Limited(limit) => limit.name(),
        HowEnded::Aborted => "aborted",
    }
}

fn escape(line: &[u8]) -> String {
    line.iter()
        .map(|byte| match byte {
            b' '..=b'~' if *byte != b'\\' => char::from(*byte).to_string(),
            b'\\' => "\\\\".to_owned(),
            other => format!("\\x{other:02x}"),
        })
        .collect()
}
