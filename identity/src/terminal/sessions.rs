//! What is in force on one terminal: its chains, their tokens, and the connections that hold its roles.
//!
//! In memory only, since all of it ends with the process. It follows the tables of `chain.rs` and decides nothing beside them; it
//! knows a token by its hash alone, and keeps no clock. Everything has a bound: what a stranger could repeat for ever pushes out
//! the oldest of its kind and nothing else. What ends by itself stands in the order in which it does, so that time passing costs
//! what is over by it, however much goes on.
//!
//! ```text
//! chain: begun ──► held by a connection ◄──► not held, and a token leads back ──► over
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::chain::{Chain, Change, Held, TerminalLives, TerminalMethod, displaced};
use super::{Protection, TerminalRole, TerminalToken};
use crate::clock::Timestamp;
use crate::command::ConnectionId;
use crate::reply::Reason;
use crate::store::TokenHash;

/// How many chains of one role may be in force, those that a connection holds among them. Past that the oldest that nobody holds
/// is over.
const MOST_CHAINS: usize = 64;
/// How many tokens of one kind a chain may have. Past that the oldest is over that nobody has come back with: a client may keep
/// the first that it was told, and come back with it for ever.
const MOST_TOKENS: usize = 64;

/// Identifies a chain for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(u64);

/// From what an authorisation comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A new chain, begun by this.
    Anew(TerminalMethod),
    /// The chain that this token leads back to, if it still does when the role is given.
    Back(TokenHash),
}

/// Who is told why they are no longer authorised.
pub type Told = Vec<(ConnectionId, Reason)>;

/// What is in force on one terminal.
#[derive(Debug)]
pub struct Sessions {
    lives: TerminalLives,
    chains: BTreeMap<ChainId, Live>,
    tokens: HashMap<TokenHash, Token>,
    /// Each of those chains and tokens that has an end, by it.
    ends: BTreeSet<(Timestamp, Ending)>,
    /// One connection for each role, at most.
    holders: Vec<(ConnectionId, ChainId)>,
    /// The administrators' chains that connections which are still there were displaced from. Of a chain that is over it may know
    /// yet.
    before: HashMap<ConnectionId, Vec<ChainId>>,
    last: u64,
    /// How many tokens there have been.
    issued: u64,
    /// How often somebody came back.
    returns: u64,
}

#[derive(Debug)]
struct Live {
    chain: Chain,
    tokens: Tokens,
}

/// The tokens of a chain, those of each kind in order. One comes near one end of them and goes at the other, so that nearly
/// nothing is moved for it.
#[derive(Debug, Default)]
struct Tokens([VecDeque<Place>; TerminalToken::ALL.len()]);

/// A token's place among those of its kind: first stands the one that is pushed out first.
type Place = (Returned, u64, TokenHash);

/// Which of all returns was the last by a token; 0: none.
type Returned = u64;

#[derive(Clone, Copy, Debug)]
struct Token {
    chain: ChainId,
    kind: TerminalToken,
    ends_at: Option<Timestamp>,
    returned: Returned,
    /// Which of all tokens it is.
    number: u64,
}

impl Token {
    fn place(&self, hash: TokenHash) -> Place {
        (self.returned, self.number, hash)
    }
}

impl Tokens {
    fn enter(&mut self, kind: TerminalToken, place: Place) {
        let tokens = &mut self.0[kind as usize];
        let at = tokens.partition_point(|other| *other < place);
        tokens.insert(at, place);
    }

    fn take_out(&mut self, kind: TerminalToken, place: &Place) {
        let tokens = &mut self.0[kind as usize];
        if let Ok(at) = tokens.binary_search(place) {
            tokens.remove(at);
        }
    }

    /// The token of a kind that is over if another one comes.
    fn surplus(&self, kind: TerminalToken) -> Option<TokenHash> {
        let tokens = &self.0[kind as usize];
        let (.., hash) = tokens.front()?;
        (tokens.len() >= MOST_TOKENS).then_some(*hash)
    }

    fn iter(&self) -> impl Iterator<Item = (TerminalToken, TokenHash)> {
        TerminalToken::ALL.into_iter().flat_map(|kind| self.0[kind as usize].iter().map(move |(.., hash)| (kind, *hash)))
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(VecDeque::is_empty)
    }
}

