//! The sets of the table that pinholes are elements of.

use super::family::Family;

/// The sets of the table, one of each for a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Pinholes that no connection has used, with where they lead: an element is all the permission that there is.
    Unused,
    /// Who may send a SYN where, and how often.
    Syns,
    /// Where each leads to.
    Pinholes,
    /// The same with that in the key: which translations are those of a pinhole.
    Leads,
    /// From which address the peer there sees the connection come, from any port.
    SeenAs,
    /// The same, with the port.
    SeenAsPort,
    /// Where pinholes to servers lead: nobody gets there but through them.
    Guarded,
    /// Where pinholes to clients lead, and the server that they are for: it gets there through them only. Everybody
    /// else may: the client names the port, and others may be served there or share its address.
    GuardedFrom,
}

impl Set {
    pub(super) const ALL: [Self; 8] = [
        Self::Unused,
        Self::Syns,
        Self::Pinholes,
        Self::Leads,
        Self::SeenAs,
        Self::SeenAsPort,
        Self::Guarded,
        Self::GuardedFrom,
    ];

    pub(super) const fn name(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Unused, Family::V4) => "unused4",
            (Self::Unused, Family::V6) => "unused6",
            (Self::Syns, Family::V4) => "syns4",
            (Self::Syns, Family::V6) => "syns6",
            (Self::Pinholes, Family::V4) => "pinholes4",
            (Self::Pinholes, Family::V6) => "pinholes6",
            (Self::Leads, Family::V4) => "leads4",
            (Self::Leads, Family::V6) => "leads6",
            (Self::SeenAs, Family::V4) => "seen_as4",
            (Self::SeenAs, Family::V6) => "seen_as6",
            (Self::SeenAsPort, Family::V4) => "seen_as_port4",
            (Self::SeenAsPort, Family::V6) => "seen_as_port6",
            (Self::Guarded, Family::V4) => "guarded4",
            (Self::Guarded, Family::V6) => "guarded6",
            (Self::GuardedFrom, Family::V4) => "guarded_from4",
            (Self::GuardedFrom, Family::V6) => "guarded_from6",
        }
    }
}
