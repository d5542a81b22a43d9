//! Real clients that name a real server.

use std::process::Command;
use std::time::Duration;

use crate::lab::client::{Client, Visit};
use crate::lab::job::{Job, tail};
use crate::lab::net::Net;
use crate::lab::scratch::Scratch;
use crate::lab::server::{PASSWORD, Server, USER};
use crate::lab::{Family, Fault, Leg, Mode, goods};
use crate::stage::{RULES, Stage, listener};

/// A whole visit of a client that logs in as `USER@HOST`, direct first.
fn visit(client: Client, server: Server, mode: Mode, family: Family, host: &str) -> Result<(), Fault> {
    let at_host = format!("{USER}@{host}");
    for through in [false, true] {
        let stage = Stage::with(&listener("explicit: user-at-host", family), RULES);
        stage.names.set("ftp.example", &["10.2.0.2", "2001:db8:2::2"], 60);
        let direct = Net::new()?;
        let net = if through { &stage.net } else { &direct };
        let server = server.or_without_users().start(&net.server, family)?;
        let (address, user) =
            if through { (Net::gate_address(family), at_host.as_str()) } else { (Net::server_address(family), USER) };
        let folder = Scratch::new("client")?;
        goods::stock_client(folder.path())?;
        let log = folder.join("log");
        let visit = Visit { server: address, leg: Leg::new(mode, family), user, folder: folder.path() };
        let made = client
            .visit(&net.client, &visit)
            .and_then(|()| goods::inspect(&server.home(), folder.path(), &std::fs::read(&log)?, client.abilities()));
        if let Err(fault) = made {
            let (said, gate) = (tail(&log), stage.gate.tail());
            return Err(format!("through the gate: {through}: {fault}\n{said}\n--- gate\n{gate}").into());
        }
    }
    Ok(())
}

#[test]
fn curl_logs_in_at_a_host() {
    visit(Client::Curl, Server::Vsftpd, Mode::Passive, Family::V4, "ftp.example").unwrap();
}

#[test]
fn lftp_logs_in_at_a_host() {
    visit(Client::Lftp, Server::Proftpd, Mode::Active, Family::V4, "10.2.0.2").unwrap();
}

#[test]
fn tnftp_logs_in_at_a_host() {
    visit(Client::Tnftp, Server::Inetutils, Mode::Passive, Family::V6, "2001:db8:2::2").unwrap();
}

#[test]
fn ncftp_logs_in_at_a_host() {
    visit(Client::Ncftp, Server::PureFtpd, Mode::Active, Family::V4, "10.2.0.2:21").unwrap();
}

#[test]
fn wget_logs_in_at_a_host() {
    visit(Client::Wget, Server::Pyftpdlib, Mode::Passive, Family::V4, "ftp.example:21").unwrap();
}

#[test]
fn ftplib_logs_in_at_a_host() {
    visit(Client::Ftplib, Server::Vsftpd, Mode::Active, Family::V6, "ftp.example").unwrap();
}

/// A client's own way to use an FTP proxy: these words, with this on standard input and in these files of its home.
/// It fetches `shelf/big.bin` into `in/big.bin`.
fn by_proxy(words: &[&str], input: &str, files: &[(&str, &str)]) -> Result<(), Fault> {
    let stage = Stage::new();
    stage.names.set("ftp.example", &["10.2.0.2"], 60);
    let server = Server::Vsftpd.or_without_users().start(&stage.net.server, Family::V4)?;
    let folder = Scratch::new("client")?;
    goods::stock_client(folder.path())?;
    let home = folder.join("home");
    for (name, text) in files {
        let file = home.join(name);
        std::fs::create_dir_all(file.parent().ok_or("a file has a folder")?)?;
        std::fs::write(file, text)?;
    }
    let (log, script) = (folder.join("log"), folder.join("script"));
    std::fs::write(&script, input)?;
    let stdin = std::fs::File::open(&script)?;
    let setup = |command: &mut Command| {
        command.current_dir(folder.path()).env("HOME", &home).env("NCFTPDIR", home.join(".ncftp")).stdin(stdin);
    };
    let mut job = Job::start(&stage.net.client, &log, words, setup)?;
    let ended = job.wait(Duration::from_secs(30));
    let got = std::fs::read(folder.join("in/big.bin")).unwrap_or_default();
    if ended.is_some() && got == std::fs::read(server.home().join("shelf/big.bin"))? {
        return Ok(());
    }
    Err(format!("{ended:?}, {} bytes\n{}\n--- gate\n{}", got.len(), tail(&log), stage.gate.tail()).into())
}

