//! A name server that says what the test wants it to.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SOA};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::lab::host::Host;

/// Answers on port 53 of its host's loopback for as long as the host lives.
#[derive(Clone)]
pub struct NameServer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    hosts: HashMap<String, (Vec<IpAddr>, u32)>,
    silent: bool,
    asked: u32,
}

impl NameServer {
    pub fn start(host: &Host) -> Self {
        let socket = host.run(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let answering = Arc::clone(&state);
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                let Ok(query) = Message::from_vec(&buffer[..count]) else { continue };
                if let Some(answer) = answering.lock().unwrap().answer(&query) {
                    let _ = socket.send_to(&answer.to_vec().unwrap(), from);
                }
            }
        });
        Self(state)
    }

    /// From now on a host has these addresses, for so many seconds.
    pub fn set(&self, host: &str, addresses: &[&str], seconds: u32) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.0.lock().unwrap().hosts.insert(format!("{host}."), (addresses, seconds));
    }

    /// It answers nobody any more, or does again.
    pub fn be_silent(&self, silent: bool) {
        self.0.lock().unwrap().silent = silent;
    }

    /// How often it was asked.
    pub fn asked(&self) -> u32 {
        self.0.lock().unwrap().asked
    }
}

impl State {
    fn answer(&mut self, query: &Message) -> Option<Message> {
        self.asked += 1;
        let question = query.queries.first()?;
        if self.silent {
            return None;
        }
        let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        answer.add_query(question.clone());
        let Some((addresses, seconds)) = self.hosts.get(&question.name().to_utf8()) else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            return Some(answer);
        };
        for address in addresses {
            let data = match (address, question.query_type()) {
                (IpAddr::V4(ip), RecordType::A) => RData::A(A(*ip)),
                (IpAddr::V6(ip), RecordType::AAAA) => RData::AAAA(AAAA(*ip)),
                _ => continue,
            };
            answer.add_answer(Record::from_rdata(question.name().clone(), *seconds, data));
        }
        if answer.answers.is_empty() {
            // That there is nothing is known for a time too, and this says for how long.
            let soa = SOA::new(Name::root(), Name::root(), 1, 3600, 3600, 3600, *seconds);
            answer.add_authority(Record::from_rdata(question.name().clone(), *seconds, RData::SOA(soa)));
        }
        Some(answer)
    }
}
