//! Servers with habits of their own, and a real client library: what it gets from them direct it gets through the gate, by
//! each datapath.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use crate::lab::poll;
use crate::stage::*;
use crate::talk::Talk;

/// What is odd about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quirk {
    /// It answers the first PASV by 421 and goes on, as FileZilla Server does where it has no port.
    NoPort,
    /// A reply of several lines ends by another code than it began with.
    BlockEnds,
    /// Each line of FEAT has its code.
    FeatCodes,
    /// No blank behind the codes.
    NoBlank,
}

const PYTHON: &str = "/usr/bin/python3";

const FILE: &[u8] = b"what is in the file";

/// Answers one client until it leaves.
fn serve(stage: &Stage, quirk: Quirk) {
    let stream = poll(PATIENCE, || stage.next_control()).expect("nobody connected");
    let mut talk = Talk::new(stream);
    let own = talk.stream.local_addr().unwrap().ip();
    let (mut data, mut asked) = (None, 0);
    let blank = if quirk == Quirk::NoBlank { "" } else { " " };
    talk.say("220 Ready");
    while let Ok(line) = talk.try_line() {
        if line.is_empty() {
            return;
        }
        let line = String::from_utf8(line).unwrap();
        let command = line.trim_end().split(' ').next().unwrap().to_ascii_uppercase();
        match command.as_str() {
            "USER" => talk.say("331 Password"),
            "PASS" => talk.say("230 In"),
            "FEAT" if quirk == Quirk::FeatCodes => {
                for line in ["211-Features", "211-UTF8", "211-AUTH TLS", "211-EPSV", "211-SIZE", "211 End"] {
                    talk.say(line);
                }
            }
            "PASV" if quirk == Quirk::NoPort && std::mem::replace(&mut asked, 1) == 0 => {
                talk.say("421 Could not create socket.");
            }
            "PASV" => {
                let listener = listen(&stage.net.server, SocketAddr::new(own, 0));
                let [high, low] = listener.local_addr().unwrap().port().to_be_bytes();
                let IpAddr::V4(ip) = own else { panic!("{own}") };
                let [a, b, c, d] = ip.octets();
                talk.say(&format!("227 Here ({a},{b},{c},{d},{high},{low})"));
                data = Some(listener);
            }
            "RETR" => {
                talk.say(&format!("150{blank}Here it comes"));
                let data = data.take().expect("PASV came before");
                std::io::Write::write_all(&mut accept(&data), FILE).unwrap();
                talk.say(&format!("226{blank}Transfer complete"));
            }
            "STOR" => {
                for line in ["553-Another name was chosen,", "150 go on", "227 Entering Passive Mode (10,9,9,9,9,9)"] {
                    talk.say(line);
                }
                let mut got = Vec::new();
                let data = data.take().expect("PASV came before");
                std::io::Read::read_to_end(&mut accept(&data), &mut got).unwrap();
                assert_eq!(got, FILE);
                talk.say("226 Stored");
            }
            "NOOP" => talk.say(&format!("200{blank}Fine")),
            "PWD" => talk.say(&format!("257{blank}\"/\" is here")),
            "QUIT" => return talk.say("221 Bye"),
            _ => talk.say(&format!("200{blank}Fine")),
        }
    }
}

/// Python's ftplib, which logs in and does this; what it prints.
fn ftplib(stage: &Stage, server: IpAddr, script: &str) -> String {
    let script = format!(
        "import ftplib\nf = ftplib.FTP()\nf.connect('{server}', 21, 10)\nf.login('anna', 'x')\n\
         def get():\n    got = []\n    print(f.retrbinary('RETR file', got.append), b''.join(got))\n{script}\nprint(f.quit())\n"
    );
    let mut python = Command::new(PYTHON);
    python.args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = stage.net.client.spawn(python).unwrap().wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out
}

/// What the client prints, direct and by each datapath; and the last gate's log.
fn visits(quirk: Quirk, script: &str) -> [String; 3] {
    let visit = |datapath: Option<&'static str>| {
        let wish = Wish { datapath: datapath.unwrap_or("relay"), closed: false, ..Wish::default() };
        let stage = Stage::with(&wish);
        let server = if datapath.is_some() { stage.front(21).ip() } else { stage.server_ip() };
        let printed = std::thread::scope(|scope| {
            scope.spawn(|| serve(&stage, quirk));
            ftplib(&stage, server, script)
        });
        if let Some(datapath) = datapath.filter(|_| script.contains("get()")) {
            stage.logged(&["event=\"transfer\"", "outcome=\"ended\"", &format!("datapath=\"{datapath}\"")]);
        }
        printed
    };
    [visit(None), visit(Some("relay")), visit(Some("kernel"))]
}

