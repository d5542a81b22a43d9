//! Other gates on this machine: connections that have our mark and belong to no pinhole of this gate may be theirs.

use std::io;

use super::nftables::NAME;
use crate::net::netlink::{Groups, Socket, find, number};
use crate::net::netlink::{dump, text};

const GET_TABLE: u16 = number::NFTABLES | 1;

/// Whether there is another gate. Its table goes with its process.
pub(super) fn others_run(own_table: &str) -> io::Result<bool> {
    let socket = Socket::open(Groups::None)?;
    let mut found = false;
    dump(
        &socket,
        GET_TABLE,
        number::INET,
        |_| (),
        |message| {
            let name = message.body.get(4..).and_then(|body| find(body, &[1])).map(text);
            found |= name.is_some_and(|name| name.starts_with(NAME) && name != own_table);
        },
    )?;
    Ok(found)
}