/// What ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Chain(ChainId),
    Token(TokenHash),
}

fn is_over(ends_at: Option<Timestamp>, now: Timestamp) -> bool {
    ends_at.is_some_and(|end| end <= now)
}

impl Sessions {
    /// Nothing yet.
    pub fn new(lives: TerminalLives) -> Sessions {
        Sessions {
            lives,
            chains: BTreeMap::new(),
            tokens: HashMap::new(),
            ends: BTreeSet::new(),
            holders: Vec::new(),
            before: HashMap::new(),
            last: 0,
            issued: 0,
            returns: 0,
        }
    }

    /// Issues for other lives from now on.
    pub fn live_by(&mut self, lives: TerminalLives) {
        self.lives = lives;
    }

    /// The chain that a token leads to, if the token stands and is of one of these kinds.
    pub fn find(&self, token: &TokenHash, any_of: &[TerminalToken], now: Timestamp) -> Option<(ChainId, Chain)> {
        let token = self.tokens.get(token).filter(|token| any_of.contains(&token.kind) && !is_over(token.ends_at, now))?;
        let live = self.chains.get(&token.chain).filter(|live| !is_over(live.chain.ends_at, now))?;
        Some((token.chain, live.chain))
    }

    /// The chain of this id, if it is not over.
    pub fn chain(&self, id: ChainId, now: Timestamp) -> Option<Chain> {
        self.chains.get(&id).map(|live| live.chain).filter(|chain| !is_over(chain.ends_at, now))
    }

    /// What a connection holds.
    pub fn held(&self, connection: ConnectionId, now: Timestamp) -> Option<(ChainId, Chain)> {
        let (_, id) = self.holders.iter().find(|(holder, _)| *holder == connection)?;
        let live = self.chains.get(id).filter(|live| !is_over(live.chain.ends_at, now))?;
        Some((*id, live.chain))
    }

    /// Gives a role to a connection, in the place of what it held. `None`: the token that it comes back with is over by now, or of
    /// another role. Who held the role before is told.
    pub fn authorise(
        &mut self,
        connection: ConnectionId,
        role: TerminalRole,
        origin: Origin,
        now: Timestamp,
    ) -> Option<(ChainId, Told)> {
        let id = match origin {
            Origin::Anew(method) => self.begin(Chain::authorised(role, method, now, &self.lives)),
            Origin::Back(token) => {
                let (id, _) = self.find(&token, &[TerminalToken::Connection], now).filter(|(_, chain)| chain.role == role)?;
                self.returns += 1;
                let returned = self.tokens.get_mut(&token)?;
                let was = returned.place(token);
                returned.returned = self.returns;
                if let Some(live) = self.chains.get_mut(&id) {
                    live.tokens.take_out(returned.kind, &was);
                    live.tokens.enter(returned.kind, returned.place(token));
                }
                id
            }
        };
        Some((id, self.hold(connection, id)))
    }

    /// Takes an administrator's connection to the user's role. `None`: it holds no administrator's. Every token of the
    /// administrator's chain is over, and of those that the connection was displaced from.
    pub fn narrow(&mut self, connection: ConnectionId, now: Timestamp) -> Option<(ChainId, Told)> {
        let (id, chain) = self.held(connection, now).filter(|(_, chain)| chain.role == TerminalRole::Administrator)?;
        self.let_go(id);
        for id in self.before.remove(&connection).into_iter().flatten().chain([id]) {
            self.befall(id, Change::Narrowed);
        }
        let narrowed = self.begin(chain.narrowed());
        Some((narrowed, self.hold(connection, narrowed)))
    }

    /// Enters a token of a chain. When it ends; `None` where the chain is over by now.
    pub fn issue(&mut self, id: ChainId, kind: TerminalToken, hash: TokenHash, now: Timestamp) -> Option<Option<Timestamp>> {
        let live = self.chains.get_mut(&id).filter(|live| !is_over(live.chain.ends_at, now))?;
        let ends_at = live.chain.token_ends(kind, now, &self.lives);
        let surplus = live.tokens.surplus(kind);
        // The new one is entered first, so that the chain is never without any.
        self.issued += 1;
        let token = Token { chain: id, kind, ends_at, returned: 0, number: self.issued };
        live.tokens.enter(kind, token.place(hash));
        self.tokens.insert(hash, token);
        self.ends.extend(ends_at.map(|end| (end, Ending::Token(hash))));
        self.drop_tokens(surplus.as_slice());
        Some(ends_at)
    }