#[test]
fn a_server_that_has_no_port_goes_on() {
    let script =
        "try:\n    get()\nexcept ftplib.error_temp as error:\n    print(error)\nget()\nprint(f.sendcmd('NOOP'))";
    let [direct, relay, kernel] = visits(Quirk::NoPort, script);
    assert!(direct.starts_with("421 Could not create socket.\n226 Transfer complete"), "{direct}");
    assert_eq!((relay, kernel), (direct.clone(), direct));
}

#[test]
fn replies_without_a_blank_are_replies() {
    let script = "print(f.sendcmd('NOOP'))\nget()\nprint(f.pwd())\nget()\nprint(f.sendcmd('NOOP'))";
    let [direct, relay, kernel] = visits(Quirk::NoBlank, script);
    assert!(direct.starts_with("200Fine\n226Transfer complete"), "{direct}");
    assert_eq!((relay, kernel), (direct.clone(), direct));
}

/// What does not hold through the gate is not in the list, and everything else is as the server writes it.
#[test]
fn features_with_a_code_on_each_line_are_those_of_the_gate() {
    let [direct, relay, kernel] = visits(Quirk::FeatCodes, "print(f.sendcmd('FEAT'))\nget()");
    assert!(direct.contains("211-AUTH TLS\n"), "{direct}");
    for told in [relay, kernel] {
        assert!(told.starts_with("211-Features\n211-UTF8\n"), "{told}");
        assert!(told.contains("211-SIZE\n") && !told.contains("AUTH"), "{told}");
        assert_eq!(told.matches("EPSV").count(), 1, "{told}");
        assert_eq!(told.lines().skip_while(|line| *line != "211 End").collect::<Vec<_>>().len(), 3, "{told}");
    }
}

/// A client that reads lines and waits for none: a library would wait for `553 ` without end, direct as well.
#[test]
fn a_block_that_ends_by_another_code_costs_nothing_but_itself() {
    for datapath in ["relay", "kernel"] {
        let stage = Stage::with(&Wish { datapath, closed: false, ..Wish::default() });
        let visit = |server: IpAddr| {
            std::thread::scope(|scope| {
                scope.spawn(|| serve(&stage, Quirk::BlockEnds));
                let mut client = Talk::new(stage.dial(SocketAddr::new(server, 21)).unwrap());
                client.expect("220 Ready");
                let mut told_in_all = Vec::new();
                for _ in 0..2 {
                    client.say("PASV");
                    let told = client.expect_code("227").lines.concat();
                    let numbers = told.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u16>().ok());
                    let [.., high, low] = numbers.collect::<Vec<_>>()[..] else { panic!("{told}") };
                    let data = stage.dial(SocketAddr::new(server, high * 256 + low)).unwrap();
                    client.say("STOR file");
                    told_in_all.push(client.line());
                    while !told_in_all.last().unwrap().starts_with("150") {
                        told_in_all.push(client.line());
                    }
                    std::io::Write::write_all(&mut &data, FILE).unwrap();
                    drop(data);
                    told_in_all.push(client.line());
                    while !told_in_all.last().unwrap().starts_with("226") {
                        told_in_all.push(client.line());
                    }
                    client.say("NOOP");
                    client.expect("200 Fine");
                }
                client.say("QUIT");
                client.expect("221 Bye");
                told_in_all
            })
        };
        let direct = visit(stage.server_ip());
        assert_eq!(direct.len(), 8, "{direct:?}");
        let told = visit(stage.front(21).ip());
        // The port in its midst is nobody's.
        assert_eq!(told, ["553-Another name was chosen,", "150 go on", "226 Stored"].repeat(2), "{datapath}");
        stage.logged(&["event=\"refused\"", "reason=\"reply_end\""]);
        stage.logged(&["event=\"refused\"", "reason=\"unasked_passive_reply\""]);
        stage.logged(&["event=\"session_ended\"", "reason=\"ended\"", "transfers=2"]);
        let ended = stage.gate().log().matches("outcome=\"ended\"").count();
        assert_eq!(ended, 2, "{}", stage.gate().log());
        stage.logged(&["event=\"transfer\"", &format!("datapath=\"{datapath}\"")]);
    }
}
