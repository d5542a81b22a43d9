//! Names in 8-bit charsets at every server: what becomes of them direct becomes of them through the gate.

use std::ffi::OsString;
use std::net::TcpStream;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::lab::gate::{Datapath, Gate, Listener};
use crate::lab::net::Net;
use crate::lab::server::{PASSWORD, Server, USER};
use crate::lab::{Family, Fault};
use crate::talk::Talk;

/// CP1251, KOI8-R, Latin-1, Shift-JIS, GBK, UTF-8; 0xFF doubled, in front, at the end, and before what are Telnet commands.
const NAMES: [&[u8]; 10] = [
    b"\xcf\xf0\xe8\xff\xf2\xed\xee",
    b"\xdf\xed\xe2\xe0\xf0\xfc \xff",
    b"\xff\xfd\xf2\xee",
    b"\xef\xd4\xde\xa3\xd4 \xff\xf4",
    b"L'Ha\xff-les-Roses",
    b"\x95\x5c\x8e\xa6",
    b"\xb1\xa8\xb8\xe6\xfd\xf0",
    "\u{43e}\u{442}\u{447}\u{451}\u{442} \u{ff}".as_bytes(),
    b"doubled \xff\xff",
    b"\xff\xfa and \xff\xf0",
];

/// What the server said to each name, and the directories that it had then.
type Seen = [Vec<Vec<u8>>; 2];

/// One trial for each server.
pub fn trials() -> Vec<Trial> {
    Server::ALL.map(|server| Trial::test(format!("names/{server}"), move || Ok::<(), Failed>(same(server)?))).into()
}

fn same(server: Server) -> Result<(), Fault> {
    let (direct, through) = (visit(server, false)?, visit(server, true)?);
    let shown =
        |seen: &Seen| seen.iter().flatten().map(|text| text.escape_ascii().to_string()).collect::<Vec<_>>().join("\n");
    if direct == through { Ok(()) } else { Err(format!("{}\n--- gate\n{}", shown(&direct), shown(&through)).into()) }
}

fn visit(server: Server, through: bool) -> Result<Seen, Fault> {
    let net = Net::new()?;
    let serving = server.start(&net.server, Family::V4)?;
    let (_gate, address) = if through {
        net.close()?;
        let gate = Gate::start(&net, Listener::Reverse, Datapath::Relay, Family::V4)?;
        (Some(gate), Listener::Reverse.server_as_seen(Family::V4))
    } else {
        (None, Net::server_address(Family::V4))
    };
    let mut talk = Talk::new(net.client.run(move || TcpStream::connect((address, 21)))?);
    talk.expect_code("220");
    for (line, code) in [(format!("USER {USER}"), "331"), (format!("PASS {PASSWORD}"), "230")] {
        talk.say(&line);
        talk.expect_code(code);
    }
    let mut replies = Vec::new();
    for name in NAMES {
        let mut ask = |line: &[u8]| {
            talk.send(&[line, b"\r\n"].concat());
            let reply = comparable(&talk.raw_line(), &serving.home());
            let is_done = reply.starts_with(b"250");
            replies.push(reply);
            is_done
        };
        ask(&[b"MKD ", name].concat());
        if ask(&[b"CWD ", name].concat()) {
            ask(b"PWD");
            ask(b"CDUP");
        }
    }
    let entries = std::fs::read_dir(serving.home())?.map(|entry| Ok(OsString::into_vec(entry?.file_name())));
    let mut names = entries.collect::<Result<Vec<_>, Fault>>()?;
    names.sort();
    Ok([replies, names])
}

/// A reply without what differs from run to run, and without the server's refusal of an option that it saw in a name: the
/// gate keeps that from the client.
fn comparable(reply: &[u8], home: &Path) -> Vec<u8> {
    let text = reply.strip_prefix(b"\xff").and_then(|rest| rest.get(2..)).unwrap_or(reply);
    let home = home.as_os_str().as_bytes();
    match text.windows(home.len()).position(|part| part == home) {
        Some(at) => [&text[..at], b"~", &text[at + home.len()..]].concat(),
        None => text.to_vec(),
    }
}