    /// A role's protection was set by a connection. Where it was that of its own role, it goes on in the chain that is named, and
    /// needs new tokens.
    pub fn protection_set(
        &mut self,
        by: ConnectionId,
        of: TerminalRole,
        to: Protection,
        user_reset: bool,
        now: Timestamp,
    ) -> Option<(Option<ChainId>, Told)> {
        let (_, chain) = self.held(by, now)?;
        let told = self.follow(&Change::ProtectionSet { of, by: chain.role, user_reset }, Some(by));
        if chain.role != of {
            return Some((None, told));
        }
        let id = self.begin(Chain::having_set(chain.role, to, now, &self.lives));
        // Nobody is displaced: the caller held this role already.
        self.hold(by, id);
        Some((Some(id), told))
    }

    /// Follows what befell the terminal as a whole; `own` made it. For what befalls one chain there are functions of their own.
    pub fn follow(&mut self, change: &Change, own: Option<ConnectionId>) -> Told {
        let own_chain = self.holders.iter().find(|(holder, _)| Some(*holder) == own).map(|(_, id)| *id);
        let mut told = Told::new();
        for (holder, id) in self.holders.clone() {
            let held = self.chains.get(&id).map(|live| Held { chain: live.chain, own: Some(id) == own_chain });
            if let Some(reason) = held.and_then(|held| change.told(&held)) {
                self.let_go(id);
                self.forget_if_unreachable(id);
                told.push((holder, reason));
            }
        }
        let ended = |token: &Token| {
            let live = self.chains.get(&token.chain);
            live.is_some_and(|live| change.ends(token.kind, &Held { chain: live.chain, own: Some(token.chain) == own_chain }))
        };
        let over: Vec<TokenHash> = self.tokens.iter().filter(|(_, token)| ended(token)).map(|(hash, _)| *hash).collect();
        self.drop_tokens(&over);
        told
    }

    /// Ends what is over by now, and says who loses their authorisation by it. It looks at nothing else.
    pub fn expire(&mut self, now: Timestamp) -> Told {
        let mut told = Told::new();
        while let Some((_, ending)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            match ending {
                Ending::Chain(id) => {
                    told.extend(self.let_go(id).map(|holder| (holder, Reason::Expired)));
                    self.befall(id, Change::Expired);
                    self.end_chain(id);
                }
                Ending::Token(hash) => self.drop_tokens(&[hash]),
            }
        }
        told
    }

    /// When the next chain or token is over.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Whether a connection holds a role.
    pub fn is_held_by(&self, connection: ConnectionId) -> bool {
        self.holders.iter().any(|(holder, _)| *holder == connection)
    }

