//! What is counted, by which rule, and in which table: how a key becomes the hash that stands for it. It counts nothing.

use std::net::{IpAddr, Ipv6Addr};

use aws_lc_rs::hmac;

use super::OWN;
use crate::account::{AccountId, ClientId, NameKey};
use crate::terminal::TerminalName;

/// What an attempt is charged to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Where it comes from: an IPv4 address, or an IPv6 network of 64 bits.
    Source(IpAddr),
    /// As `Source`, for tokens, keys and codes.
    TokenSource(IpAddr),
    /// The name that was claimed, whether there is such an account or not.
    Name(NameKey),
    /// The account that was found under it.
    Account(AccountId),
    /// The account in this version, by a source that has logged in to it before: a budget that strangers cannot spend. With
    /// the version it begins anew whenever an operator changes or unlocks the account.
    Familiar(IpAddr, AccountId, u64),
    /// A client, for its own secret.
    Client(ClientId),
    /// The secrets of a terminal, by one source.
    Terminal(TerminalName, IpAddr),
    /// The same, by a source that has shown one of them before: a budget that a crowd of strangers cannot spend.
    TerminalFamiliar(TerminalName, IpAddr),
    /// The PINs of a terminal, by everybody.
    TerminalPins(TerminalName),
}

impl Key {
    /// What stands in the tables for it, and how it is counted.
    pub(super) fn hashed(&self, secret: &hmac::Key) -> ([u8; 16], Rule) {
        let mut text = hmac::Context::with_key(secret);
        let rule = match self {
            Key::Source(address) => {
                text.update(b"s");
                text.update(&network(*address));
                Rule::Source
            }
            Key::TokenSource(address) => {
                text.update(b"t");
                text.update(&network(*address));
                Rule::Token
            }
            Key::Name(name) => {
                text.update(b"n");
                text.update(name.as_str().as_bytes());
                Rule::Name
            }
            Key::Account(id) => {
                text.update(b"a");
                text.update(id.0.as_bytes());
                Rule::Name
            }
            Key::Familiar(address, id, version) => {
                text.update(b"f");
                text.update(&network(*address));
                text.update(id.0.as_bytes());
                text.update(&version.to_be_bytes());
                Rule::Name
            }
            Key::Client(id) => {
                text.update(b"c");
                text.update(id.as_str().as_bytes());
                Rule::Name
            }
            Key::Terminal(name, address) => {
                text.update(b"m");
                text.update(&network(*address));
                text.update(name.as_str().as_bytes());
                Rule::Terminal
            }
            Key::TerminalFamiliar(name, address) => {
                text.update(b"i");
                text.update(&network(*address));
                text.update(name.as_str().as_bytes());
                Rule::TerminalFamiliar
            }
            Key::TerminalPins(name) => {
                text.update(b"p");
                text.update(name.as_str().as_bytes());
                Rule::TerminalPins
            }
        };
        let mut hash = [0; 16];
        hash.copy_from_slice(&text.sign().as_ref()[..16]);
        (hash, rule)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Rule {
    Free = 0,
    Name = 1,
    Source = 2,
    Token = 3,
    /// Not a count: this source has logged in to this account.
    Mark = 4,
    Terminal = 5,
    TerminalPins = 6,
    TerminalFamiliar = 7,
}

impl Rule {
    /// Whether it counts for a terminal.
    pub(super) fn is_terminals(self) -> bool {
        matches!(self, Rule::Terminal | Rule::TerminalPins | Rule::TerminalFamiliar)
    }

    /// Where it is counted.
    pub(super) fn table(self) -> Table {
        match self {
            Rule::Free | Rule::Name | Rule::Source | Rule::Token => Table::Counts,
            Rule::Mark => Table::Marks,
            Rule::Terminal => Table::Terminals,
            Rule::TerminalFamiliar => Table::Insiders,
            Rule::TerminalPins => Table::Pins,
        }
    }

    /// Which of a bucket's shared slots is for newcomers of this rule.
    pub(super) fn shared(self) -> usize {
        OWN + match self {
            Rule::Free | Rule::Name | Rule::Mark | Rule::Terminal | Rule::TerminalFamiliar | Rule::TerminalPins => 0,
            Rule::Source => 1,
            Rule::Token => 2,
        }
    }
}

/// The tables, in the order in which their buckets are numbered.
#[derive(Clone, Copy)]
pub(super) enum Table {
    /// Names, accounts, clients and sources.
    Counts,
    /// Familiar sources, so that they crowd out no count; here the oldest gives way.
    Marks,
    /// Sources at terminals: guesses there are no reason to be stricter with names.
    Terminals,
    /// Sources that have shown a terminal's secret. Nobody else gets in here, so no stranger fills it.
    Insiders,
    /// Terminals, for their PINs. As many as are served, so it is never full, and none loses a count by sharing it.
    Pins,
}

/// The part of an address that one subscriber holds: all of an IPv4 address, 64 bits of an IPv6 address.
pub fn network(address: IpAddr) -> [u8; 16] {
    let address = match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64),
    };
    address.octets()
}
