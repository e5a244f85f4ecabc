//! Terminals at the operators' door: which there are, on which plan, and how their roles are protected.
//!
//! What an operator changes counts at once for whoever is there. What is kept and what is in force are changed one after the other
//! by one hand at a time, whether it is an operator's or that of somebody at the terminal.

use std::sync::Arc;

use super::{Admin, written};
use crate::audit::AuditEntry;
use crate::clock::Timestamp;
use crate::live::served::Served;
use crate::panel::Protecting;
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::store::{Placed, Store, StoreError, StoredTerminal};
use crate::terminal::chain::Change;
use crate::terminal::{Guard, NewProtection, Plan, TerminalName, TerminalRole};

/// A terminal, with what an operator wants to know beside it.
#[derive(Clone, Debug)]
pub struct TerminalView {
    /// As it is kept.
    pub terminal: StoredTerminal,
    /// Whether it is served now.
    pub is_served: bool,
    /// How many connections hold a role of it now.
    pub connections: usize,
}

/// A terminal that is served or changed for the first time, as it is kept from now on: of the larger plan, so that whoever comes first can
/// protect it, and open until then.
pub(crate) async fn first_terminal(store: &dyn Store, name: &TerminalName, now: Timestamp) -> Result<StoredTerminal, StoreError> {
    let fresh = fresh(name.clone(), Plan::Pro);
    let entry = AuditEntry { name: Some(name.as_str().to_owned()), ..AuditEntry::new(now, "terminal_add", "core") };
    match store.add_terminal(fresh.clone(), entry).await? {
        Placed::Done => Ok(fresh),
        Placed::Taken(_) | Placed::Stale => {
            Err(StoreError(format!("the terminal {} came from elsewhere meanwhile", name.as_str())))
        }
    }
}

fn fresh(name: TerminalName, plan: Plan) -> StoredTerminal {
    StoredTerminal { name, plan, administrator: Guard::Unsecured, user: Guard::Unsecured, version: 1 }
}

impl Admin<'_> {
    /// Adds a terminal, which nothing protects yet.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::AlreadyExists`].
    pub async fn add_terminal(&self, name: &str, plan: Plan) -> Result<TerminalView, Refusal> {
        let fresh = fresh(parse(name)?, plan);
        let entry = self.about_terminal("terminal_add", &fresh.name, None);
        match self.core.store.add_terminal(fresh.clone(), entry).await? {
            Placed::Done => Ok(self.view(fresh)),
            Placed::Taken(_) => Err(Refusal::AlreadyExists("terminal")),
            Placed::Stale => Err(Refusal::Unavailable),
        }
    }

    /// All terminals, by name.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn terminals(&self) -> Result<Vec<TerminalView>, Refusal> {
        Ok(self.core.store.terminals().await?.into_iter().map(|terminal| self.view(terminal)).collect())
    }

    /// One terminal.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Invalid`].
    pub async fn terminal(&self, name: &str) -> Result<TerminalView, Refusal> {
        Ok(self.view(self.stored_terminal(&parse(name)?).await?))
    }

    /// Protects a role otherwise. Answers the PIN, where one was drawn.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; [`Refusal::PlanRequired`]; [`Refusal::Invalid`] where the user alone would be secured.
    pub async fn protect_terminal(
        &self,
        name: &str,
        of: TerminalRole,
        to: NewProtection,
    ) -> Result<(TerminalView, Option<Secret>), Refusal> {
        let name = parse(name)?;
        let served = self.core.terminals.get(&name);
        let _turn = turn(served).await;
        let kept = self.stored_or_named(&name).await?;
        let by = Some(TerminalRole::Administrator);
        let protecting = self.core.protecting(&kept.with(None), kept.clone(), by, of, to, false).await?;
        let Protecting { kept, change, new_pin } = protecting;
        let entry = self.about_terminal("terminal_protect", &name, Some(of));
        Ok((self.keep_terminal(served, kept, Some(change), entry).await?, new_pin))
    }

    /// Puts a terminal on another plan.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Invalid`].
    pub async fn set_terminal_plan(&self, name: &str, plan: Plan) -> Result<TerminalView, Refusal> {
        let name = parse(name)?;
        let served = self.core.terminals.get(&name);
        let _turn = turn(served).await;
        let kept = StoredTerminal { plan, ..self.stored_or_named(&name).await? };
        let entry = self.about_terminal("terminal_plan", &name, None);
        self.keep_terminal(served, kept, None, entry).await
    }

    /// Removes a terminal.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; [`Refusal::Invalid`] while it is served.
    pub async fn remove_terminal(&self, name: &str) -> Result<TerminalView, Refusal> {
        let name = parse(name)?;
        let kept = self.stored_terminal(&name).await?;
        if self.core.terminals.contains_key(&name) {
            return Err(Refusal::Invalid(vec!["it is served; take it out of the settings and start anew first".to_owned()]));
        }
        let entry = self.about_terminal("terminal_remove", &name, None);
        written(self.core.store.remove_terminal(name, kept.version, entry).await?)?;
        Ok(self.view(kept))
    }

    async fn keep_terminal(
        &self,
        served: Option<&Arc<Served>>,
        kept: StoredTerminal,
        change: Option<Change>,
        entry: AuditEntry,
    ) -> Result<TerminalView, Refusal> {
        written(self.core.store.change_terminal(kept.clone(), entry).await?)?;
        let kept = StoredTerminal { version: kept.version + 1, ..kept };
        if let Some(served) = served {
            served.follow(kept.clone(), change).tell();
        }
        Ok(self.view(kept))
    }

    async fn stored_terminal(&self, name: &TerminalName) -> Result<StoredTerminal, Refusal> {
        let all = self.core.store.terminals().await?;
        all.into_iter().find(|kept| kept.name == *name).ok_or(Refusal::NotFound("terminal"))
    }

    /// One that is kept, or that the settings name, so that it can be protected before it is served for the first time.
    async fn stored_or_named(&self, name: &TerminalName) -> Result<StoredTerminal, Refusal> {
        match self.stored_terminal(name).await {
            Err(Refusal::NotFound(_)) if self.core.settings().terminals.terminals.iter().any(|(named, _)| named == name) => {
                Ok(first_terminal(&*self.core.store, name, self.core.clock.now()).await?)
            }
            kept => kept,
        }
    }

    fn view(&self, terminal: StoredTerminal) -> TerminalView {
        let served = self.core.terminals.get(&terminal.name);
        TerminalView { is_served: served.is_some(), connections: served.map_or(0, |served| served.attached()), terminal }
    }

    fn about_terminal(&self, action: &'static str, name: &TerminalName, of: Option<TerminalRole>) -> AuditEntry {
        let name = of.map_or_else(|| name.as_str().to_owned(), |of| format!("{}/{}", name.as_str(), of.word()));
        AuditEntry { name: Some(name), ..self.entry(action) }
    }
}

/// Holds the terminal's place for changes, where it is served.
async fn turn(served: Option<&Arc<Served>>) -> Option<tokio::sync::OwnedMutexGuard<()>> {
    match served {
        Some(served) => Some(Arc::clone(&served.changing).lock_owned().await),
        None => None,
    }
}

fn parse(name: &str) -> Result<TerminalName, Refusal> {
    TerminalName::parse(name).map_err(|what| Refusal::Invalid(vec![what.to_string()]))
}