#[test]
fn lftp_uses_it_as_an_ftp_proxy() {
    let script = |more: &str| {
        format!(
            "set cmd:fail-exit yes\nset net:timeout 10\nset net:max-retries 2\nset ftp:ssl-allow no\ndebug 3\n\
             set ftp:proxy ftp://10.1.0.1\n{more}open -u {USER},{PASSWORD} ftp.example\nget shelf/big.bin -o in/big.bin\n"
        )
    };
    by_proxy(&["lftp", "-f", "/dev/stdin"], &script(""), &[]).unwrap();
    let login = "set ftp:proxy ftp://gatekeeper:geheim@10.1.0.1\nset ftp:proxy-auth-type ";
    by_proxy(&["lftp", "-f", "/dev/stdin"], &script(&format!("{login}open\n")), &[]).unwrap();
    by_proxy(&["lftp", "-f", "/dev/stdin"], &script(&format!("{login}user\n")), &[]).unwrap();
}

#[test]
fn tnftp_uses_it_as_a_gate() {
    let script = format!(
        "gate 10.1.0.1 21\nopen ftp.example\nuser {USER}@ftp.example {PASSWORD}\nbinary\nget shelf/big.bin in/big.bin\nbye\n"
    );
    by_proxy(&["tnftp", "-n", "-v", "-i", "-p"], &script, &[]).unwrap();
    let netrc = format!("machine ftp.example login {USER} password {PASSWORD}\n");
    let script = "gate 10.1.0.1 21\nopen ftp.example\nbinary\nget shelf/big.bin in/big.bin\nbye\n";
    let secret = &["sh", "-c", "chmod 600 home/.netrc; exec tnftp -v -i -p"];
    by_proxy(secret, script, &[(".netrc", &netrc)]).unwrap();
}

#[test]
fn ncftp_uses_it_as_a_firewall() {
    for kind in [1, 2, 3, 4, 7, 8] {
        let firewall = format!(
            "firewall-type={kind}\nfirewall-host=10.1.0.1\nfirewall-port=21\nfirewall-user=gatekeeper\n\
             firewall-password=geheim\nfirewall-exception-list=.invalid\n"
        );
        let words = [
            "ncftpget",
            "-F",
            "-t",
            "10",
            "-r",
            "1",
            "-d",
            "stdout",
            "-u",
            USER,
            "-p",
            PASSWORD,
            "10.2.0.2",
            "in",
            "shelf/big.bin",
        ];
        by_proxy(&words, "", &[(".ncftp/firewall", &firewall)]).unwrap_or_else(|fault| panic!("type {kind}: {fault}"));
    }
}

/// Perl's Net::FTP. Its types 5 and 6 have a user at the firewall in the place of one at the server.
#[test]
fn net_ftp_uses_it_as_a_firewall() {
    let visit = |kind: u8| {
        let script = format!(
            "use Net::FTP; use Net::Netrc; no warnings;\n\
             *Net::Netrc::lookup = sub {{ bless {{ login => 'gatekeeper', password => 'geheim' }}, 'Net::Netrc' }};\n\
             my $ftp = Net::FTP->new('10.2.0.2', Firewall => '10.1.0.1', FirewallType => {kind}, Passive => 1,\n\
             Timeout => 10, Debug => 1) or die $@;\n\
             $ftp->login('{USER}', '{PASSWORD}') or die 'no login: ', $ftp->message;\n\
             $ftp->binary; $ftp->get('shelf/big.bin', 'in/big.bin') or die $ftp->message; $ftp->quit;"
        );
        by_proxy(&["perl", "-e", &script], "", &[])
    };
    for kind in [1, 2, 3, 4, 7] {
        visit(kind).unwrap_or_else(|fault| panic!("type {kind}: {fault}"));
    }
    for kind in [5, 6] {
        let fault = visit(kind).expect_err("the server has no such user").to_string();
        assert!(fault.contains("no login") || fault.contains("cannot locate user"), "type {kind}: {fault}");
    }
}

#[test]
fn wget_uses_it_as_an_ftp_proxy() {
    let url = format!("ftp://{USER}:{PASSWORD}@ftp.example/shelf/big.bin");
    let words = [
        "wget",
        "--no-config",
        "-d",
        "-nv",
        "--tries=1",
        "--timeout=10",
        "-P",
        "in",
        "-e",
        "ftp_proxy=ftp://10.1.0.1/",
        &url,
    ];
    by_proxy(&words, "", &[]).unwrap();
}
