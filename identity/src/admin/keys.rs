//! The keys that sign, at the operators' door: made, taken over from an application, retired.

use std::time::Duration;

use super::{Admin, no_such};
use crate::access::revocation_of;
use crate::audit::AuditEntry;
use crate::keyring::{KeyAlgorithm, Purpose, Retired, SigningKey, draw_key, import_key};
use crate::refusal::Refusal;
use crate::secret::Secret;

/// How long a number stays revoked that an operator has named: 100 years.
const FOR_GOOD: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Admin<'_> {
    /// Makes a key, which signs from now on. The one that it takes the place of verifies until it is retired and its time is over.
    ///
    /// # Errors
    /// [`Refusal::Invalid`].
    pub async fn add_key(&self, algorithm: KeyAlgorithm) -> Result<SigningKey, Refusal> {
        let key = draw_key(algorithm, self.core.clock.now(), &*self.core.entropy).map_err(|fault| Refusal::Invalid(vec![fault]))?;
        self.keep_key(key, "key_add").await
    }

    /// Takes over a key with which an application has signed; it signs from now on.
    ///
    /// # Errors
    /// [`Refusal::Invalid`].
    pub async fn import_key(&self, algorithm: KeyAlgorithm, text: &Secret) -> Result<SigningKey, Refusal> {
        let key = import_key(algorithm, text, self.core.clock.now()).map_err(|fault| Refusal::Invalid(vec![fault]))?;
        self.keep_key(key, "key_import").await
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn keys(&self) -> Result<Vec<SigningKey>, Refusal> {
        Ok(self.core.store.keys().await?)
    }

    /// Retires a key: it signs no more, and what it has signed is verified until none of that can live, or, with `now`, no more.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; [`Refusal::Invalid`] for the last key of our own, without which nothing could be said of this server.
    pub async fn retire_key(&self, number: u64, now: bool) -> Result<SigningKey, Refusal> {
        let keys = self.keys().await?;
        let key = keys.iter().find(|key| key.number == number).ok_or(no_such("key"))?;
        let others = keys.iter().any(|other| other.number != number && other.purpose == Purpose::Own && other.retired.is_none());
        if key.purpose == Purpose::Own && !others {
            let fault = "it is the last key with which this server speaks of itself; make another one first";
            return Err(Refusal::Invalid(vec![fault.to_owned()]));
        }
        let at = self.core.clock.now();
        let life = self.core.settings().sessions.signed_life(key.purpose);
        let until = if now { at } else { key.retired.map_or(at, |retired| retired.at).after(life) };
        let retired = Retired { at, until };
        self.core.store.retire_key(number, retired, self.entry("key_retire")).await?;
        self.core.changed().await;
        let keys = self.keys().await?;
        keys.into_iter().find(|key| key.number == number).ok_or(no_such("key"))
    }

    /// Says that every access or refresh token of this number (`jti`) is no longer good, whoever has signed it.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn revoke_token(&self, number: &str) -> Result<(), Refusal> {
        // Whoever had the key before us may have signed for longer than we do, and nobody knows who bears the number.
        let until = self.core.clock.now().after(FOR_GOOD);
        let entry = AuditEntry { name: Some(number.to_owned()), ..self.entry("token_revoke") };
        self.core.store.revoke_signed(revocation_of(number), until, entry).await?;
        self.core.changed().await;
        Ok(())
    }

    async fn keep_key(&self, key: SigningKey, action: &'static str) -> Result<SigningKey, Refusal> {
        let entry: AuditEntry = self.entry(action);
        let number = self.core.store.add_key(key.clone(), entry).await?;
        self.core.changed().await;
        Ok(SigningKey { number, ..key })
    }
}
