//! A ban in mid-session, as fail2ban's: from one moment on nothing of the client's gets to the gate, or through it.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use crate::lab::gate::Datapath;
use crate::lab::net::Net;
use crate::lab::{Family, Mode, poll};
use crate::router::{Router, Session, rules};
use crate::stage::{begin, load};

/// What fail2ban's `nftables-allports` makes, with `blocktype=drop` and for what is forwarded too.
const CHAINS: &str = "table inet f2b-table {
set addr-set-ftp { type ipv4_addr; }
set addr6-set-ftp { type ipv6_addr; }
chain f2b-chain { type filter hook input priority filter - 1; jump banned; }
chain f2b-forward { type filter hook forward priority filter - 1; jump banned; }
chain banned { ip saddr @addr-set-ftp drop; ip6 saddr @addr6-set-ftp drop; }
}
";

struct Banned {
    router: Router,
    session: Session,
    _ours: TcpStream,
    theirs: TcpStream,
    /// The gate's sockets without the session.
    before: usize,
}

/// Bans the client in the middle of a download; `more` are the rule's limits.
#[track_caller]
fn banned(datapath: Datapath, family: Family, more: &str) -> Banned {
    let net = Net::new().unwrap();
    load(&net.gate, CHAINS);
    let listener = "    transparent: tproxy\n";
    let router = Router::on(net, family, Some(&rules(listener, datapath, family, more)));
    let before = warmed_up(&router);
    let mut session = router.session();
    // All is well before it.
    router.transfer(&mut session, Mode::Passive);
    let (ours, mut theirs) = router.passive(&mut session);
    begin(&mut session.client, &mut session.server, "RETR large");
    theirs.write_all(&[7; 10_000]).unwrap();
    let set = if family == Family::V4 { "addr-set-ftp" } else { "addr6-set-ftp" };
    load(&router.net.gate, &format!("add element inet f2b-table {set} {{ {} }}\n", router.client_ip()));
    Banned { router, session, _ours: ours, theirs, before }
}

/// Sends until the connection breaks or a while has passed.
fn flood(mut stream: TcpStream) {
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    while stream.write_all(&[7; 64 * 1024]).is_ok() {}
}

/// The gate's sockets.
fn sockets(router: &Router) -> usize {
    let process = router.gate.as_ref().unwrap().process();
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

/// The gate has no more sockets than when it had no session, and nothing in its tables.
#[track_caller]
fn nothing_is_left(router: &Router, before: usize) {
    let elements = || {
        let mut nft = std::process::Command::new("nft");
        nft.args(["list", "ruleset"]).env("PATH", crate::lab::net::PATH);
        let listed = router.net.gate.run(move || nft.output()).unwrap();
        String::from_utf8_lossy(&listed.stdout).matches("expires").count()
    };
    let left = poll(Duration::from_secs(10), || (sockets(router) <= before && elements() == 0).then_some(()));
    assert!(left.is_some(), "{} sockets of {before} and {} elements are left", sockets(router), elements());
}

/// A session that comes and goes: afterwards the gate has the sockets that it keeps.
fn warmed_up(router: &Router) -> usize {
    let before = sockets(router);
    let mut session = router.session();
    session.client.say("QUIT");
    session.server.expect("QUIT");
    session.server.say("221 Bye");
    drop(session);
    router.logged(&["event=\"session_ended\""]);
    // Of the socket by which it asks conntrack there is one for all.
    poll(Duration::from_secs(10), || (sockets(router) <= before + 1).then_some(())).expect("a session left a socket");
    sockets(router)
}

#[test]
fn a_client_that_is_banned_in_a_transfer_is_gone_after_the_rules_timeouts() {
    for family in [Family::V4, Family::V6] {
        let more = "    limits: { stall_timeout: 2s, idle_timeout: 3s }\n";
        let Banned { router, mut session, _ours, theirs, before } = banned(Datapath::Relay, family, more);
        flood(theirs);
        session.server.say("426 Broken");
        router.logged(&["WARN", "event=\"transfer\"", "RETR large", "outcome=\"stall_timeout\""]);
        router.logged(&["event=\"limit\"", "limit=\"idle_timeout\""]);
        router.logged(&["event=\"session_ended\"", "reason=\"idle_timeout\""]);
        assert!(session.server.rest().len() < 3);
        nothing_is_left(&router, before);
    }
}

/// The kernel watches over no stalls: the server gives up, and then the session does nothing.
#[test]
fn a_client_that_is_banned_in_a_transfer_of_the_kernel_s_is_gone_when_its_server_gives_up() {
    for family in [Family::V4, Family::V6] {
        let Banned { router, mut session, _ours, theirs, before } =
            banned(Datapath::Kernel, family, "    limits: { idle_timeout: 3s }\n");
        theirs.set_nonblocking(true).unwrap();
        let mut sending = &theirs;
        while sending.write(&[7; 64 * 1024]).is_ok() {}
        crate::stage::reset(theirs);
        session.server.say("426 Data connection timed out");
        router.logged(&["WARN", "event=\"transfer\"", "RETR large", "outcome=\"cut_by_server\""]);
        router.logged(&["event=\"session_ended\"", "reason=\"idle_timeout\""]);
        assert!(session.server.rest().len() < 3);
        nothing_is_left(&router, before);
    }
}
