//! The command lines of each client.

use std::net::IpAddr;

use super::super::goods::small_names;
use super::super::server::PASSWORD;
use super::super::{Mode, Notation};
use super::{Client, Visit};

/// Debian's own, so that a Python of the user's makes no difference.
pub const PYTHON: &str = "/usr/bin/python3";

/// One program to run in the client's folder.
pub struct Step {
    pub words: Vec<String>,
    /// What it reads from its standard input.
    pub input: String,
}

/// Everything that the client does on one visit.
pub fn steps(client: Client, visit: &Visit<'_>) -> Vec<Step> {
    match client {
        Client::Curl => curl(visit),
        Client::Lftp => vec![Step::new("lftp -f /dev/stdin", &lftp(visit))],
        Client::Tnftp => {
            let mode = if visit.leg.mode == Mode::Active { "-A" } else { "-p" };
            vec![Step::new(&format!("tnftp -n -v -i {mode} {}", visit.server), &tnftp(visit))]
        }
        Client::Ncftp => ncftp(visit),
        Client::Wget => wget(visit),
        Client::Ftplib => {
            let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/client/ftplib_visit.py");
            vec![Step::new(
                &format!("{PYTHON} {program} {} {} {} {PASSWORD}", visit.server, visit.leg.mode, visit.user),
                "",
            )]
        }
    }
}

/// curl prefers EPSV and EPRT; where it has the choice, every other transfer is told to use PASV and PORT.
fn curl(visit: &Visit<'_>) -> Vec<Step> {
    let url = url(visit);
    let active = if visit.leg.mode == Mode::Active { "--ftp-port -" } else { "" };
    let plain = "--disable-epsv --disable-eprt";
    let (always, sometimes) = match visit.leg.notation {
        Notation::Plain => (plain, ""),
        Notation::Either if visit.server.is_ipv4() => ("", plain),
        Notation::Either | Notation::Extended => ("", ""),
    };
    let curl = format!("curl -q -sS -v --connect-timeout 10 -u {}:{PASSWORD} {active} {always}", visit.user);
    let lines = [
        format!("{curl} {url}/"),
        format!("{curl} {sometimes} -T out/big.bin {url}/inbox/"),
        format!("{curl} -T out/small/[00-49].txt {url}/inbox/small/"),
        format!("{curl} {url}/shelf/big.bin -o in/big.bin"),
        format!("{curl} {sometimes} {url}/shelf/small/[00-49].txt -o in/small/#1.txt"),
        format!("{curl} -C - {url}/shelf/big.bin -o resumed/big.bin"),
        format!("{curl} {sometimes} -Q DELE\u{a0}doomed.txt -o home/listing {url}/"),
    ];
    lines.iter().map(|line| Step::new(line, "")).collect()
}

/// The small files come over several sessions at once.
fn lftp(visit: &Visit<'_>) -> String {
    let word = |yes| if yes { "yes" } else { "no" };
    let passive = word(visit.leg.mode == Mode::Passive);
    let extended = word(visit.leg.notation == Notation::Extended);
    format!(
        "set cmd:fail-exit yes
set net:timeout 15
set net:max-retries 2
set ftp:ssl-allow no
set ftp:passive-mode {passive}
set ftp:prefer-epsv {extended}
debug 3
open -u {user},{PASSWORD} {url}
ls
put out/big.bin -o inbox/big.bin
mput -O inbox/small out/small/*.txt
get shelf/big.bin -o in/big.bin
mirror --parallel=4 shelf/small in/small
get -c shelf/big.bin -o resumed/big.bin
rm doomed.txt
",
        url = url(visit),
        user = visit.user,
    )
}

/// tnftp ends well whatever happened; the files tell. Its own wildcards are turned off before
/// `mget`, for Pure-FTPd does not take them in NLST. `epsv4` turns off the extended commands.
fn tnftp(visit: &Visit<'_>) -> String {
    let plain = if visit.leg.notation == Notation::Plain { "epsv4\n" } else { "" };
    let names: Vec<String> = small_names().collect();
    format!(
        "{plain}user {} {PASSWORD}
binary
ls
nlist
put out/big.bin inbox/big.bin
get shelf/big.bin in/big.bin
cd inbox/small
lcd out/small
mput *.txt
glob
cd ../../shelf/small
lcd ../../in/small
mget {}
cd ..
lcd ../../resumed
reget big.bin
cd ..
delete doomed.txt
bye
",
        visit.user,
        names.join(" ")
    )
}

fn ncftp(visit: &Visit<'_>) -> Vec<Step> {
    let server = visit.server;
    let mode = if visit.leg.mode == Mode::Active { "-E" } else { "-F" };
    let login = format!("{mode} -t 15 -r 1 -u {} -p {PASSWORD}", visit.user);
    let lines = [
        format!("ncftpls -l {login} ftp://{server}/"),
        format!("ncftpput -V {login} {server} inbox out/big.bin"),
        format!("ncftpput -V -R {login} {server} inbox out/small"),
        format!("ncftpget -V {login} {server} in shelf/big.bin"),
        format!("ncftpget -V -T -R {login} {server} in shelf/small"),
        format!("ncftpget -V -z {login} {server} resumed shelf/big.bin"),
        format!("ncftpls -l {login} -W DELE\u{a0}doomed.txt ftp://{server}/"),
    ];
    lines.iter().map(|line| Step::new(line, "")).collect()
}

fn wget(visit: &Visit<'_>) -> Vec<Step> {
    let url = url(visit);
    let mode = if visit.leg.mode == Mode::Active { "--no-passive-ftp" } else { "" };
    let wget =
        format!("wget --no-config -d -nv --tries=1 --timeout=15 --user={} --password={PASSWORD} {mode}", visit.user);
    let lines = [
        format!("{wget} -O - {url}/"),
        format!("{wget} -P in {url}/shelf/big.bin"),
        format!("{wget} -P in/small {url}/shelf/small/*.txt"),
        format!("{wget} -c -P resumed {url}/shelf/big.bin"),
    ];
    lines.iter().map(|line| Step::new(line, "")).collect()
}

fn url(visit: &Visit<'_>) -> String {
    match visit.server {
        IpAddr::V4(address) => format!("ftp://{address}"),
        IpAddr::V6(address) => format!("ftp://[{address}]"),
    }
}

impl Step {
    /// Words between plain spaces; a no-break space stands for a space inside a word.
    fn new(line: &str, input: &str) -> Self {
        let words = line.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace('\u{a0}', " "));
        Self { words: words.collect(), input: input.to_owned() }
    }
}
