//! Rules files: what is valid, and what is said about those that are not.
//!
//! `tests/rules/invalid/*.yaml` each stand beside the `.err` that they must give. `UPDATE=1` writes those anew; read
//! them before they are committed, for they are what operators get to see.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use ftpgate::addr::{ClientAddr, Network, PortRange, PortRanges, Side};
use ftpgate::policy::{Advertise, Advertised, Datapath, Interception, Policy, ProxyVersion, Source, Stand};
use ftpgate::rules::{self, Mistakes};
use ftpgate::trial;
use jiff::Timestamp;
use proptest::prelude::*;

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files
}

fn parse(path: &Path) -> Result<Policy, Mistakes> {
    rules::parse_bytes(&fs::read(path).unwrap(), path.file_name().unwrap().to_str().unwrap())
}

/// Compares with a file beside the tests, or writes it where `UPDATE=1` says so.
fn compare(path: &Path, given: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(path, given).unwrap();
        return Ok(());
    }
    match fs::read_to_string(path) {
        Ok(expected) if expected == given => Ok(()),
        Ok(expected) => Err(format!("{}\n--- expected\n{expected}\n--- given\n{given}", path.display())),
        Err(error) => Err(format!("{}: {error}\n--- given\n{given}", path.display())),
    }
}

#[test]
fn invalid_files_say_what_is_wrong_and_what_to_write() {
    let files = files("tests/rules/invalid");
    assert!(files.len() >= 125, "only {} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let Err(mistakes) = parse(&file) else {
            wrong.push(format!("{} is valid", file.display()));
            continue;
        };
        for mistake in mistakes.list() {
            assert!(!mistake.message.is_empty() && !mistake.help.is_empty(), "{}: {mistake:?}", file.display());
        }
        wrong.extend(compare(&file.with_extension("err"), &format!("{mistakes}\n")).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_place_that_is_shown_is_the_place_in_the_json() {
    for file in files("tests/rules/invalid") {
        let mistakes = parse(&file).unwrap_err();
        let shown = mistakes.to_string();
        for mistake in mistakes.list() {
            let name = file.file_name().unwrap().to_str().unwrap();
            let place = format!("{name}:{}:{}\n", mistake.line, mistake.column);
            assert!(shown.contains(&place), "{place} is not in\n{shown}");
        }
    }
}

#[test]
fn valid_files_and_the_examples_are_valid() {
    for directory in ["tests/rules/valid", "rules"] {
        let files = files(directory);
        assert!(files.len() >= 5, "{directory}: only {} files", files.len());
        for file in files {
            if let Err(mistakes) = parse(&file) {
                panic!("{mistakes}");
            }
        }
    }
}

/// Each example is one to copy: its tests pass, and there is nothing in it to be warned of.
#[test]
fn the_examples_have_tests_and_cause_no_doubts() {
    let own = PortRanges::new(PortRange::new(32_768, 60_999).into_iter().collect());
    let files = files("rules");
    assert!(files.len() >= 11, "only {} examples", files.len());
    for path in files {
        let name = path.display();
        let file = rules::written_bytes(&fs::read(&path).unwrap(), "example").unwrap_or_else(|why| panic!("{why}"));
        assert!(!file.cases.is_empty(), "{name} has no tests");
        let failures = trial::failures(&file.policy, &file.cases, Timestamp::UNIX_EPOCH, Instant::now());
        assert_eq!(failures, [], "{name}");
        assert_eq!(file.policy.doubts(own.as_ref()), [], "{name}");
    }
}

/// The firewalls that are there to be copied open no ports that Linux gives to outgoing connections.
#[test]
fn the_firewalls_for_the_examples_have_no_ephemeral_ports() {
    let own = PortRange::new(32_768, 60_999).unwrap();
    let mut found = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nftables")).unwrap() {
        let path = entry.unwrap().path();
        for word in fs::read_to_string(&path).unwrap().split(|c: char| c.is_whitespace() || c == '=') {
            let ends = word.split_once('-').map(|(first, last)| (first.parse::<u16>(), last.parse::<u16>()));
            let Some((Ok(first), Ok(last))) = ends else { continue };
            assert!(last < own.first() || first > own.last(), "{word} in {}", path.display());
            found += 1;
        }
    }
    assert!(found >= 6, "only {found} ranges");
}

/// Each example in the README is one to copy, too: `check` finds nothing in it. What stands around a fragment is the least
/// that makes a file of it.
#[test]
fn the_examples_of_the_readme_are_valid_and_their_tests_pass() {
    const LISTENERS: &str =
        "version: 1\nlisteners:\n  - { name: public, bind: \"0.0.0.0:21\", server: \"10.0.2.2:21\" }\n";
    const RULES: &str = "rules:\n  - { name: partners, from: any, to: any, users: \"edi-*\", action: allow, \
                         inbound: \"10001-10005\", hours: \"Mon-Fri 08:00-18:00 Europe/Berlin\", \
                         commands: { allow: [STOR] } }\n";
    const LEFT_OUT: &str = "    # ...\n";
    const IN_ITS_PLACE: &str = "    from: any\n    to: any\n    action: allow\n    inbound: \"10001-10020\"\n";
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let examples: Vec<&str> = readme.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(examples.len() >= 3, "only {} examples", examples.len());
    for example in examples {
        let has = |key: &str| example.lines().any(|line| line.starts_with(key));
        let listeners = if has("version:") { "" } else { LISTENERS };
        let rules = if has("rules:") { "" } else { RULES };
        let text = format!("{listeners}{rules}{}", example.replace(LEFT_OUT, IN_ITS_PLACE));
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftpgate"));
        command.args(["check", "--deny-warnings", "--ephemeral-ports", "32768-60999", "-"]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let checked = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success() && said.is_empty(), "{said}\n{text}");
    }
}

#[test]
fn the_reference_means_what_its_comments_say() {
    let policy = parse(Path::new("rules/reference.yaml")).unwrap();
    let [public, lan, outward] = &policy.listeners[..] else { panic!("{:?}", policy.listeners) };
    let told = Advertised::Address("203.0.113.5".parse().unwrap());
    assert_eq!(public.advertise, [Advertise { from: vec![Network::Any], advertised: told }]);
    let brings = |ip: &str| public.proxies.contains(ip.parse().unwrap());
    assert!(brings("10.0.0.5") && brings("10.0.0.6") && !brings("10.0.0.7"));
    let checks = |ip: &str| public.is_checked_by(ClientAddr::new(SocketAddr::new(ip.parse().unwrap(), 40_000)));
    assert!(checks("10.0.0.9") && !checks("10.0.0.5"));
    assert!(matches!(public.stand, Stand::Reverse { server } if server.to_string() == "10.0.2.2:21"));
    assert_eq!(outward.stand, Stand::Explicit);
    assert_eq!(lan.stand, Stand::Transparent { interception: Interception::Tproxy, source: Source::Client });

    let names: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["partners", "mainframe", "everyone-else"]);
    let partners = &policy.rules[0];
    let outbound = partners.outbound.as_ref().unwrap();
    let has_data = |side, ip: &str| partners.data_peers.of(side).contains(ip.parse().unwrap());
    assert!(has_data(Side::Client, "198.51.100.130") && has_data(Side::Server, "10.0.2.20"));
    assert!(!has_data(Side::Server, "198.51.100.130") && !has_data(Side::Client, "10.0.2.20"));
    assert_eq!(partners.inbound.as_ref().unwrap().server_ports.to_string(), "30000-30999");
    assert_eq!(
        (outbound.gate_ports.as_ref().unwrap().to_string().as_str(), outbound.source_port),
        ("20000-20099", Some(20))
    );
    assert_eq!((partners.datapath, partners.pinhole_timeout.as_secs()), (Datapath::Auto, 60));
    let (gate, limits) = (policy.limits, &partners.limits);
    assert_eq!((gate.all.sessions.unwrap().get(), gate.client.sessions_per_minute.unwrap().get()), (5000, 60));
    assert_eq!((gate.failed_logins.unwrap().get(), gate.pause.as_secs()), (5, 300));
    assert_eq!(limits.session.transfer_size.unwrap().get(), 2 << 30);
    assert_eq!((limits.session.upload.unwrap().get(), limits.client.upload.unwrap().get()), (10 << 20, 5 << 20));
    assert_eq!(limits.session.idle_timeout.unwrap().as_secs(), 900);
    assert_eq!(policy.rules[1].limits, ftpgate::policy::RuleLimits::default());
    let mainframe = &policy.rules[1];
    assert_eq!(mainframe.inbound.as_ref().unwrap().gate_ports.to_string(), "10001-10005, 10010");
    assert!(mainframe.outbound.is_none());
    assert_eq!((partners.send_proxy, mainframe.send_proxy), (None, Some(ProxyVersion::V2)));
}

