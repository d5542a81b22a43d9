//! What the table does with packets that are forwarded: those of pinholes, with notes of what is said, and others that
//! would get past one.

use super::condition::{
    ACK, DATA, FIN, LABELS, RST, SCRATCH, SYN, add_to_mark, belongs_to_none, direction_is, has_no_connection, heard_by,
    is_any_tcp, is_no_tcp, is_tcp, mark_is, notes, original_who_where, stands, tcp_flags, who_where, words_of_labels,
};
use super::family::Family;
use super::mark::{self, Mark};
use super::set::Set;
use super::table::Table;
use crate::net::netlink::{Expressions, Header, Is, Register};

impl Table<'_> {
    pub(super) fn passing(&mut self) {
        let own = self.own.mark();
        self.rule("passing", "connections of pinholes", |e| {
            mark_is(e, mark::OWN_MASK, own);
            e.jump("ours");
        });
        // A condition of the next rule would not do: what is not tracked has no mark, and no rule that asks for one.
        self.rule("passing", "connections of other gates' pinholes", |e| {
            mark_is(e, mark::MASK, mark::OURS);
            e.accept();
        });
        self.rule("passing", "what may begin a connection", |e| {
            belongs_to_none(e);
            e.jump("guard");
        });
        self.rule("guard", "what is not tracked, and begins none", |e| {
            has_no_connection(e);
            is_any_tcp(e);
            tcp_flags(e, FIN | SYN | RST | ACK, Is::Not, SYN);
            e.accept();
        });
    }

    pub(super) fn guard(&mut self, family: Family) {
        self.rule("guard", "nobody else gets to where a pinhole leads", |e| {
            is_tcp(e, family);
            e.payload(Header::Network, family.destination_at(), family.address_length(), SCRATCH);
            e.payload(Header::Transport, 2, 2, family.after_address());
            e.is_in(Set::Guarded.name(family), SCRATCH).reset();
        });
        self.rule("guard", "the server does not get past a pinhole", |e| {
            is_tcp(e, family);
            who_where(e, family);
            e.is_in(Set::GuardedFrom.name(family), SCRATCH).reset();
        });
    }

    pub(super) fn ours(&mut self) {
        let own = self.own.mark();
        self.rule("ours", "what moves", |e| {
            mark_is(e, u32::MAX, own);
            tcp_flags(e, SYN | FIN | RST, Is::Equal, 0);
            notes(e, &[heard_by(0), heard_by(1)], Is::Equal);
            e.accept();
        });
        // An ICMP error about a connection has its mark, and where a TCP header has flags there is part of the packet
        // that it quotes.
        self.rule("ours", "errors about them", |e| {
            is_no_tcp(e);
            e.accept();
        });
        self.rule("ours", "half open", |e| {
            mark_is(e, Mark::CUT | Mark::HALF_OPEN, Mark::HALF_OPEN);
            direction_is(e, 0);
            tcp_flags(e, SYN | RST, Is::Equal, 0);
            e.jump("half_open");
        });
        self.note_speech_after_the_last_word();
        self.note_sequences();
        self.rule("ours", "what was cut", |e| {
            mark_is(e, Mark::CUT, Mark::CUT);
            e.jump("cut");
        });
        for (direction, bit, what) in
            [(0, Mark::RESET_BY_ORIGINAL, "reset by the originator"), (1, Mark::RESET_BY_REPLY, "reset by the other")]
        {
            self.rule("ours", what, |e| {
                tcp_flags(e, RST, Is::Not, 0);
                direction_is(e, direction);
                add_to_mark(e, bit);
                e.accept();
            });
        }
        self.rule("ours", "all else", |e| e.accept());
    }

    /// The end of a handshake found its pinhole used. While that one stands, another connection is just about to use
    /// it, or another packet of the same one on another processor: sent again, this one will find the outcome.
    pub(super) fn is_being_used(&mut self, family: Family) {
        self.rule("half_open", "another packet is using the pinhole", |e| {
            is_tcp(e, family);
            original_who_where(e, family);
            stands(e, family);
            e.drop();
        });
    }

    pub(super) fn half_open(&mut self) {
        self.rule("half_open", "there is no pinhole any more", |e| {
            e.reset();
        });
    }

    /// One side has said its last and the other, which has not, goes on: how far the first had heard it by then tells
    /// nothing, and all bits of that note are set.
    fn note_speech_after_the_last_word(&mut self) {
        for ((direction, other), is_data) in [(0, 1), (1, 0)].into_iter().flat_map(|way| DATA.map(|data| (way, data))) {
            self.rule("ours", "it goes on where the other has ended", |e| {
                direction_is(e, direction);
                notes(e, &[heard_by(direction)], Is::Equal);
                notes(e, &[heard_by(other)], Is::Not);
                is_data(e);
                e.constant(SCRATCH, &words_of_labels(&[heard_by(other)])).add_ct_labels(SCRATCH);
            });
        }
    }

    /// Where each direction begins, and how far each side had heard the other when it said its last: this tells how
    /// many bytes arrived, which conntrack cannot, for it counts headers and what was sent again. See `count`. Each is
    /// noted once: what is said again may have another number, and labels can only be added to.
    fn note_sequences(&mut self) {
        const SEQUENCE_AT: u32 = 4;
        const ACKNOWLEDGED_AT: u32 = 8;
        let noted = [
            (SYN, 0, SEQUENCE_AT, "its first number"),
            (SYN, 1, SEQUENCE_AT, "the other's first number"),
            (FIN, 0, ACKNOWLEDGED_AT, "how far it heard the other"),
            (FIN, 1, ACKNOWLEDGED_AT, "how far the other heard it"),
        ];
        for ((word, register), (flag, direction, at, what)) in (0..).zip((0..).map(Register::nth)).zip(noted) {
            self.rule("ours", what, |e| {
                tcp_flags(e, flag, Is::Not, 0);
                direction_is(e, direction);
                notes(e, &[word], Is::Equal);
                e.constant(SCRATCH, &[0; LABELS]);
                e.payload(Header::Transport, at, 4, register).add_ct_labels(SCRATCH);
            });
        }
    }

    /// Of a connection that is cut the first data each way becomes a reset on its way on, and a side that sends more is
    /// reset: so each side hears of it, whichever of them still has something to say.
    pub(super) fn cut(&mut self) {
        let told = [(0, Mark::TOLD_ORIGINAL), (1, Mark::TOLD_REPLY)];
        for (direction, bit) in told {
            self.rule("cut", "their own resets", |e| {
                tcp_flags(e, RST, Is::Not, 0);
                direction_is(e, direction);
                add_to_mark(e, bit);
                e.accept();
            });
        }
        let ends: fn(&mut Expressions<'_>) = |e| tcp_flags(e, FIN, Is::Not, 0);
        let [long, pushed] = DATA;
        let directions = [(0, Mark::TOLD_REPLY), (1, Mark::TOLD_ORIGINAL)].into_iter();
        let says = [long, pushed, ends];
        for ((direction, bit), is_data) in directions.flat_map(|told| says.map(|is_data| (told, is_data))) {
            self.rule("cut", "the first data becomes a reset", |e| {
                direction_is(e, direction);
                mark_is(e, bit, 0);
                is_data(e);
                add_to_mark(e, bit);
                e.payload(Header::Transport, 12, 2, SCRATCH).bits(SCRATCH, &[0xff, 0], &[0, RST | ACK]);
                e.set_tcp(12, SCRATCH).accept();
            });
        }
        for (direction, bit) in told {
            self.rule("cut", "who says more is reset", |e| {
                is_any_tcp(e);
                direction_is(e, direction);
                add_to_mark(e, bit);
                e.reset();
            });
        }
    }
}
