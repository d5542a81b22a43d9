//! What the table does with packets that arrive, before any translation: whose the first of a connection is, and which
//! completes a handshake.

use super::condition::{
    ACK, FIN, RST, SCRATCH, SYN, add_to_mark, begins, direction_is, has_no_connection, has_no_option, is_any_tcp,
    is_assured, is_known, is_tcp, is_translated_already, mark_is, mark_is_not, remove_from_mark, stands, tcp_flags,
    who_where, who_where_to,
};
use super::family::Family;
use super::mark::{self, Mark};
use super::set::Set;
use super::table::Table;
use crate::net::netlink::{Is, Meta};

/// The TCP option by which a SYN has data that is taken at once (RFC 7413).
const FAST_OPEN: u8 = 34;

impl Table<'_> {
    pub(super) fn arriving(&mut self) {
        let own = self.own.mark();
        self.rule("arriving", "connections whose handshake goes on", |e| {
            mark_is(e, mark::OWN_MASK | Mark::CUT | Mark::HALF_OPEN, own | Mark::HALF_OPEN);
            e.jump("handshake");
        });
        self.rule("arriving", "first packets", |e| {
            is_any_tcp(e);
            tcp_flags(e, FIN | SYN | RST | ACK, Is::Equal, SYN);
            e.jump("syn");
        });
        self.rule("syn", "they may be sent again, or meet an earlier connection", |e| {
            is_known(e);
            mark_is(e, mark::OWN_MASK, own);
            e.jump("again");
        });
    }

    /// A socket of a relayed connection with the same addresses and ports may be there yet, in TIME_WAIT: the interception
    /// takes a packet for that one's, and would have it delivered here.
    pub(super) fn claiming(&mut self) {
        let own = self.own.mark();
        self.rule("claiming", "what is led is not delivered to a socket", |e| {
            mark_is(e, mark::OWN_MASK, own);
            e.meta(Meta::Mark, SCRATCH).compare(SCRATCH, Is::Equal, &mark::INTERCEPTED.to_ne_bytes());
            e.constant(SCRATCH, &[0; 4]).set_mark(SCRATCH);
        });
    }

    /// A SYN that meets one of our connections.
    pub(super) fn again(&mut self) {
        self.rule("again", "its handshake is over, or it is", |e| {
            mark_is_not(e, Mark::CUT | Mark::HALF_OPEN, Mark::HALF_OPEN);
            e.drop();
        });
        self.rule("again", "it is the other side's", |e| {
            direction_is(e, 1);
            e.drop();
        });
        for family in [Family::V4, Family::V6] {
            self.rule("again", "it is led where the pinhole leads", |e| {
                is_tcp(e, family);
                who_where_to(e, family);
                e.is_in(Set::Leads.name(family), SCRATCH).accept();
            });
            self.rule("again", "it is led where an earlier one led", |e| {
                is_tcp(e, family);
                who_where(e, family);
                stands(e, family);
                e.drop();
            });
        }
        self.rule("again", "its pinhole is gone", |e| e.accept());
    }

    /// The first packet of a connection, from a pinhole's peer or with its address.
    pub(super) fn syn(&mut self, family: Family) {
        let own = self.own.mark();
        self.rule("syn", "the connection that it meets would not be led", |e| {
            is_known(e);
            is_tcp(e, family);
            who_where(e, family);
            stands(e, family);
            e.drop();
        });
        self.rule("syn", "it would be led where a helper of conntrack's wants it", |e| {
            is_translated_already(e);
            is_tcp(e, family);
            who_where(e, family);
            stands(e, family);
            e.reset();
        });
        // Whether it is new or related: helpers read the same lines as we do.
        self.rule("syn", "the connection is half open", |e| {
            is_tcp(e, family);
            // Another gate has it.
            mark_is_not(e, mark::MASK, mark::OURS);
            // Data in a SYN would get there before anybody has shown who it is from.
            has_no_option(e, FAST_OPEN);
            who_where(e, family);
            e.is_in(Set::Syns.name(family), SCRATCH);
            e.constant(SCRATCH, &(own | Mark::HALF_OPEN).to_ne_bytes()).set_ct_mark(SCRATCH).accept();
        });
        self.rule("syn", "it is to be sent again, or without data", |e| {
            is_tcp(e, family);
            mark_is_not(e, mark::MASK, mark::OURS);
            who_where(e, family);
            stands(e, family);
            e.drop();
        });
        self.rule("syn", "what is not tracked cannot be led", |e| {
            has_no_connection(e);
            is_tcp(e, family);
            who_where(e, family);
            stands(e, family);
            e.reset();
        });
    }

    /// The packet that completes a handshake uses the pinhole.
    pub(super) fn handshake(&mut self, family: Family) {
        self.rule("handshake", "its end uses the pinhole", |e| {
            direction_is(e, 0);
            is_assured(e);
            is_tcp(e, family);
            tcp_flags(e, SYN | RST, Is::Equal, 0);
            who_where_to(e, family);
            let unused = Set::Unused.name(family);
            e.is_in(unused, SCRATCH).take_out(unused, SCRATCH);
            remove_from_mark(e, Mark::HALF_OPEN | Mark::REPEATED);
        });
    }

    /// conntrack does not count a SYN that is sent again.
    pub(super) fn repeated_syn(&mut self) {
        self.rule("handshake", "its beginning comes again", |e| {
            begins(e);
            is_any_tcp(e);
            tcp_flags(e, FIN | SYN | RST | ACK, Is::Equal, SYN);
            add_to_mark(e, Mark::REPEATED);
        });
    }
}
