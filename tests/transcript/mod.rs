//! Plays one transcript against a session.

mod show;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ftpgate::addr::{BackAddr, ClientAddr, Ends, FrontAddr, Network, PortRange, PortRanges, ServerAddr, Side};
use ftpgate::ftp::line::{LineFault, LineReader};
use ftpgate::policy::paths::{PathRule, Uses};
use ftpgate::policy::{
    Asker, AtSessionEnd, Candidates, CommandList, Commands, DataPeers, Decision, Denied, ForeignAddress,
    ForeignAddresses, GateLimits, Globs, Inbound, Limit, Networks, Outbound, Permission, Policy, Rule, RuleLimits,
    ServerMode, SessionLimits, TimeLimit, Timeouts,
};
use ftpgate::session::{
    Action, Called, Carrier, DataEnd, HowEnded, Input, Notations, PinholeId, Refusal, Session, Setting, Stranger,
    WhyRelay,
};

/// Plays a transcript; the error names the line and what was done instead.
pub(crate) fn play(text: &str) -> Result<(), String> {
    let mut player = Player::new(text)?;
    let mut lines = text.lines().enumerate().filter(|(_, line)| is_step(line)).peekable();
    while let Some((number, line)) = lines.next() {
        let mut expected = Vec::new();
        while let Some((_, action)) = lines.next_if(|(_, line)| line.trim_start().starts_with("->")) {
            expected.push(action.trim_start().trim_start_matches("->").trim().to_owned());
        }
        let done = player.step(line.trim()).map_err(|why| format!("line {}: {why}", number + 1))?;
        if done != expected {
            return Err(format!(
                "line {}: after `{}`\n  expected:\n    {}\n  done:\n    {}",
                number + 1,
                line.trim(),
                expected.join("\n    "),
                done.join("\n    ")
            ));
        }
    }
    Ok(())
}

fn is_step(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty()
        && !["#", "ends ", "rule ", "candidate ", "introduced ", "waited "].iter().any(|start| line.starts_with(start))
        && !["ungreeted", "slow"].contains(&line)
}

struct Player {
    session: Session,
    client: LineReader,
    server: LineReader,
    now: Instant,
    rule: Rule,
    /// The datapath has more for the client when it is asked, and says so later.
    slow: bool,
}

