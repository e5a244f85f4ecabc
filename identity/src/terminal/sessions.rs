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
/// How many tokens of one kind a chain may have. Past that the oldest is over.
const MOST_TOKENS: usize = 64;

/// Identifies a chain for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(u64);

/// From what an authorisation comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A new chain, begun by this.
    Anew(TerminalMethod),
    /// The chain that a token leads back to.
    Back(ChainId),
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
    last: u64,
}

#[derive(Debug)]
struct Live {
    chain: Chain,
    /// Its tokens, the oldest first.
    tokens: VecDeque<TokenHash>,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    chain: ChainId,
    kind: TerminalToken,
    ends_at: Option<Timestamp>,
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
        Sessions { lives, chains: BTreeMap::new(), tokens: HashMap::new(), ends: BTreeSet::new(), holders: Vec::new(), last: 0 }
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

    /// Gives a role to a connection, in the place of what it held. `None`: the chain that it comes back to is over by now. Who held
    /// the role before is told.
    pub fn authorise(
        &mut self,
        connection: ConnectionId,
        role: TerminalRole,
        origin: Origin,
        now: Timestamp,
    ) -> Option<(ChainId, Told)> {
        let id = match origin {
            Origin::Anew(method) => self.begin(Chain::authorised(role, method, now, &self.lives)),
            Origin::Back(id) => {
                self.chains.get(&id).filter(|live| live.chain.role == role && !is_over(live.chain.ends_at, now)).map(|_| id)?
            }
        };
        Some((id, self.hold(connection, id)))
    }

    /// Takes an administrator's connection to the user's role. `None`: it holds no administrator's. Every token of the
    /// administrator's chain is over.
    pub fn narrow(&mut self, connection: ConnectionId, now: Timestamp) -> Option<(ChainId, Told)> {
        let (id, chain) = self.held(connection, now).filter(|(_, chain)| chain.role == TerminalRole::Administrator)?;
        self.let_go(id);
        self.befall(id, Change::Narrowed);
        let narrowed = self.begin(chain.narrowed());
        Some((narrowed, self.hold(connection, narrowed)))
    }

    /// Enters a token of a chain. When it ends; `None` where the chain is over by now.
    pub fn issue(&mut self, id: ChainId, kind: TerminalToken, hash: TokenHash, now: Timestamp) -> Option<Option<Timestamp>> {
        let live = self.chains.get_mut(&id).filter(|live| !is_over(live.chain.ends_at, now))?;
        let ends_at = live.chain.token_ends(kind, now, &self.lives);
        let same: Vec<TokenHash> =
            live.tokens.iter().filter(|hash| self.tokens.get(*hash).is_some_and(|token| token.kind == kind)).copied().collect();
        // The new one is entered first, so that the chain is never without any.
        live.tokens.push_back(hash);
        self.tokens.insert(hash, Token { chain: id, kind, ends_at });
        self.ends.extend(ends_at.map(|end| (end, Ending::Token(hash))));
        if let Some(oldest) = same.first().filter(|_| same.len() >= MOST_TOKENS) {
            self.drop_tokens(&[*oldest]);
        }
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
        self.chains.insert(id, Live { chain, tokens: VecDeque::new() });
        self.ends.extend(chain.ends_at.map(|end| (end, Ending::Chain(id))));
        id
    }

