//! A terminal that is served here: as it is kept, what is in force on it, and where events wait for its connections.
//!
//! One lock holds all of it, so that nobody is let in by a protection that has just changed. What was kept is on disk before it is
//! here; what is in force is here only and ends with the process. It refuses to decide: the tables are `terminal/`'s.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attachment::{Attachment, Mailbox, Place};
use crate::clock::Timestamp;
use crate::command::ConnectionId;
use crate::reply::{Event, Reason};
use crate::secret::Secret;
use crate::store::{StoredTerminal, TokenHash};
use crate::terminal::chain::{Change, TerminalLives};
use crate::terminal::sessions::{Sessions, Told};
use crate::terminal::{Facts, Plan, Terminal, TerminalName, TerminalRole};

/// A terminal that is served here.
pub(crate) struct Served {
    name: TerminalName,
    command_line_pin: Option<Secret>,
    /// Held by whoever changes what is kept, from the look to the write.
    pub(crate) changing: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

/// What is behind the lock.
pub(crate) struct State {
    pub(crate) kept: StoredTerminal,
    pub(crate) sessions: Sessions,
    mailboxes: HashMap<ConnectionId, (u64, Arc<Mailbox>)>,
    last_number: u64,
}

/// What befell connections and waits to be told them.
#[derive(Default)]
pub(crate) struct Untold(Vec<(Arc<Mailbox>, Event)>);

impl Untold {
    /// Whether there is nothing to tell.
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells it.
    pub(crate) fn tell(self) {
        for (mailbox, event) in self.0 {
            mailbox.put(event);
        }
    }
}

impl Served {
    /// As it is kept, and nobody there.
    pub(crate) fn new(kept: StoredTerminal, command_line_pin: Option<Secret>, lives: TerminalLives) -> Served {
        let name = kept.name.clone();
        let state = State { kept, sessions: Sessions::new(lives), mailboxes: HashMap::new(), last_number: 0 };
        Served { name, command_line_pin, changing: Arc::default(), state: Mutex::new(state) }
    }

    /// Issues for other lives from now on. What is issued already ends when it was to.
    pub(crate) fn resettle(&self, lives: TerminalLives) {
        self.state().sessions.live_by(lives);
    }

    /// Its name.
    pub(crate) fn name(&self) -> &TerminalName {
        &self.name
    }

    /// What is behind the lock. Nothing may be waited for while it is held.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is now, with the version that this was read at.
    pub(crate) fn view(&self) -> (Terminal, u64) {
        let state = self.state();
        (state.kept.with(self.command_line_pin.clone()), state.kept.version)
    }

    /// Ties a connection to it, in the place of what it held. To be called with the lock that gave it a role.
    pub(crate) fn attach(self: &Arc<Served>, state: &mut State, connection: ConnectionId) -> Attachment {
        state.last_number += 1;
        let (number, mailbox) = (state.last_number, Arc::new(Mailbox::default()));
        state.mailboxes.insert(connection, (number, Arc::clone(&mailbox)));
        Attachment { place: Place::Terminal(Arc::clone(self)), connection, number, mailbox }
    }

    /// Follows what is on disk by now: another plan, or another protection of a role, set by an operator or by somebody who is no
    /// longer there.
    pub(crate) fn follow(&self, kept: StoredTerminal, changed: Option<Change>) -> Untold {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.kept, kept);
        let plan = state.kept.plan;
        let mut untold = Untold::default();
        if let Some(change) = changed {
            let told = state.sessions.follow(&change, None);
            untold.0.extend(state.untold(told).0);
        }
        if before.plan != plan {
            let change = match plan {
                Plan::Free => Some(Change::PlanLost),
                Plan::Pro => self.facts(&state).map(Change::PlanGained),
            };
            let told = change.map(|change| state.sessions.follow(&change, None)).unwrap_or_default();
            untold.0.extend(state.untold(told).0);
            let holders = state.sessions.connections();
            let still = holders.iter().filter_map(|holder| state.mailboxes.get(holder));
            let events: Vec<_> = still.map(|(_, mailbox)| (Arc::clone(mailbox), Event::Plan(plan))).collect();
            untold.0.extend(events);
        }
        untold
    }

    /// Ends what is over by now, and tells whoever loses the authorisation by it.
    pub(crate) fn expire(&self, now: Timestamp) {
        let mut state = self.state();
        if state.sessions.next_end().is_none_or(|end| end > now) {
            return;
        }
        let told = state.sessions.expire(now);
        let untold = state.untold(told);
        drop(state);
        untold.tell();
    }

