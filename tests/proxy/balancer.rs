//! HAProxy, as a balancer of control and data connections.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::lab::host::Host;
use crate::lab::job::Job;
use crate::lab::scratch::Scratch;
use crate::lab::{poll, unpacked};

/// What is sent ahead of each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    None,
    V1,
    V2,
    /// With a checksum among its extras.
    V2Checked,
}

impl Header {
    const fn words(self) -> &'static str {
        match self {
            Self::None => "",
            Self::V1 => "send-proxy",
            Self::V2 => "send-proxy-v2",
            Self::V2Checked => "send-proxy-v2 proxy-v2-options crc32c,unique-id",
        }
    }
}

/// A running HAProxy; it ends when dropped.
pub struct Balancer {
    _job: Job,
    folder: Scratch,
}

impl Balancer {
    /// Leads port 21 and `ports` of `at` to the same ports of `to`; where it `accepts` headers, there must be one.
    #[track_caller]
    pub fn start(host: &Host, at: IpAddr, ports: &str, accepts: bool, to: IpAddr, header: Header) -> Self {
        let folder = Scratch::new("haproxy").unwrap();
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last): (u16, u16) = (first.parse().unwrap(), last.parse().unwrap());
        // Where a header is taken, HAProxy goes to the port that the header names unless it is told another, and that
        // one is the gate's: so each port by itself.
        let separate = if accepts { Some(first..=last) } else { None };
        let together =
            format!("listen data\n bind {}:{first}-{last}\n server s {} {}\n", whole(at), whole(to), header.words());
        let together = if accepts { String::new() } else { together };
        let part = |port: u16| {
            let (accept, send) = (if accepts { "accept-proxy" } else { "" }, header.words());
            format!("listen p{port}\n bind {}:{port} {accept}\n server s {}:{port} {send}\n", whole(at), whole(to))
        };
        let config = format!(
            "global\n log stdout format raw local0\ndefaults\n mode tcp\n log global\n log-format \"from %ci:%cp at %fi:%fp %b %B %ts\"\n \
             timeout connect 10s\n timeout client 60s\n timeout server 60s\n unique-id-format %{{+X}}o%ci%cp\n{}",
            [21].into_iter().chain(separate.into_iter().flatten()).map(part).collect::<String>() + &together
        );
        let (file, log) = (folder.join("haproxy.cfg"), folder.join("log"));
        std::fs::write(&file, config).unwrap();
        let program = unpacked().join("usr/sbin/haproxy");
        assert!(program.exists(), "HAProxy is not here; run tests/lab/packages");
        let libraries = unpacked().join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
        let words = [program.to_str().unwrap(), "-db", "-f", file.to_str().unwrap()];
        let mut job = Job::start(host, &log, &words, |command| {
            command.env("LD_LIBRARY_PATH", libraries);
        })
        .unwrap();
        let listens = poll(Duration::from_secs(10), || {
            (host.listens_on(21) && host.listens_on(last) || job.has_ended()).then_some(())
        });
        assert!(listens.is_some() && !job.has_ended(), "HAProxy does not listen:\n{}", job.tail());
        Self { _job: job, folder }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Each connection was said to come from this client.
    #[track_caller]
    pub fn assert_all_from(&self, client: IpAddr) {
        let from = SocketAddr::new(client, 0).to_string();
        let from = format!("from {}:", from.trim_start_matches('[').trim_end_matches(":0").trim_end_matches(']'));
        // It is told when a connection has ended.
        let log = poll(Duration::from_secs(10), || {
            let log = self.log();
            let told = log.lines().filter(|line| line.starts_with("from ")).count();
            (told > 50).then_some(log)
        });
        let log = log.unwrap_or_else(|| panic!("{}", self.log()));
        for line in log.lines().filter(|line| line.starts_with("from ")) {
            assert!(line.starts_with(&from), "not {from}: {line}");
        }
    }
}

fn whole(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("ipv4@{ip}"),
        IpAddr::V6(ip) => format!("ipv6@[{ip}]"),
    }
}