impl Player {
    fn new(text: &str) -> Result<Self, String> {
        let setting = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start)).unwrap_or_default();
        let now = Instant::now();
        let rule = rule(setting("rule "))?;
        let candidates = candidates(text)?;
        let (ends, announced) = ends(setting("ends "))?;
        let session = Session::new(
            Setting {
                ends,
                client_is_gate: setting("ends ").split_whitespace().any(|word| word == "local"),
                announced,
                rule: if candidates.is_some() { Candidates::nobody() } else { Arc::new(rule.clone()) },
                candidates,
                timeouts: Timeouts::default(),
                notations: Notations::default(),
                called: called(text)?,
                waited: Duration::from_secs(setting("waited ").parse().unwrap_or_default()),
            },
            now,
        );
        let (client, server) = (LineReader::commands(), LineReader::replies());
        let slow = text.lines().any(|line| line.trim() == "slow");
        let mut player = Self { session, client, server, now, rule, slow };
        if !text.lines().any(|line| line.trim() == "ungreeted") {
            player.step("server: 220 ready")?;
        }
        Ok(player)
    }

    fn step(&mut self, step: &str) -> Result<Vec<String>, String> {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        match word {
            "client:" => return self.bytes(Side::Client, rest),
            "server:" => return self.bytes(Side::Server, rest),
            "after" => {
                self.now += Duration::from_secs(rest.trim_end_matches('s').parse().map_err(|_| "bad seconds")?);
                if self.session.poll_timeout().is_none_or(|due| due > self.now) {
                    return Ok(Vec::new());
                }
                let done = self.give(Input::Timeout);
                // The driver would turn in a circle.
                let again = self.session.poll_timeout().is_some_and(|due| due <= self.now);
                return if again { Err(format!("it is due again at once, after {done:?}")) } else { Ok(done) };
            }
            _ => {}
        }
        let words: Vec<&str> = rest.split_whitespace().collect();
        let input = match (word, words.as_slice()) {
            ("opened", [id, "client", port]) => opened(pinhole(id)?, [port.parse().ok(), None]),
            ("opened", [id, "client", client, "server", server]) => {
                opened(pinhole(id)?, [client.parse().ok(), server.parse().ok()])
            }
            ("opened", [id]) => opened(pinhole(id)?, [None, None]),
            ("opened", [id, "server", port]) => opened(pinhole(id)?, [None, port.parse().ok()]),
            ("full", [id]) => {
                Input::PinholeFailed { id: pinhole(id)?, refusal: Refusal::RangeFull { has_data_peers: false } }
            }
            ("unreached", [id]) => {
                let refusal = Refusal::ServerPortClosed(std::io::ErrorKind::ConnectionRefused);
                Input::PinholeFailed { id: pinhole(id)?, refusal }
            }
            ("stranger", [id, port, from]) => {
                let from = from.parse().map_err(|_| "bad address")?;
                let port = port.parse().map_err(|_| "bad port")?;
                Input::Stranger(pinhole(id)?, Stranger { from, awaited: from.ip(), port, fault: None })
            }
            ("started", [id]) => Input::DataStarted(pinhole(id)?),
            ("delivered", [id]) => Input::DataDelivered(pinhole(id)?),
            ("ended", [id, how, bytes]) => Input::DataEnded(pinhole(id)?, data_end(how, bytes)?),
            ("closed", ["client"]) => Input::PeerClosed(Side::Client),
            ("closed", ["server"]) => Input::PeerClosed(Side::Server),
            ("lost", ["client"]) => Input::PeerLost(Side::Client),
            ("lost", ["server"]) => Input::PeerLost(Side::Server),
            ("denied", []) => Input::Decided(Decision::Deny(Denied::NoRule)),
            ("reloaded", ["candidates", settings @ ..]) => {
                let text = format!("candidate {}", settings.join(" "));
                Input::Decided(candidates(&text)?.map(Decision::AtLogin).ok_or("no candidates")?)
            }
            ("reloaded", settings) => {
                self.rule = rule(&settings.join(" "))?;
                Input::Decided(Decision::Allow(Arc::new(self.rule.clone())))
            }
            ("limited", ["sessions"]) => Input::Limited(Limit::Sessions),
            ("drain", []) => Input::Drain,
            ("stop", []) => Input::Stop,
            ("wants", [side]) => return Ok(vec![self.wants(side)]),
            _ => return Err(format!("`{step}` is no step")),
        };
        Ok(self.give(input))
    }

    fn wants(&self, side: &str) -> String {
        let side = if side == "client" { Side::Client } else { Side::Server };
        if self.session.wants(side) { "yes".to_owned() } else { "no".to_owned() }
    }

    /// Gives the bytes of one line, as they would come from the network, through the reader of that side.
    fn bytes(&mut self, side: Side, text: &str) -> Result<Vec<String>, String> {
        let mut bytes = unescape(text)?;
        bytes.extend(b"\r\n");
        if side == Side::Client {
            self.client.push(&bytes)
        } else {
            self.server.push(&bytes)
        }
        Ok(self.take_lines())
    }

    /// Gives the session the lines that were read, as long as it wants them, as the driver does.
    fn take_lines(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        loop {
            let (server, client) = (self.session.wants(Side::Server), self.session.wants(Side::Client));
            let line = match (server.then(|| self.server.next_line()).flatten(), client) {
                (Some(line), _) => (Side::Server, line),
                (None, true) => match self.client.next_line() {
                    Some(line) => (Side::Client, line),
                    None => return done,
                },
                (None, false) => return done,
            };
            done.extend(self.handle(input(line.0, line.1)));
        }
    }

    /// Something happened; what was held back by it may go on.
    fn give(&mut self, input: Input) -> Vec<String> {
        let mut done = self.handle(input);
        done.extend(self.take_lines());
        done
    }

    fn handle(&mut self, input: Input) -> Vec<String> {
        self.session.handle(self.now, input);
        let actions: Vec<Action> = std::iter::from_fn(|| self.session.poll_action()).collect();
        let mut done = Vec::new();
        for action in actions {
            if let Action::Deliver(id) = action
                && !self.slow
            {
                done.extend(self.handle(Input::DataDelivered(id)));
            } else {
                done.extend(show::action(&action));
            }
        }
        done
    }
}

fn input(side: Side, line: Result<ftpgate::ftp::line::Line, LineFault>) -> Input {
    match (side, line) {
        (Side::Client, Ok(line)) => Input::ClientLine(line),
        (Side::Server, Ok(line)) => Input::ServerLine(line),
        (side, Err(fault)) => Input::BadLine(side, fault),
    }
}

fn opened(id: PinholeId, [client_port, server_port]: [Option<u16>; 2]) -> Input {
    Input::PinholeOpened { id, client_port, server_port, carrier: Carrier::Relay(WhyRelay::Rule) }
}

fn pinhole(id: &str) -> Result<PinholeId, String> {
    id.parse().map(PinholeId).map_err(|_| format!("`{id}` is no pinhole"))
}