    /// Forgets tokens that nobody was told after all.
    pub(crate) fn take_back(&self, tokens: &[TokenHash]) {
        self.state().sessions.forget(tokens);
    }

    /// Whether a connection holds a role.
    pub(super) fn is_held_by(&self, connection: ConnectionId) -> bool {
        self.state().sessions.is_held_by(connection)
    }

    /// How many connections hold a role.
    pub(crate) fn attached(&self) -> usize {
        self.state().sessions.connections().len()
    }

    pub(super) fn detach_dropped(&self, connection: ConnectionId, number: u64) {
        let mut state = self.state();
        if state.mailboxes.get(&connection).is_some_and(|(held, _)| *held == number) {
            state.mailboxes.remove(&connection);
            state.sessions.gone(connection);
        }
    }

    /// What decisions about it rest on.
    pub(crate) fn facts(&self, state: &State) -> Option<Facts> {
        let StoredTerminal { plan, administrator, user, .. } = &state.kept;
        Facts::of(*plan, (administrator, user), self.command_line_pin.is_some())
    }
}

impl State {
    /// Where what `told` says waits. Bound to the connections as they are now: one that comes back meanwhile has nothing to learn.
    pub(crate) fn untold(&self, told: Told) -> Untold {
        let to = |(connection, reason): (ConnectionId, Reason)| {
            let (_, mailbox) = self.mailboxes.get(&connection)?;
            Some((Arc::clone(mailbox), Event::Detached(reason)))
        };
        Untold(told.into_iter().filter_map(to).collect())
    }

    /// The role that a connection holds.
    pub(crate) fn role(&self, connection: Option<ConnectionId>, now: Timestamp) -> Option<TerminalRole> {
        connection.and_then(|connection| self.sessions.held(connection, now)).map(|(_, chain)| chain.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::chain::TerminalMethod;
    use crate::terminal::sessions::Origin;
    use crate::terminal::{Guard, TerminalRole};

    fn served() -> Arc<Served> {
        let name = TerminalName::parse("hall").expect("a name");
        let kept = StoredTerminal { name, plan: Plan::Pro, administrator: Guard::Unsecured, user: Guard::Unsecured, version: 1 };
        Arc::new(Served::new(kept, None, TerminalLives::default()))
    }

    fn event(attachment: &Attachment) -> Option<Event> {
        let waker = std::task::Waker::noop();
        match attachment.poll_next(&mut std::task::Context::from_waker(waker)) {
            std::task::Poll::Ready(event) => Some(event),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn what_was_to_be_told_does_not_reach_whoever_has_come_back_meanwhile() {
        let served = served();
        let now = Timestamp::from_millis(1_900_000_000_000);
        let come = |connection: u64| {
            let mut state = served.state();
            let role = TerminalRole::Administrator;
            let origin = Origin::Anew(TerminalMethod::Unsecured);
            let (_, told) = state.sessions.authorise(ConnectionId(connection), role, origin, now).expect("it is free to come");
            let untold = state.untold(told);
            (served.attach(&mut state, ConnectionId(connection)), untold)
        };
        let (first, _) = come(1);
        let (second, displaces_first) = come(2);
        let (back, displaces_second) = come(1);
        assert_eq!([&first, &second, &back].map(Attachment::is_over), [false, true, false], "before anybody is told");
        displaces_first.tell();
        displaces_second.tell();
        assert_eq!([event(&back), event(&second)], [None, Some(Event::Detached(Reason::Displaced))]);
        drop(first);
        assert_eq!(served.state().role(Some(ConnectionId(1)), now), Some(TerminalRole::Administrator), "an old tie holds nothing");
        drop(back);
        assert_eq!(served.attached(), 0);
    }

    #[test]
    fn a_plan_that_changes_is_told_to_whoever_stays() {
        let served = served();
        let now = Timestamp::from_millis(1_900_000_000_000);
        let come = |connection: u64, role| {
            let mut state = served.state();
            let origin = Origin::Anew(TerminalMethod::Unsecured);
            state.sessions.authorise(ConnectionId(connection), role, origin, now).expect("it is free to come");
            served.attach(&mut state, ConnectionId(connection))
        };
        let administrator = come(1, TerminalRole::Administrator);
        let user = come(2, TerminalRole::User);
        let kept = StoredTerminal { plan: Plan::Free, version: 2, ..served.state().kept.clone() };
        served.follow(kept, None).tell();
        assert_eq!(event(&administrator), Some(Event::Plan(Plan::Free)));
        assert_eq!(event(&user), Some(Event::Detached(Reason::PlanLost)));
    }
}