#[test]
fn the_schema_beside_the_examples_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/ftpgate.schema.json");
    compare(&path, &rules::json_schema()).unwrap();
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_no_mistake() {
    let text = fs::read_to_string("rules/minimal.yaml").unwrap();
    let dos = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(rules::parse(&dos, "dos"), rules::parse(&text, "unix"));
    let mistakes = rules::parse(&dos.replace("10001-10005", "5-4"), "dos").unwrap_err();
    let line = text.lines().position(|line| line.contains("10001-10005\"")).unwrap() + 1;
    assert_eq!((mistakes.list()[0].line, mistakes.list()[0].column), (line, 14));
}

#[test]
fn no_control_of_a_terminal_is_shown() {
    let text =
        fs::read_to_string("rules/minimal.yaml").unwrap().replace("everyone", "\u{9d}0;title\u{9c}\u{7f}\u{1b}[2J");
    let shown = rules::parse(&text, "file").unwrap_err().to_string();
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let text = "é".repeat(rules::MAX_BYTES);
    for mistakes in [rules::parse(&text, "large"), rules::parse_bytes(&text.as_bytes()[..=rules::MAX_BYTES], "cut")] {
        assert!(mistakes.unwrap_err().to_string().contains("larger than 64 MiB"));
    }
}

#[test]
fn a_large_file_full_of_mistakes_is_read_in_fair_time() {
    let keys: String = (0..20_000).map(|n| format!("k{n}: 1\n")).collect();
    let mistakes = rules::parse(&keys, "keys").unwrap_err();
    assert!(mistakes.to_string().ends_with("and perhaps more"));
    let listeners: String =
        (0..5_000).map(|n| format!("  - {{name: l{n}, bind: \"0.0.0.0:21\", server: \"10.0.2.2\"}}\n")).collect();
    let text = format!("version: 1\nlisteners:\n{listeners}rules: []\n");
    assert_eq!(rules::parse(&text, "listeners").unwrap_err().list().len(), 100);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}|[-\\[\\]{}:,&*!|>'\"%@` \n\t#a0?]{0,200}") {
        if let Err(mistakes) = rules::parse(&text, "text") {
            prop_assert!(!mistakes.list().is_empty());
            prop_assert!(!mistakes.to_string().is_empty());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(mistakes) = rules::parse_bytes(&bytes, "bytes") {
            prop_assert!(!mistakes.to_string().is_empty());
        }
    }

    #[test]
    fn no_change_to_a_valid_file_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, "[-\\[\\]{}:,&*!|>'\" \n\t#a0?/\u{e9}]{1,3}"), 1..5),
    ) {
        let mut text: Vec<char> = fs::read_to_string("rules/reference.yaml").unwrap().chars().collect();
        for (place, kind, with) in changes {
            if text.is_empty() {
                // Cut to one character, and that one taken out: there is no place left for another change.
                break;
            }
            let at = place.index(text.len());
            match kind {
                0 => drop(text.remove(at)),
                1 => text.truncate(at.max(1)),
                2 => drop(text.splice(at..=at, with.chars())),
                _ => drop(text.splice(at..at, with.chars())),
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(mistakes) = rules::parse(&text, "changed") {
            prop_assert!(!mistakes.list().is_empty());
            prop_assert!(!mistakes.to_string().is_empty());
        }
    }
}