fn data_end(how: &str, bytes: &str) -> Result<DataEnd, String> {
    let how = match how {
        "complete" => HowEnded::Complete,
        "cut-by-client" => HowEnded::CutBy(Side::Client),
        "cut-by-server" => HowEnded::CutBy(Side::Server),
        "client-not-reached" => HowEnded::NotReached { side: Side::Client, error: std::io::ErrorKind::TimedOut },
        "server-not-reached" => HowEnded::NotReached { side: Side::Server, error: std::io::ErrorKind::TimedOut },
        "aborted" => HowEnded::Aborted,
        "transfer_size" => HowEnded::Limited(Limit::TransferSize),
        "stall_timeout" => HowEnded::Limited(Limit::StallTimeout),
        other => return Err(format!("`{other}` is no end")),
    };
    let (up, down) = bytes.split_once('/').ok_or("bytes are UP/DOWN")?;
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
    Ok(DataEnd { to_server: number(up)?, to_client: number(down)?, is_estimate: false, how })
}

/// `introduced USER anna at ftp.example.com`, or `introduced at ftp.example.com`.
fn called(text: &str) -> Result<Option<Called>, String> {
    let Some(setting) = text.lines().find_map(|line| line.trim().strip_prefix("introduced ")) else { return Ok(None) };
    let (login, called) = format!(" {setting}")
        .rsplit_once(" at ")
        .map(|(a, b)| (a.trim().to_owned(), b.to_owned()))
        .ok_or("introduced [LINE] at SERVER")?;
    let login = Some(login.into_bytes()).filter(|login| !login.is_empty());
    Ok(Some(Called { server: called.into_bytes(), login }))
}

fn ends(settings: &str) -> Result<(Ends, Option<std::net::IpAddr>), String> {
    let get = |key: &str, default: &str| {
        let found = settings.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or(default).to_owned()
    };
    let socket = |key, default| get(key, default).parse().map_err(|_| format!("bad {key}"));
    let ends = Ends {
        client: ClientAddr::new(socket("client", "198.51.100.7:50000")?),
        front: FrontAddr::new(socket("front", "203.0.113.5:21")?),
        back: BackAddr::new(socket("back", "10.0.2.1:40000")?),
        server: ServerAddr::new(socket("server", "10.0.2.2:21")?),
    };
    let announced = match get("announced", &ends.front.ip().to_string()).as_str() {
        "unknown" => None,
        known => Some(known.parse().map_err(|_| "bad announced")?),
    };
    Ok((ends, announced))
}

/// The rules that the user decides between: each `candidate` line is one, with `name=`, `users=` and `action=` besides what
/// a `rule` line has.
fn candidates(text: &str) -> Result<Option<Candidates>, String> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("candidate "));
    let rules: Vec<_> = lines.map(|settings| rule(settings).map(Arc::new)).collect::<Result<_, _>>()?;
    if rules.is_empty() {
        return Ok(None);
    }
    let (timeouts, limits) = (Timeouts::default(), GateLimits::default());
    let policy = Policy { listeners: Vec::new(), rules: rules.into(), timeouts, limits };
    let asker = Asker {
        listener: "public",
        is_explicit: false,
        client: ClientAddr::new(([198, 51, 100, 7], 50000).into()),
        server: ServerAddr::new(([10, 0, 2, 2], 21).into()),
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    match policy.decide(&asker) {
        Decision::AtLogin(candidates) => Ok(Some(candidates)),
        Decision::Allow(_) | Decision::Deny(_) => Err("no candidate has users".into()),
    }
}

/// `any,127.0.0.0/8`
fn from(text: &str) -> Result<Vec<Network>, String> {
    let one = |network: &str| match network {
        "any" => Ok(Network::Any),
        net => net.parse().map(Network::Net).map_err(|_| format!("`{net}` is no network")),
    };
    text.split(',').map(one).collect()
}

fn networks(text: &str) -> Result<Networks, String> {
    if text.is_empty() { Ok(Networks::default()) } else { from(text).map(Networks::new) }
}

/// `/in/**:upload+list;/out/**:download`
fn paths(text: &str) -> Result<Vec<PathRule>, String> {
    let one = |entry: &str| {
        let (path, uses) = entry.split_once(':').ok_or("a path is PATTERN:USES")?;
        let has = |word| uses.split('+').any(|written| written == word);
        let uses = Uses { download: has("download"), upload: has("upload"), delete: has("delete"), list: has("list") };
        let paths = Globs::for_paths(vec![path.to_owned()]).map_err(|error| error.to_string())?;
        Ok(PathRule { paths, uses })
    };
    text.split(';').filter(|entry| !entry.is_empty()).map(one).collect()
}