    /// Lets a connection hold a chain, in the place of whatever it held, and of whoever holds that role.
    fn hold(&mut self, connection: ConnectionId, id: ChainId) -> Told {
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
        for (_, chain) in &lost {
            self.befall(*chain, Change::Displaced);
        }
        if let Some((_, chain)) = before {
            self.forget_if_unreachable(chain);
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
        let ended = |hash: &&TokenHash| self.tokens.get(*hash).is_some_and(|token| change.ends(token.kind, &held));
        let over: Vec<TokenHash> = live.tokens.iter().filter(ended).copied().collect();
        self.drop_tokens(&over);
        self.forget_if_unreachable(id);
    }

    /// A chain that nobody holds is over, with all its tokens.
    fn end_chain(&mut self, id: ChainId) {
        let Some(live) = self.chains.remove(&id) else { return };
        if let Some(end) = live.chain.ends_at {
            self.ends.remove(&(end, Ending::Chain(id)));
        }
        for hash in &live.tokens {
            self.drop_token(hash);
        }
    }

    /// A token is over. Which chain it was of.
    fn drop_token(&mut self, hash: &TokenHash) -> Option<ChainId> {
        let token = self.tokens.remove(hash)?;
        if let Some(end) = token.ends_at {
            self.ends.remove(&(end, Ending::Token(*hash)));
        }
        Some(token.chain)
    }

    fn drop_tokens(&mut self, over: &[TokenHash]) {
        for hash in over {
            let Some(id) = self.drop_token(hash) else { continue };
            if let Some(live) = self.chains.get_mut(&id) {
                live.tokens.retain(|other| other != hash);
            }
            self.forget_if_unreachable(id);
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
mod tests {
    use std::time::Duration;

    use super::*;
    use TerminalMethod::{CommandLinePin, Password, Pin, Unsecured};
    use TerminalRole::{Administrator, User};
    use TerminalToken::{Connection, Http, Overlay};

    const NOW: Timestamp = Timestamp::from_millis(1_900_000_000_000);
    const MONTH: u64 = 30 * 24 * 60 * 60;

    fn after(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    struct Terminal {
        sessions: Sessions,
        drawn: u16,
        now: Timestamp,
    }

    impl Terminal {
        fn new() -> Terminal {
            Terminal { sessions: Sessions::new(TerminalLives::default()), drawn: 0, now: NOW }
        }

        fn draw(&mut self, id: ChainId, kind: TerminalToken) -> TokenHash {
            self.drawn += 1;
            let mut hash = [0; 32];
            hash[..2].copy_from_slice(&self.drawn.to_be_bytes());
            self.sessions.issue(id, kind, hash, self.now).expect("the chain is in force");
            hash
        }

        fn all(&mut self, id: ChainId) -> [TokenHash; 3] {
            [Connection, Http, Overlay].map(|kind| self.draw(id, kind))
        }

        /// A connection is authorised and told a token of each kind; who is told something else.
        fn authorise(&mut self, connection: u64, role: TerminalRole, origin: Origin) -> ([TokenHash; 3], Told) {
            let (id, told) = self.sessions.authorise(ConnectionId(connection), role, origin, self.now).expect("it is in force");
            (self.all(id), told)
        }

        fn stand(&self, tokens: [TokenHash; 3]) -> String {
            let kinds = [(Connection, 'c'), (Http, 'h'), (Overlay, 'o')];
            let stands = |(hash, (kind, letter)): (TokenHash, (TerminalToken, char))| {
                self.sessions.find(&hash, &[kind], self.now).map(|_| letter)
            };
            tokens.into_iter().zip(kinds).filter_map(stands).collect()
        }

        fn role(&self, connection: u64) -> Option<TerminalRole> {
            self.sessions.held(ConnectionId(connection), self.now).map(|(_, chain)| chain.role)
        }

        fn back(&self, token: TokenHash) -> Option<Origin> {
            self.sessions.find(&token, &[Connection], self.now).map(|(id, _)| Origin::Back(id))
        }
    }

    #[test]
    fn whoever_is_displaced_keeps_what_leads_back_and_displaces_in_turn() {
        let mut terminal = Terminal::new();
        let (first, _) = terminal.authorise(1, Administrator, Origin::Anew(Password));
        let (user, told) = terminal.authorise(2, User, Origin::Anew(Password));
        assert!(told.is_empty(), "each role for itself");
        let (second, told) = terminal.authorise(3, Administrator, Origin::Anew(Password));
        assert_eq!(told, [(ConnectionId(1), Reason::Displaced)]);
        assert_eq!([first, user, second].map(|tokens| terminal.stand(tokens)), ["c", "cho", "cho"]);
        assert_eq!([1, 2, 3].map(|connection| terminal.role(connection)), [None, Some(User), Some(Administrator)]);
        terminal.now = after(1000);
        let back = terminal.back(first[0]).expect("it leads back");
        let (third, told) = terminal.authorise(1, Administrator, back);
        assert_eq!(told, [(ConnectionId(3), Reason::Displaced)]);
        // The one that was shown stays good beside its successor, and both end together.
        assert_eq!((terminal.stand(first), terminal.stand(third)), ("c".to_owned(), "cho".to_owned()));
        terminal.now = after(MONTH);
        let expired = [1, 2].map(|connection| (ConnectionId(connection), Reason::Expired));
        assert_eq!(terminal.sessions.expire(terminal.now), expired);
        assert_eq!([first, third, second, user].map(|tokens| terminal.stand(tokens)), [""; 4]);
        assert!(terminal.sessions.chains.is_empty() && terminal.sessions.tokens.is_empty() && terminal.role(2).is_none());
    }

    #[test]
    fn whoever_steps_down_never_comes_up_again_by_an_earlier_token() {
        let mut terminal = Terminal::new();
        let (first, _) = terminal.authorise(1, Administrator, Origin::Anew(Password));
        let back = terminal.back(first[0]).expect("it leads back");
        let (second, _) = terminal.authorise(2, Administrator, back);
        let (user, _) = terminal.authorise(3, User, Origin::Anew(Password));
        assert_eq!(terminal.sessions.narrow(ConnectionId(3), NOW), None, "a user cannot");
        assert_eq!(terminal.sessions.narrow(ConnectionId(9), NOW), None, "nor a stranger");
        terminal.now = after(60);
        let (id, told) = terminal.sessions.narrow(ConnectionId(2), terminal.now).expect("an administrator can");
        assert_eq!(told, [(ConnectionId(3), Reason::Displaced)]);
        let narrowed = terminal.all(id);
        assert_eq!([first, second, user, narrowed].map(|tokens| terminal.stand(tokens)), ["", "", "c", "cho"]);
        assert_eq!((terminal.role(2), terminal.back(first[0])), (Some(User), None));
        let (_, chain) = terminal.sessions.held(ConnectionId(2), terminal.now).expect("held");
        assert_eq!(chain.ends_at, Some(after(MONTH)), "and ends when it would have");
    }

    #[test]
    fn a_protection_that_is_set_ends_what_was_let_in_by_the_old_one() {
        let mut terminal = Terminal::new();
        let (administrator, _) = terminal.authorise(1, Administrator, Origin::Anew(Password));
        let (user, _) = terminal.authorise(2, User, Origin::Anew(Pin));
        let set = terminal.sessions.protection_set(ConnectionId(1), User, Protection::Pin, false, NOW);
        let reason = Reason::ProtectionChanged { of: User, by: Administrator };
        assert_eq!(set, Some((None, vec![(ConnectionId(2), reason)])));
        assert_eq!([administrator, user].map(|tokens| terminal.stand(tokens)), ["ch", ""]);
        let (user, _) = terminal.authorise(2, User, Origin::Anew(Pin));
        let set = terminal.sessions.protection_set(ConnectionId(2), User, Protection::Pin, false, NOW);
        let (id, told) = set.expect("a user may be there");
        assert!(told.is_empty(), "the caller goes on");
        let renewed = terminal.all(id.expect("in a new chain"));
        assert_eq!([user, renewed].map(|tokens| terminal.stand(tokens)), ["", "cho"]);
        let (_, chain) = terminal.sessions.held(ConnectionId(2), NOW).expect("held");
        assert_eq!((chain.method, chain.ends_at), (Pin, Some(after(MONTH / 30))));
        let set = terminal.sessions.protection_set(ConnectionId(1), Administrator, Protection::Unsecured, true, NOW);
        let (id, told) = set.expect("an administrator is there");
        assert_eq!((id.is_some(), told), (true, vec![(ConnectionId(2), Reason::ProtectionReset)]));
        assert_eq!([administrator, renewed].map(|tokens| terminal.stand(tokens)), ["", ""]);
        assert_eq!([1, 2].map(|connection| terminal.role(connection)), [Some(Administrator), None]);
        assert_eq!(terminal.sessions.protection_set(ConnectionId(2), User, Protection::Pin, false, NOW), None, "a stranger");
    }

    #[test]
    fn cleared_tokens_are_over_and_connections_stay() {
        let mut terminal = Terminal::new();
        let (administrator, _) = terminal.authorise(1, Administrator, Origin::Anew(Password));
        let (user, _) = terminal.authorise(2, User, Origin::Anew(Password));
        assert!(terminal.sessions.follow(&Change::Cleared, Some(ConnectionId(1))).is_empty());
        assert_eq!([administrator, user].map(|tokens| terminal.stand(tokens)), ["", ""]);
        assert_eq!([1, 2].map(|connection| terminal.role(connection)), [Some(Administrator), Some(User)]);
        let (id, _) = terminal.sessions.held(ConnectionId(2), NOW).expect("held");
        let further = terminal.draw(id, Http);
        assert!(terminal.sessions.find(&further, &[Http], NOW).is_some(), "and may have new ones");
        assert_eq!(terminal.sessions.follow(&Change::PlanLost, None), [(ConnectionId(2), Reason::PlanLost)]);
        assert!(terminal.sessions.find(&further, &[Http], NOW).is_none());
    }

    #[test]
    fn a_connection_that_is_gone_leaves_its_role_free_and_its_tokens_good() {
        let mut terminal = Terminal::new();
        let (tokens, _) = terminal.authorise(1, User, Origin::Anew(Unsecured));
        terminal.sessions.gone(ConnectionId(1));
        assert_eq!((terminal.role(1), terminal.stand(tokens)), (None, "cho".to_owned()));
        let back = terminal.back(tokens[0]).expect("it leads back");
        assert!(terminal.authorise(2, User, back).1.is_empty(), "nobody was there");
        assert_eq!(terminal.sessions.authorise(ConnectionId(3), Administrator, back, NOW), None, "a token is of one role");
    }

    #[test]
    fn a_kind_of_token_is_never_taken_for_another_and_each_ends_in_its_time() {
        let mut terminal = Terminal::new();
        let (tokens, _) = terminal.authorise(1, User, Origin::Anew(Password));
        for (place, own) in [Connection, Http, Overlay].into_iter().enumerate() {
            for kind in [Connection, Http, Overlay] {
                assert_eq!(terminal.sessions.find(&tokens[place], &[kind], NOW).is_some(), kind == own);
            }
        }
        assert_eq!(terminal.sessions.next_end(), Some(after(300)));
        terminal.now = after(300);
        assert_eq!(terminal.stand(tokens), "co", "before anybody has looked");
        assert!(terminal.sessions.expire(terminal.now).is_empty());
        assert_eq!(terminal.sessions.next_end(), Some(after(MONTH)));
        let (by_pin, _) = terminal.authorise(2, Administrator, Origin::Anew(CommandLinePin));
        terminal.now = after(20 * MONTH);
        terminal.sessions.expire(terminal.now);
        assert_eq!((terminal.stand(tokens), terminal.stand(by_pin)), (String::new(), "cho".to_owned()));
        assert_eq!(terminal.sessions.next_end(), None);
    }

    #[test]
    fn what_can_be_repeated_for_ever_pushes_out_the_oldest_of_its_kind() {
        let mut terminal = Terminal::new();
        let (kept, _) = terminal.authorise(1, Administrator, Origin::Anew(Password));
        let (first, _) = terminal.authorise(2, User, Origin::Anew(Pin));
        let (id, _) = terminal.sessions.held(ConnectionId(2), NOW).expect("held");
        for _ in 0..500 {
            terminal.draw(id, Http);
        }
        assert_eq!(terminal.stand(first), "co", "the first for files is over");
        assert_eq!(terminal.sessions.chains[&id].tokens.len(), MOST_TOKENS + 2);
        for connection in 3..500 {
            terminal.authorise(connection, User, Origin::Anew(Unsecured));
        }
        assert_eq!([kept, first].map(|tokens| terminal.stand(tokens)), ["cho", ""]);
        assert_eq!(terminal.sessions.chains.len(), MOST_CHAINS + 1);
        assert!(terminal.sessions.tokens.len() <= 3 * (MOST_CHAINS + 1));
        assert_eq!((terminal.role(1), terminal.role(499)), (Some(Administrator), Some(User)));
    }

    /// What must hold at any moment: what ends stands in order, each thing once, and no chain is kept that nothing leads to.
    fn check(sessions: &Sessions) {
        let chains = sessions.chains.iter().filter_map(|(id, live)| Some((live.chain.ends_at?, Ending::Chain(*id))));
        let tokens = sessions.tokens.iter().filter_map(|(hash, token)| Some((token.ends_at?, Ending::Token(*hash))));
        assert_eq!(sessions.ends, chains.chain(tokens).collect());
        for (id, live) in &sessions.chains {
            let held = sessions.holders.iter().filter(|(_, other)| other == id).count();
            assert!(held == 1 || (held == 0 && !live.tokens.is_empty()), "{id:?} is held by {held}");
            assert!(live.tokens.iter().all(|hash| sessions.tokens.get(hash).is_some_and(|token| token.chain == *id)));
        }
        assert_eq!(sessions.tokens.len(), sessions.chains.values().map(|live| live.tokens.len()).sum::<usize>());
        assert!(sessions.holders.iter().all(|(_, id)| sessions.chains.contains_key(id)));
    }

    /// Something that happens at a terminal, drawn by chance.
    fn happen(terminal: &mut Terminal, tokens: &mut Vec<[TokenHash; 3]>, what: u8, which: u8) {
        let now = terminal.now;
        let connection = ConnectionId(u64::from(which % 5));
        let role = if which & 8 == 0 { User } else { Administrator };
        let set = |terminal: &mut Terminal, to| terminal.sessions.protection_set(connection, role, to, which & 16 == 0, now);
        let authorised = match what % 10 {
            0 | 1 => {
                let method = [Unsecured, Password, Pin, CommandLinePin][usize::from(which / 64)];
                terminal.sessions.authorise(connection, role, Origin::Anew(method), now).map(|(id, _)| id)
            }
            2 => {
                let back = tokens.get(usize::from(which) % tokens.len().max(1)).and_then(|[token, ..]| terminal.back(*token));
                back.and_then(|back| terminal.sessions.authorise(connection, role, back, now)).map(|(id, _)| id)
            }
            3 => terminal.sessions.narrow(connection, now).map(|(id, _)| id),
            4 => terminal.sessions.held(connection, now).map(|(id, _)| id),
            5 => set(terminal, [Protection::Password, Protection::Pin][usize::from(which / 128)]).and_then(|(id, _)| id),
            6 => {
                let changes = [Change::Cleared, Change::PlanLost, Change::PictureChanged];
                terminal.sessions.follow(&changes[usize::from(which) % 3], Some(connection));
                None
            }
            7 => {
                terminal.sessions.gone(connection);
                None
            }
            8 => {
                terminal.sessions.forget(&tokens.iter().skip(usize::from(which)).take(1).copied().collect::<Vec<_>>().concat());
                None
            }
            _ => {
                let spans = [1, 299, 300, MONTH / 30, MONTH - 1, MONTH];
                terminal.now = now.after(Duration::from_secs(spans[usize::from(which) % spans.len()]));
                None
            }
        };
        tokens.extend(authorised.map(|id| terminal.all(id)));
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn what_ends_stands_in_order_and_time_ends_that_and_nothing_else(happens: Vec<(u8, u8)>) {
            let (mut terminal, mut tokens) = (Terminal::new(), Vec::new());
            for (what, which) in happens {
                happen(&mut terminal, &mut tokens, what, which);
                check(&terminal.sessions);
                let (now, before) = (terminal.now, terminal.sessions.ends.clone());
                let next = terminal.sessions.next_end();
                assert_eq!(next, before.iter().map(|(end, _)| *end).min());
                let holders = terminal.sessions.holders.clone();
                let over = |id: &ChainId| is_over(terminal.sessions.chains[id].chain.ends_at, now);
                let mut lost: Vec<_> = holders.iter().filter(|(_, id)| over(id)).map(|(holder, _)| *holder).collect();
                let mut told: Vec<_> = terminal.sessions.expire(now).into_iter().map(|(holder, _)| holder).collect();
                told.sort();
                lost.sort();
                assert_eq!(told, lost);
                check(&terminal.sessions);
                assert!(terminal.sessions.next_end().is_none_or(|end| end > now));
                if next.is_none_or(|next| next > now) {
                    assert_eq!(terminal.sessions.ends, before);
                }
            }
        }
    }

    #[test]
    fn time_looks_at_nothing_but_what_is_over() {
        let mut terminal = Terminal::new();
        for connection in 0..40 {
            terminal.authorise(connection, User, Origin::Anew(Password));
        }
        // What is not over is made unfindable: a look at it would find that it does not add up.
        let later = terminal.sessions.ends.split_off(&(after(301), Ending::Chain(ChainId(0))));
        let (chains, tokens) = (terminal.sessions.chains.len(), terminal.sessions.tokens.len());
        assert!(terminal.sessions.expire(after(20 * MONTH)).is_empty());
        assert_eq!(terminal.sessions.chains.len(), chains);
        // That of the one who was not displaced.
        assert_eq!(terminal.sessions.tokens.len(), tokens - 1);
        terminal.sessions.ends = later;
        assert_eq!(terminal.sessions.expire(after(20 * MONTH)), [(ConnectionId(39), Reason::Expired)]);
        assert!(terminal.sessions.chains.is_empty() && terminal.sessions.tokens.is_empty());
    }
}
