//! What is in force on a terminal, however it comes about: who holds what, which tokens lead back, and what ends in which order.

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
        self.sessions.find(&token, &[Connection], self.now).map(|_| Origin::Back(token))
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
    assert_eq!(terminal.sessions.chains[&id].tokens.iter().count(), MOST_TOKENS + 2);
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
        assert!(live.tokens.iter().all(|(_, hash)| sessions.tokens.get(&hash).is_some_and(|token| token.chain == *id)));
    }
    assert_eq!(sessions.tokens.len(), sessions.chains.values().map(|live| live.tokens.iter().count()).sum::<usize>());
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

#[test]
fn whoever_begins_another_chain_gives_up_the_one_it_held() {
    let mut terminal = Terminal::new();
    let (first, _) = terminal.authorise(1, Administrator, Origin::Anew(Password));
    let (second, told) = terminal.authorise(1, Administrator, Origin::Anew(CommandLinePin));
    assert!(told.is_empty(), "it has displaced nobody");
    assert_eq!([first, second].map(|tokens| terminal.stand(tokens)), ["", "cho"]);
    let (user, _) = terminal.authorise(1, User, Origin::Anew(Password));
    assert_eq!([second, user].map(|tokens| terminal.stand(tokens)), ["", "cho"]);
    let back = terminal.back(user[0]).expect("it leads back");
    let (again, _) = terminal.authorise(1, User, back);
    assert_eq!([user, again].map(|tokens| terminal.stand(tokens)), ["cho", "cho"], "in the same chain nothing is given up");
    check(&terminal.sessions);
}

#[test]
fn stepping_down_ends_what_the_connection_was_displaced_from_too() {
    let mut terminal = Terminal::new();
    let (first, _) = terminal.authorise(1, Administrator, Origin::Anew(Password));
    let (other, _) = terminal.authorise(2, Administrator, Origin::Anew(Password));
    assert_eq!(terminal.stand(first), "c");
    let (second, _) = terminal.authorise(1, Administrator, Origin::Anew(Password));
    terminal.sessions.narrow(ConnectionId(1), NOW).expect("an administrator can");
    assert_eq!([first, second, other].map(|tokens| terminal.stand(tokens)), ["", "", "c"]);
    // One that is gone leaves what it was told to whoever comes back with it.
    let back = terminal.back(other[0]).expect("it leads back");
    terminal.authorise(3, Administrator, back);
    terminal.authorise(4, Administrator, Origin::Anew(Password));
    terminal.sessions.gone(ConnectionId(3));
    terminal.authorise(3, Administrator, Origin::Anew(Password));
    terminal.sessions.narrow(ConnectionId(3), NOW).expect("an administrator can");
    assert_eq!(terminal.stand(other), "c");
    terminal.sessions.gone(ConnectionId(2));
    assert!(terminal.sessions.before.keys().all(|connection| *connection == ConnectionId(4)), "nothing is left of who is gone");
}

#[test]
fn a_token_that_is_over_when_the_role_is_given_gives_none() {
    let mut terminal = Terminal::new();
    let (tokens, _) = terminal.authorise(1, Administrator, Origin::Anew(Password));
    let back = terminal.back(tokens[0]).expect("it leads back");
    // It was looked up, and then everything was cleared; the chain goes on, since a connection holds it.
    terminal.sessions.follow(&Change::Cleared, Some(ConnectionId(1)));
    assert_eq!(terminal.sessions.authorise(ConnectionId(2), Administrator, back, NOW), None);
    assert_eq!(terminal.role(1), Some(Administrator));
    let (tokens, _) = terminal.authorise(2, User, Origin::Anew(Password));
    for hash in [tokens[1], tokens[2]] {
        assert_eq!(terminal.sessions.authorise(ConnectionId(3), User, Origin::Back(hash), NOW), None, "of another kind");
    }
}

#[test]
fn the_token_that_somebody_comes_back_with_is_never_pushed_out_by_its_successors() {
    let mut terminal = Terminal::new();
    let (first, _) = terminal.authorise(1, Administrator, Origin::Anew(Password));
    let mut last = first;
    for number in 0..10 * MOST_TOKENS {
        let back = terminal.back(first[0]).unwrap_or_else(|| panic!("return {number}"));
        last = terminal.authorise(1, Administrator, back).0;
    }
    assert_eq!([first, last].map(|tokens| terminal.back(tokens[0]).is_some()), [true, true]);
    // Whoever comes back with the newest each time pushes out what was used longest ago.
    for _ in 0..10 * MOST_TOKENS {
        let back = terminal.back(last[0]).expect("the newest");
        last = terminal.authorise(1, Administrator, back).0;
    }
    assert_eq!([first, last].map(|tokens| terminal.back(tokens[0]).is_some()), [false, true]);
    check(&terminal.sessions);
}
