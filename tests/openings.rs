//! `ftpgate openings`: every form of what it prints, and that other programs take it.
//!
//! `tests/openings/NAME.yaml` stands beside `NAME.table`, `NAME.nftables` and so on, which must come of it; its first line
//! has the options. `UPDATE=1` writes them anew; read them before they are committed, for operators load them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const NAMES: [&str; 4] = ["bridge", "explicit", "reverse", "transparent"];
const FORMATS: [&str; 8] = ["table", "nftables", "iptables", "pf", "asa", "aws", "csv", "json"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn ftpgate(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ftpgate"));
    command.arg("openings").args(arguments).current_dir(root());
    fed(command, input)
}

/// Runs a program with this on its standard input.
fn fed(mut command: Command, input: &str) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A program that has seen enough may close it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What is printed for one of the files, with the options that it asks for.
fn printed(name: &str, more: &[&str]) -> String {
    let file = format!("tests/openings/{name}.yaml");
    let text = fs::read_to_string(root().join(&file)).unwrap();
    let options = text.lines().next().unwrap().trim_start_matches('#').split_whitespace();
    let arguments: Vec<&str> = [file.as_str()].into_iter().chain(options).chain(more.iter().copied()).collect();
    let output = ftpgate(&arguments, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

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
fn every_form_is_as_it_was_read() {
    let mut wrong = Vec::new();
    for name in NAMES {
        for format in FORMATS {
            let path = root().join(format!("tests/openings/{name}.{format}"));
            wrong.extend(compare(&path, &printed(name, &["--format", format])).err());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_file_has_its_forms() {
    let files = fs::read_dir(root().join("tests/openings")).unwrap().map(|entry| entry.unwrap().path());
    let names: BTreeSet<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, NAMES.map(str::to_owned).into());
}

/// A program in a network namespace of its own, as whoever may make one.
fn alone(words: &[&str]) -> Command {
    let can = |options: &&&str| {
        let tried = Command::new("unshare").args([**options, "nft", "list", "ruleset"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let options = ["-Urn", "-n"].iter().find(can).copied().expect("network namespaces and nft (tests/run)");
    let mut command = Command::new("unshare");
    command.arg(options).args(words);
    command
}

#[test]
fn nft_takes_it_once_every_address_is_known() {
    for name in NAMES {
        let rules = printed(name, &["--format", "nftables"]);
        let output = fed(alone(&["nft", "-c", "-f", "-"]), &rules);
        let said = String::from_utf8_lossy(&output.stderr);
        if name == "bridge" {
            // Who loads it before is told what is missing.
            assert!(!output.status.success() && said.contains("gate_server_side_ipv4"), "{said}");
            let filled = rules.replace("# define", "define");
            let filled = ["server_side_ipv6 = ADDRESS", "client_side_ipv6 = ADDRESS"]
                .iter()
                .fold(filled, |text, place| text.replace(place, &place.replace("ADDRESS", "2001:db8:2::1")));
            let filled = filled.replace("ADDRESS", "10.0.2.1");
            let output = fed(alone(&["nft", "-c", "-f", "-"]), &filled);
            assert!(output.status.success(), "{}\n{filled}", String::from_utf8_lossy(&output.stderr));
        } else {
            assert!(output.status.success(), "{said}\n{rules}");
        }
    }
}

/// Loaded twice, nothing of the first time is left beside the second.
#[test]
fn nft_may_load_it_again() {
    let rules = printed("reverse", &["--format", "nftables"]);
    let file = std::env::temp_dir().join(format!("ftpgate-openings-{}.nft", std::process::id()));
    fs::write(&file, rules).unwrap();
    let script = "nft -f \"$1\"; nft list ruleset; echo ====; nft -f \"$1\"; nft list ruleset";
    let output = fed(alone(&["sh", "-euc", script, "sh", file.to_str().unwrap()]), "");
    fs::remove_file(&file).unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (once, twice) = said.trim().split_once("====").unwrap();
    assert!(output.status.success() && once.contains("ip saddr"), "{said}");
    assert_eq!(once.trim(), twice.trim());
}

/// The programs that tests/lab/packages unpacked.
fn iptables(words: &[&str]) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let unpacked = root().join(target).join("lab/root/usr");
    let program = unpacked.join("sbin/xtables-nft-multi");
    assert!(program.exists(), "no iptables; run tests/lab/packages");
    let libraries = fs::read_dir(unpacked.join("lib")).unwrap().map(|entry| entry.unwrap().path());
    let libraries = libraries.filter(|path| path.join("xtables").exists()).collect::<Vec<_>>();
    let [libraries] = &libraries[..] else { panic!("one folder of libraries: {libraries:?}") };
    let words = [&[program.to_str().unwrap()], words].concat();
    let mut command = alone(&words);
    command.env("LD_LIBRARY_PATH", libraries).env("XTABLES_LIBDIR", libraries.join("xtables"));
    command
}

#[test]
fn iptables_takes_it_for_both_families() {
    for name in NAMES {
        let rules = printed(name, &["--format", "iptables"]);
        for restore in ["iptables-restore", "ip6tables-restore"] {
            let output = fed(iptables(&[restore, "--noflush", "--test"]), &rules);
            let said = String::from_utf8_lossy(&output.stderr);
            if name == "bridge" {
                assert!(!output.status.success() && said.contains("-side-ipv"), "{said}");
            } else {
                assert!(output.status.success(), "{said}\n{rules}");
            }
        }
    }
}

#[test]
fn aws_is_told_nothing_twice_and_nothing_it_does_not_take() {
    for name in NAMES {
        let aws: Value = serde_json::from_str(&printed(name, &["--format", "aws"])).unwrap();
        for way in ["ingress", "egress"] {
            let permissions = aws[way].as_array().unwrap();
            assert!(!permissions.is_empty(), "{name}: {way}");
            let mut said = BTreeSet::new();
            for permission in permissions {
                let (from, to) = (permission["FromPort"].as_u64().unwrap(), permission["ToPort"].as_u64().unwrap());
                assert!(0 < from && from <= to && to <= 65535);
                for (list, key) in [("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6")] {
                    for range in permission[list].as_array().into_iter().flatten() {
                        let net: ipnet::IpNet = range[key].as_str().unwrap().parse().unwrap();
                        assert_eq!(net, net.trunc());
                        assert_eq!(net.addr().is_ipv6(), key == "CidrIpv6");
                        let text = range["Description"].as_str().unwrap();
                        let taken = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
                        assert!(text.len() <= 255 && text.chars().all(taken), "{text}");
                        assert!(
                            said.insert((permission["IpProtocol"].to_string(), from, to, net)),
                            "{name}: {net} twice"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn json_and_csv_have_every_line() {
    for name in NAMES {
        let json: Value = serde_json::from_str(&printed(name, &["--format", "json"])).unwrap();
        let openings = json["openings"].as_array().unwrap();
        let numbers: Vec<u64> = openings.iter().map(|line| line["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        assert_eq!(printed(name, &["--format", "csv"]).lines().count(), openings.len() + 1);
        let of = |side: &str| {
            let json: Value = serde_json::from_str(&printed(name, &["--format", "json", "--side", side])).unwrap();
            let lines = json["openings"].as_array().unwrap().clone();
            assert!(!lines.is_empty() && lines.iter().all(|line| line["side"] == side));
            lines
        };
        assert_eq!([of("client"), of("server")].concat(), *openings);
    }
}

#[test]
fn rules_may_come_on_standard_input() {
    let text = fs::read_to_string(root().join("rules/minimal.yaml")).unwrap();
    let output = ftpgate(&["-"], &text);
    let file = ftpgate(&["rules/minimal.yaml"], "");
    assert!(output.status.success() && !output.stdout.is_empty());
    assert_eq!(output.stdout, file.stdout);
}

#[test]
fn what_is_wrong_is_said_with_help() {
    let wrong = ftpgate(&["-"], "version: 2\n");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(wrong.stdout.is_empty() && String::from_utf8_lossy(&wrong.stderr).contains("<stdin>:1"));
    let missing = ftpgate(&["no/such.yaml"], "");
    assert_eq!(missing.status.code(), Some(1));
    for (option, value) in
        [("--gate-client-side", "0.0.0.0"), ("--name-server", "dns"), ("--gate-server-side", "10.0.0.0/8")]
    {
        let wrong = ftpgate(&["rules/minimal.yaml", option, value], "");
        assert_eq!(wrong.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&wrong.stderr).contains("write an address of one machine"), "{option}");
    }
}

/// Forms that have no comments say on standard error what is not in them.
#[test]
fn what_a_form_cannot_say_is_said_beside_it() {
    let output = ftpgate(&["rules/outbound-proxy.yaml", "--format", "aws"], "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("note: name-servers-ipv4") && said.contains("has room for 60"), "{said}");
    assert!(!said.contains("gate-server-side"), "{said}");
}