/// `login_timeout=60 idle_timeout=300 commands_per_second=2 failed_logins=3`
fn limits(get: &impl Fn(&str, &str) -> String) -> SessionLimits {
    let time = |key| get(key, "").parse().ok().map(Duration::from_secs);
    SessionLimits {
        commands_per_second: get("commands_per_second", "").parse().ok(),
        failed_logins: get("failed_logins", "").parse().ok(),
        transfer_size: get("transfer_size", "").parse().ok(),
        // The default is asked for by its name: most conversations are not about it, and take their time.
        login_timeout: match get("login_timeout", "off").as_str() {
            "default" => None,
            seconds => Some(seconds.parse().map_or(TimeLimit::Off, |time| TimeLimit::After(Duration::from_secs(time)))),
        },
        idle_timeout: time("idle_timeout"),
        stall_timeout: time("stall_timeout"),
        ..SessionLimits::default()
    }
}

fn rule(settings: &str) -> Result<Rule, String> {
    let get = |key: &str, default: &str| {
        let found = settings.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or(default).to_owned()
    };
    let list = |text: &str| text.split(',').map(|name| name.replace('_', " ")).collect();
    let ranges = |text: &str| {
        let (first, last) = text.split_once('-').ok_or("a range is FIRST-LAST")?;
        let range = PortRange::new(first.parse().map_err(|_| "bad port")?, last.parse().map_err(|_| "bad port")?);
        Ok::<_, String>(PortRanges::new(range.into_iter().collect()).ok_or("bad range")?)
    };
    let (inbound, outbound) = (get("inbound", "10001-10005"), get("outbound", "40000-40099"));
    Ok(Rule {
        inbound: (inbound != "no")
            .then(|| {
                Ok::<_, String>(Inbound {
                    gate_ports: ranges(&inbound)?,
                    server_ports: ranges(&get("server_ports", "1024-65535"))?,
                })
            })
            .transpose()?,
        outbound: (outbound != "no")
            .then(|| {
                Ok::<_, String>(Outbound {
                    client_ports: ranges(&get("client_ports", "1024-65535"))?,
                    gate_ports: Some(ranges(&outbound)?),
                    source_port: get("source_port", "").parse().ok(),
                })
            })
            .transpose()?,
        server_mode: match get("server_mode", "same").as_str() {
            "passive" => ServerMode::Passive,
            "active" => ServerMode::Active,
            _ => ServerMode::Same,
        },
        pinhole_timeout: Duration::from_secs(get("pinhole_timeout", "30").parse().map_err(|_| "bad pinhole_timeout")?),
        at_session_end: if get("at_session_end", "abort") == "finish" {
            AtSessionEnd::Finish
        } else {
            AtSessionEnd::Abort
        },
        foreign_address: match get("foreign_address", "").as_str() {
            "refuse" => ForeignAddresses { client: ForeignAddress::Refuse, server: ForeignAddress::Refuse },
            "use_peer" => ForeignAddresses { client: ForeignAddress::UsePeer, server: ForeignAddress::UsePeer },
            _ => ForeignAddresses::default(),
        },
        data_peers: DataPeers {
            client: networks(&get("client_data_peers", ""))?,
            server: networks(&get("server_data_peers", ""))?,
        },
        users: Some(get("users", ""))
            .filter(|users| !users.is_empty())
            .map(|users| {
                Globs::for_names(users.split(',').map(str::to_owned).collect()).map_err(|error| error.to_string())
            })
            .transpose()?,
        from: from(&get("from", "any"))?,
        commands: Commands {
            list: match (get("deny", ""), get("allow", "")) {
                (deny, _) if !deny.is_empty() => CommandList::Without(list(&deny)),
                (_, allow) if !allow.is_empty() => CommandList::Only(list(&allow)),
                _ => CommandList::Any,
            },
            allow_unknown: get("allow_unknown", "")
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            read_only: get("read_only", "no") == "yes",
        },
        paths: paths(&get("paths", ""))?,
        limits: RuleLimits { session: limits(&get), ..RuleLimits::default() },
        ..Rule::new(
            get("name", "partners"),
            if get("action", "allow") == "deny" { Permission::Deny } else { Permission::Allow },
        )
    })
}

/// `\xNN`, `\r`, `\n`, `\0` and `\\` in a line stand for those bytes, `\z` for 5000 letters.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&kind, tail) = rest.split_first().ok_or("a lone backslash")?;
        rest = tail;
        match kind {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b'0' => bytes.push(0),
            b'z' => bytes.extend([b'z'; 5000]),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                let (digits, tail) = rest.split_at_checked(2).ok_or("\\x wants two digits")?;
                rest = tail;
                let digits = std::str::from_utf8(digits).map_err(|_| "bad \\x")?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| "bad \\x")?);
            }
            _ => return Err("an unknown escape".into()),
        }
    }
    Ok(bytes)
}