    /// The connections that hold a role.
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.holders.iter().map(|(holder, _)| *holder).collect()
    }

    /// Forgets tokens that nobody was told after all.
    pub fn forget(&mut self, tokens: &[TokenHash]) {
        self.drop_tokens(tokens);
    }

    /// A connection is gone. What it held stays, for as long as a token leads back to it.
    pub fn gone(&mut self, connection: ConnectionId) {
        self.before.remove(&connection);
        self.leave(connection);
    }

    /// Begins a chain, for somebody to hold at once.
    fn begin(&mut self, chain: Chain) -> ChainId {
        let held = |id: &ChainId| self.holders.iter().any(|(_, other)| other == id);
        let same: Vec<ChainId> = self.chains.iter().filter(|(_, live)| live.chain.role == chain.role).map(|(id, _)| *id).collect();
        if same.len() >= MOST_CHAINS
            && let Some(oldest) = same.into_iter().find(|id| !held(id))
        {
            self.befall(oldest, Change::Expired);
            self.end_chain(oldest);
        }
        self.last += 1;
        let id = ChainId(self.last);
        self.chains.insert(id, Live { chain, tokens: Tokens::default() });
        self.ends.extend(chain.ends_at.map(|end| (end, Ending::Chain(id))));
        id
    }

    /// Lets a connection hold a chain, in the place of whatever it held, which is over, and of whoever holds that role.
    fn hold(&mut self, connection: ConnectionId, id: ChainId) -> Told {
        if self.holders.contains(&(connection, id)) {
            return Told::new();
        }
        let Some(role) = self.chains.get(&id).map(|live| live.chain.role) else { return Told::new() };
        let role_of = |id: &ChainId| self.chains.get(id).map(|live| live.chain.role);
        let holders: Vec<(ConnectionId, TerminalRole)> =
            self.holders.iter().filter_map(|(holder, id)| Some((*holder, role_of(id)?))).collect();
        let lost: Vec<(ConnectionId, ChainId)> = displaced(connection, role, &holders)
            .into_iter()
            .filter_map(|holder| self.holders.iter().find(|(other, _)| *other == holder).copied())
            .collect();
        self.holders.retain(|held| !lost.contains(held));
        let before = self.holders.iter().position(|(holder, _)| *holder == connection).map(|place| self.holders.swap_remove(place));
        self.holders.push((connection, id));
        for (holder, chain) in &lost {
            self.befall(*chain, Change::Displaced);
            if role == TerminalRole::Administrator {
                let before = self.before.entry(*holder).or_default();
                before.retain(|other| other != chain && self.chains.contains_key(other));
                before.push(*chain);
            }
        }
        if let Some((_, chain)) = before.filter(|(_, chain)| *chain != id) {
            self.befall(chain, Change::Replaced);
        }
        lost.into_iter().map(|(holder, _)| (holder, Reason::Displaced)).collect()
    }

    /// What a connection held, nobody holds any more.
    fn leave(&mut self, connection: ConnectionId) {
        if let Some(place) = self.holders.iter().position(|(holder, _)| *holder == connection) {
            let (_, id) = self.holders.swap_remove(place);
            self.forget_if_unreachable(id);
        }
    }

    fn let_go(&mut self, id: ChainId) -> Option<ConnectionId> {
        let place = self.holders.iter().position(|(_, other)| *other == id)?;
        Some(self.holders.swap_remove(place).0)
    }

    /// Ends the tokens of a chain that a change of its own ends.
    fn befall(&mut self, id: ChainId, change: Change) {
        let Some(live) = self.chains.get(&id) else { return };
        let held = Held { chain: live.chain, own: true };
        let ended = live.tokens.iter().filter(|(kind, _)| change.ends(*kind, &held));
        let over: Vec<TokenHash> = ended.map(|(_, hash)| hash).collect();
        self.drop_tokens(&over);
        self.forget_if_unreachable(id);
    }

    /// A chain that nobody holds is over, with all its tokens.
    fn end_chain(&mut self, id: ChainId) {
        let Some(live) = self.chains.remove(&id) else { return };
        if let Some(end) = live.chain.ends_at {
            self.ends.remove(&(end, Ending::Chain(id)));
        }
        for (_, hash) in live.tokens.iter() {
            self.drop_token(&hash);
        }
    }

    /// A token is over. What it was; its chain still has it.
    fn drop_token(&mut self, hash: &TokenHash) -> Option<Token> {
        let token = self.tokens.remove(hash)?;
        if let Some(end) = token.ends_at {
            self.ends.remove(&(end, Ending::Token(*hash)));
        }
        Some(token)
    }

    fn drop_tokens(&mut self, over: &[TokenHash]) {
        for hash in over {
            let Some(token) = self.drop_token(hash) else { continue };
            if let Some(live) = self.chains.get_mut(&token.chain) {
                live.tokens.take_out(token.kind, &token.place(*hash));
            }
            self.forget_if_unreachable(token.chain);
        }
    }

    /// A chain that nobody holds and no token speaks for is over.
    fn forget_if_unreachable(&mut self, id: ChainId) {
        let is_held = self.holders.iter().any(|(_, other)| *other == id);
        if !is_held && self.chains.get(&id).is_some_and(|live| live.tokens.is_empty()) {
            self.end_chain(id);
        }
    }
}

#[cfg(test)]
mod tests;
