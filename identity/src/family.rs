//! Families: the refresh tokens that grow from one login, one after the other, where a gate has them rotate.
//!
//! A family is a record of which of its tokens is the present one; of none is the text kept, since the present one is signed
//! again from the record, to the same text, for whoever shows the one before it in time. So of a hundred refreshes at once each
//! is answered with the same successor, and so is whoever lost an answer and asks again. Whoever shows an older one has a copy
//! that somebody else has used: nobody can tell which of the two is the owner, so all that grew from that login ends.
//!
//! ```text
//! token 1 --shown--> token 2 --shown, later than the overlap--> token 3
//!    `--shown again within the overlap: token 2, as it is told to everybody
//!    `--shown again after it: the family is no more
//! ```
//!
//! It refuses to know how a token is signed.

use std::time::Duration;

use crate::Core;
use crate::access::Signed;
use crate::account::AccountId;
use crate::clock::{Timestamp, draw};
use crate::command::Context;
use crate::credential::About;
use crate::refusal::Refusal;
use crate::reply::Principal;
use crate::store::{TokenHash, Written};

/// How many families one account may have. Past it, the one that was used longest ago ends.
pub const MOST_FAMILIES: usize = 1000;

/// A family, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its id: 32 bytes of chance; or, where it began with a token that was not signed for a family, the hash of what was signed.
    pub id: TokenHash,
    /// Whose it is. It goes with the account, and with whatever ends all that the account has.
    pub account: AccountId,
    /// Whether it began with a token that was not signed for it, so that its end must be remembered for as long as that lives.
    pub adopted: bool,
    /// The number of the present token, below zero; 0: of one that was adopted.
    pub current: i64,
    /// When the present token was signed: a whole second.
    pub issued_at: Timestamp,
    /// The number of the token before it, and when that was first shown.
    pub previous: Option<(i64, Timestamp)>,
    /// When all of its tokens end: with the first one.
    pub expires_at: Timestamp,
}

/// What a token of a family is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the present one, and gets a successor when it is shown.
    Current,
    /// The present one is told in its place: it is the one before it and was so a moment ago, or it is young itself.
    Told,
    /// It was used before by whoever has the present one now.
    Reused,
}

impl Family {
    /// What the token of this number is worth at `now`.
    ///
    /// A token that is no older than the overlap gets no successor, so that there is never more than one before it that is
    /// still good: whoever refreshes without a pause makes no record grow.
    pub(crate) fn standing(&self, number: i64, overlap: Duration, now: Timestamp) -> Standing {
        let is_young = self.previous.is_some_and(|(_, at)| now <= at.after(overlap));
        match (self.current == number, is_young) {
            (true, false) => Standing::Current,
            (true, true) => Standing::Told,
            (false, true) if self.previous.is_some_and(|(previous, _)| previous == number) => Standing::Told,
            (false, _) => Standing::Reused,
        }
    }
}

impl Core {
    /// Begins the family of somebody who has logged in.
    pub(crate) async fn begin_family(&self, principal: &Principal) -> Result<Family, Refusal> {
        let (account, issued_at) = self.to_be_signed_for(principal).await?;
        let family = Family {
            id: draw(&*self.entropy),
            account: account.id,
            adopted: false,
            current: -self.next_number().await?,
            issued_at,
            previous: None,
            expires_at: self.signed_ends(self.settings().sessions.refresh_life, principal, &account),
        };
        match self.store.put_family(family.clone(), None, account.cut_off).await? {
            Written::Done => Ok(family),
            Written::Stale => Err(Refusal::Revoked),
        }
    }

    /// Whether a refresh token is still one of its family's. One that is not was used by two, and ends it.
    pub(crate) async fn stands_in_family(&self, shown: &Signed, context: &Context, about: &mut About) -> Result<(), Refusal> {
        if !shown.has_family() && !self.settings().rotates_refresh(context.gate) {
            return Ok(());
        }
        let (id, number) = shown.place();
        match self.store.family(&id).await? {
            Some(family) => self.judged(&family, number, context, about).await.map(|_| ()),
            // Memory may know the token while its family is gone.
            None if shown.has_family() => Err(Refusal::Revoked),
            // It was signed before they rotated, or by whoever had the key before us; it begins a family when it is renewed.
            None => Ok(()),
        }
    }

    /// The family of a refresh token that is shown to be renewed, as it then is: it goes on where that is due. Of many who show the
    /// same token at once one makes it go on, and the others find that it has.
    pub(crate) async fn present_in_family(
        &self,
        shown: &Signed,
        principal: &Principal,
        context: &Context,
    ) -> Result<Family, Refusal> {
        let (id, number) = shown.place();
        loop {
            let (account, issued_at) = self.to_be_signed_for(principal).await?;
            let stored = self.store.family(&id).await?;
            let was = stored.as_ref().map(|family| family.current);
            let family = match stored {
                Some(family) => family,
                None if shown.has_family() => return Err(Refusal::Revoked),
                None => shown.adopted(account.id),
            };
            if self.judged(&family, number, context, &mut About::default()).await? == Standing::Told {
                return Ok(family);
            }
            let previous = Some((family.current, self.clock.now()));
            let next = Family { current: -self.next_number().await?, issued_at, previous, ..family };
            if self.store.put_family(next.clone(), was, account.cut_off).await? == Written::Done {
                return Ok(next);
            }
        }
    }

    /// What a token is worth; `about` gets an id that the line of its reuse bears, where it has none yet.
    async fn judged(&self, family: &Family, number: i64, context: &Context, about: &mut About) -> Result<Standing, Refusal> {
        let now = self.clock.now();
        let standing = family.standing(number, self.settings().sessions.refresh_overlap, now);
        if standing == Standing::Reused {
            let attempt = *about.attempt.get_or_insert_with(|| self.attempt_id());
            let about = About { account: Some(family.account), ..About::attempt(attempt) };
            self.store.end_family(family.id, self.entry(now, "reuse", context, &about)).await?;
            self.changed().await;
            return Err(Refusal::Revoked);
        }
        Ok(standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_token_and_for_a_while_the_one_before_it_are_good() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let first = Family {
            id: [1; 32],
            account: AccountId(uuid::Uuid::nil()),
            adopted: false,
            current: -1,
            issued_at: at(0),
            previous: None,
            expires_at: at(1000),
        };
        let check = |family: &Family, number, now| family.standing(number, Duration::from_secs(10), at(now));
        assert_eq!((check(&first, -1, 0), check(&first, -2, 0)), (Standing::Current, Standing::Reused));
        let second = Family { current: -2, issued_at: at(100), previous: Some((-1, at(100))), ..first };
        assert_eq!((check(&second, -1, 110), check(&second, -1, 111)), (Standing::Told, Standing::Reused));
        assert_eq!((check(&second, -2, 110), check(&second, -2, 111)), (Standing::Told, Standing::Current));
        let third = Family { current: -3, issued_at: at(111), previous: Some((-2, at(111))), ..second };
        assert_eq!((check(&third, -1, 111), check(&third, -2, 111)), (Standing::Reused, Standing::Told));
        assert_eq!(check(&second, -1, 50), Standing::Told, "whoever sets the clock back ends nothing");
    }
}
