//! Access and refresh tokens: what we sign for an account, and know again when it is shown.
//!
//! A token carries its meaning in its claims, in its gate's spelling, and no record is kept of it: it is good while its account is
//! in force, was not cut off since, and the token was not revoked, by itself or by its number. What is granted is what the account may do now,
//! whatever the claims say. A cause is named only once the signature has verified. One that was verified is known from memory, and whatever revokes it, or changes the keys, pushes it out.
//!
//! ```text
//! parts, type, algorithm -> signature -> end -> beginning -> revoked -> account's cut-off -> audience -> account in force
//! ```

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::Core;
use crate::account::Account;
use crate::audit::AuditEntry;
use crate::clock::Timestamp;
use crate::command::{Context, GrantRequest};
use crate::credential::{About, Credential};
use crate::jwt::{LONGEST, Moment, OneOrMany};
use crate::keyring::{Keyring, Purpose};
use crate::live::Known;
use crate::policy::{may_enter, may_try_password};
use crate::refusal::Refusal;
use crate::reply::{Answer, Granted, IssuedToken, Method, NewToken, Outcome, Principal, TokenKind};
use crate::secret::Secret;
use crate::store::TokenHash;
use crate::throttle::Key;
use crate::token::hash;

/// Whom tokens are for, where they say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AudienceSettings {
    /// What we write as `aud`, and are known by; empty: nothing is written, and nothing compared.
    pub audiences: Vec<String>,
    /// Whether a token without an audience is refused.
    pub required: bool,
}

/// How many numbers are reserved at once. What is left of them at a restart is never used.
const BLOCK: u64 = 1000;

/// Which of the two a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Access,
    Refresh,
}

impl Use {
    /// What its header says that it is (RFC 7515 section 4.1.9), so that neither passes for the other.
    const fn typ(self) -> &'static str {
        match self {
            Use::Access => "JWT",
            Use::Refresh => "JWTR",
        }
    }

    const fn method(self) -> Method {
        match self {
            Use::Access => Method::Access,
            Use::Refresh => Method::Refresh,
        }
    }
}

/// What a token was found to say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    what: Use,
    /// The public id of the account.
    subject: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
    begins_at: Option<Timestamp>,
    audience: Vec<String>,
    /// When the key that has signed it verifies no more, so that it is nothing from then on.
    verified_until: Timestamp,
    /// What revokes it and no other: the hash of what was signed.
    message: TokenHash,
    /// What revokes it with all that bear its number. Whoever had the key before us may have counted anew for each account.
    number: Option<TokenHash>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    sub: NumberOrText,
    iat: Moment,
    exp: Option<Moment>,
    nbf: Option<Moment>,
    aud: Option<OneOrMany>,
    jti: Option<NumberOrText>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(i64),
    Text(String),
}

impl NumberOrText {
    fn text(self) -> String {
        match self {
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        }
    }
}

/// What revokes every token of this number.
pub(crate) fn revocation_of(number: &str) -> TokenHash {
    hash(&Secret::new(format!("jti {number}")))
}

impl Signed {
    /// Reads a token that one of our keys has signed.
    ///
    /// # Errors
    /// [`Refusal::InvalidCredentials`] for everything else, and where a claim is missing, doubled or odd.
    fn read(keyring: &Keyring, what: Use, token: &[u8], now: Timestamp) -> Result<Signed, Refusal> {
        let no_good = Refusal::InvalidCredentials;
        let text = Some(token).filter(|token| token.len() <= LONGEST).and_then(|token| std::str::from_utf8(token).ok());
        let parts: Vec<&str> = text.ok_or(no_good.clone())?.split('.').collect();
        let [header, payload, signature] = parts[..] else { return Err(no_good) };
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::InvalidCredentials);
        let parsed: Header = serde_json::from_slice(&bytes(header)?).map_err(|_| Refusal::InvalidCredentials)?;
        // Whoever must understand an extension and does not, must refuse (RFC 7515 section 4.1.11). We know none.
        if parsed.typ != what.typ() || parsed.crit.is_some() {
            return Err(no_good);
        }
        let message = &token[..header.len() + 1 + payload.len()];
        let verified = keyring.verifies(Purpose::Tokens, &parsed.alg, message, &bytes(signature)?, now);
        let verified_until = verified.ok_or(no_good.clone())?;
        let claims: Claims = serde_json::from_slice(&bytes(payload)?).map_err(|_| Refusal::InvalidCredentials)?;
        // Our numbers tell the two apart as well: those of refresh tokens are below zero.
        if let Some(NumberOrText::Number(number)) = claims.jti
            && (number < 0) != (what == Use::Refresh)
        {
            return Err(no_good);
        }
        let moment = |moment: Moment| moment.timestamp().ok_or(Refusal::InvalidCredentials);
        let subject = claims.sub.text();
        Ok(Signed {
            what,
            // Some issuers write the name of a provider before the id.
            subject: subject.rsplit('|').next().unwrap_or_default().to_owned(),
            issued_at: moment(claims.iat)?,
            expires_at: moment(claims.exp.ok_or(Refusal::InvalidCredentials)?)?,
            begins_at: claims.nbf.map(moment).transpose()?,
            audience: claims.aud.map(OneOrMany::list).unwrap_or_default(),
            verified_until,
            message: hash(&Secret::new(message)),
            number: claims.jti.map(|number| revocation_of(&number.text())),
        })
    }

    /// Whatever revokes it.
    fn revocations(&self) -> Vec<TokenHash> {
        [Some(self.message), self.number].into_iter().flatten().collect()
    }

    /// Whether its time is now.
    fn timely(&self, now: Timestamp) -> Result<(), Refusal> {
        if now >= self.expires_at {
            return Err(Refusal::Expired);
        }
        match self.begins_at {
            Some(begins_at) if now < begins_at => Err(Refusal::NotYetValid),
            _ => Ok(()),
        }
    }

    /// Whether it is good for this account now, given that it was not revoked.
    fn good(&self, account: &Account, settings: &AudienceSettings, now: Timestamp) -> Result<(), Refusal> {
        self.timely(now)?;
        if self.issued_at < account.cut_off {
            return Err(Refusal::Revoked);
        }
        // Compared only where both sides say something.
        let meant = match (self.audience.is_empty(), settings.audiences.is_empty()) {
            (true, _) => !settings.required,
            (false, true) => true,
            (false, false) => self.audience.iter().any(|audience| settings.audiences.contains(audience)),
        };
        if !meant {
            return Err(Refusal::WrongAudience);
        }
        may_enter(Some(account), None, now)
    }
}

impl Core {
    /// Whom a token speaks for.
    pub(crate) async fn recognise_signed(&self, any_of: &[Secret], what: Use, context: &Context) -> Result<Principal, Refusal> {
        may_try_password(self.settings.requires_secure(context.gate), &context.peer)?;
        let source = Key::TokenSource(context.peer.address);
        self.by(context, self.fresh()).await?;
        let now = self.clock.now();
        let mut result = Err(Refusal::InvalidCredentials);
        for token in any_of {
            result = self.by(context, self.signed(token, what, now)).await;
            if result != Err(Refusal::InvalidCredentials) {
                break;
            }
        }
        // One that we have signed and that is over is no guess: clients show it until they are told.
        if result == Err(Refusal::InvalidCredentials) {
            // Whoever has a good one is let in, whatever others at the same address show: nobody guesses a signature.
            self.throttle.check(now, &source)?;
            self.throttle.count(now, &source);
        }
        let (signed, account) = result?;
        let ends = [Some(signed.expires_at), account.expires_at].into_iter().flatten().min();
        Ok(self.by_itself(&account, None, what.method(), ends, context))
    }

    /// A good token and its account, from memory, or verified now.
    async fn signed(&self, token: &Secret, what: Use, now: Timestamp) -> Result<(Arc<Signed>, Arc<Account>), Refusal> {
        let shown = hash(token);
        if let Some((Known::Signed(signed), account)) = self.live.known(&shown)
            && signed.what == what
            && now < signed.verified_until
        {
            signed.good(&account, &self.settings.audience, now)?;
            return Ok((signed, account));
        }
        loop {
            let before = *self.feed.lock().await;
            let signed = Arc::new(Signed::read(&self.keyring(), what, token.expose(), now)?);
            signed.timely(now)?;
            let revocations = signed.revocations();
            for revocation in &revocations {
                if self.store.is_revoked(revocation).await? {
                    return Err(Refusal::Revoked);
                }
            }
            let account = self.store.account_known_as(&signed.subject).await?.ok_or(Refusal::AccountUnavailable)?;
            let account = Arc::new(Account { password: None, ..account });
            signed.good(&account, &self.settings.audience, now)?;
            let feed = self.feed.lock().await;
            if *feed == before {
                self.live.know(shown, revocations, Known::Signed(Arc::clone(&signed)), Arc::clone(&account));
                return Ok((signed, account));
            }
        }
    }

    /// Tokens for whoever speaks. Where that is a session's cookie and the request is for token cookies, they take its place.
    pub(crate) async fn issue_to_caller(
        self: &Arc<Core>,
        presented: &[Credential],
        kinds: Vec<TokenKind>,
        request: &GrantRequest,
        context: &Context,
    ) -> Outcome {
        // What is told to a service behind a gate is nothing that whoever speaks could show the next time.
        let renews = !kinds.contains(&TokenKind::Access);
        let recognised = match self.recognise(presented, context).await {
            Ok(caller) if renews => self.renewed(caller, context).await,
            recognised => recognised,
        };
        let caller = match recognised {
            Ok(caller) => caller,
            Err((caller, refusal)) => return Outcome::told(caller, Err(refusal)),
        };
        let result = match Core::somebody(&caller, presented) {
            Ok(principal) => self.issue_and_replace(principal, presented, kinds, request, context).await,
            Err(refusal) => Err(refusal),
        };
        Outcome::told(caller, result.map(Answer::Granted))
    }

    pub(crate) async fn issue_and_replace(
        self: &Arc<Core>,
        principal: Principal,
        presented: &[Credential],
        kinds: Vec<TokenKind>,
        request: &GrantRequest,
        context: &Context,
    ) -> Result<Granted, Refusal> {
        let tokens = self.issue_tokens(&principal, kinds, context).await?;
        if request.binding.replaces_cookie() {
            self.end_cookies(presented, "replace", context).await?;
        }
        Ok(Granted { principal, tokens })
    }

    /// Signs tokens about somebody. No refresh token is had for an access token or an API key: it would outlive by far what can be
    /// taken from whoever holds them, so whoever asks for one goes without.
    pub(crate) async fn issue_tokens(
        &self,
        principal: &Principal,
        kinds: Vec<TokenKind>,
        context: &Context,
    ) -> Result<Vec<IssuedToken>, Refusal> {
        let mut tokens = Vec::with_capacity(kinds.len());
        let renews = !matches!(principal.method, Method::Access | Method::ApiKey);
        for kind in kinds.into_iter().filter(|kind| renews || *kind != TokenKind::Refresh) {
            tokens.push(match kind {
                TokenKind::Access => self.by(context, self.sign_for(principal, Use::Access, context)).await?,
                TokenKind::Refresh => self.by(context, self.sign_for(principal, Use::Refresh, context)).await?,
                other => self.issue_signed(other, principal, context, self.clock.now())?,
            });
        }
        Ok(tokens)
    }

    async fn sign_for(&self, principal: &Principal, what: Use, context: &Context) -> Result<IssuedToken, Refusal> {
        let id = principal.account.as_ref().and_then(|account| account.id).ok_or(Refusal::NotPermitted)?;
        let account = self.store.account(id).await?.ok_or(Refusal::Revoked)?;
        self.still_proved(principal, &account).await?;
        let now = self.clock.now();
        may_enter(Some(&account), None, now)?;
        if account.subject.contains('|') {
            tracing::error!(account = %id.0, "an id with a `|` in it is read back as another one, so no token is signed for it");
            return Err(Refusal::Unavailable);
        }
        let sessions = &self.settings.sessions;
        let (kind, life) = match what {
            Use::Access => (TokenKind::Access, sessions.access_life),
            Use::Refresh => (TokenKind::Refresh, sessions.refresh_life),
        };
        // Whole seconds, as they are written; and none that a cut-off has left behind.
        let issued_at = Timestamp::from_millis(now.millis().div_euclid(1000) * 1000).max(account.cut_off);
        // Never later than what it was had for.
        let ends = [account.expires_at, principal.expires_at];
        let expires_at = ends.into_iter().flatten().fold(now.after(life), Timestamp::min);
        let number = i64::try_from(self.next_number().await?).map_err(|_| Refusal::Unavailable)?;
        let audience = &self.settings.audience.audiences;
        let new = match what {
            Use::Access => NewToken::Access { principal, audience, number, issued_at, expires_at },
            Use::Refresh => NewToken::Refresh { principal, audience, number: -number, issued_at, expires_at },
        };
        let (typ, claims) = self.spell(context.gate, &new)?.signed()?;
        if typ != what.typ() {
            tracing::error!(typ, "a gate has spelled a token of another type than it is");
            return Err(Refusal::Unavailable);
        }
        let keyring = self.keyring_for_tokens().await?;
        let secret = keyring.sign(Purpose::Tokens, typ, &claims).ok_or(Refusal::Unavailable)?;
        Ok(IssuedToken { kind, secret, expires_at: Some(expires_at) })
    }

    /// Whether what was proved still holds: what cuts an account off ends its sessions too, and whoever comes without one must
    /// have proved themselves under the cut-off that stands. A token is dated behind the cut-off, so nothing else would end it.
    async fn still_proved(&self, principal: &Principal, account: &Account) -> Result<(), Refusal> {
        let holds = match principal.session {
            Some(session) => self.store.session(session).await?.is_some_and(|session| session.ended.is_none()),
            None => principal.account.as_ref().is_some_and(|proved| proved.cut_off == account.cut_off),
        };
        if holds { Ok(()) } else { Err(Refusal::Revoked) }
    }

    /// A number that no token has had, not even before a restart.
    async fn next_number(&self) -> Result<u64, Refusal> {
        let mut numbers = self.numbers.lock().await;
        if numbers.is_empty() {
            let first = self.store.reserve("tokens", BLOCK).await?;
            *numbers = first..first.saturating_add(BLOCK);
        }
        numbers.next().ok_or(Refusal::Unavailable)
    }

    /// Says of a signed token that is shown that it is no longer good. One that is not ours is left as it is.
    pub(crate) async fn revoke_shown(&self, any_of: &[Secret], what: Use, context: &Context) -> Result<(), Refusal> {
        for token in any_of {
            let (signed, account) = match self.signed(token, what, self.clock.now()).await {
                Ok(found) => found,
                Err(refusal) if refusal.is_about_the_proof() => continue,
                Err(refusal) => return Err(refusal),
            };
            let now = self.clock.now();
            let about = About { account: Some(account.id), ..About::default() };
            let entry: AuditEntry = self.entry(now, "logout", context, &about);
            self.store.revoke_signed(signed.message, signed.expires_at, entry).await?;
            self.changed().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemEntropy;
    use crate::keyring::{KeyAlgorithm, draw_key};
    use crate::testing::account;

    const NOW: Timestamp = Timestamp::from_millis(1_900_000_000_000);

    fn keyring() -> Keyring {
        let keys = [KeyAlgorithm::EdDSA, KeyAlgorithm::HS256].map(|algorithm| draw_key(algorithm, NOW, &SystemEntropy));
        Keyring::of(&keys.map(|key| key.expect("a key"))).expect("keys")
    }

    fn read(typ: &str, what: Use, claims: &str) -> Result<Signed, Refusal> {
        let keyring = keyring();
        let token = keyring.sign(Purpose::Tokens, typ, claims.as_bytes()).expect("signed");
        Signed::read(&keyring, what, token.expose(), NOW)
    }

    #[test]
    fn a_token_says_whose_it_is_and_from_when_to_when() {
        let claims = r#"{"sub":7,"iat":1900000000,"exp":1900000060,"nbf":1900000001,"aud":"a","jti":3,"roles":["Admin"]}"#;
        let signed = read("JWT", Use::Access, claims).expect("good");
        assert_eq!((signed.subject.as_str(), signed.audience.as_slice()), ("7", ["a".to_owned()].as_slice()));
        assert_eq!(signed.number, Some(revocation_of("3")));
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        assert_eq!(signed.timely(at(1_900_000_000)), Err(Refusal::NotYetValid));
        assert_eq!(signed.timely(at(1_900_000_001)), Ok(()));
        assert_eq!(signed.timely(at(1_900_000_060)), Err(Refusal::Expired));
        let foreign = read("JWT", Use::Access, r#"{"sub":"idp|u-1","iat":1,"exp":2,"jti":"x-1"}"#).expect("good");
        assert_eq!((foreign.subject.as_str(), foreign.number), ("u-1", Some(revocation_of("x-1"))));
    }

    #[test]
    fn what_is_missing_doubled_odd_or_of_the_other_use_is_refused() {
        for claims in [
            r#"{"iat":1,"exp":2}"#,
            r#"{"sub":"a","exp":2}"#,
            r#"{"sub":"a","iat":1}"#,
            r#"{"sub":"a","iat":1,"exp":null}"#,
            r#"{"sub":"a","iat":1,"exp":"2"}"#,
            r#"{"sub":"a","sub":"b","iat":1,"exp":2}"#,
            r#"{"sub":"a","iat":1,"exp":2,"exp":3}"#,
            r#"{"sub":["a"],"iat":1,"exp":2}"#,
            r#"{"sub":"a","iat":1,"exp":1e300}"#,
            r#"{"sub":"a","iat":1,"exp":2,"jti":-1}"#,
            r#"[]"#,
            "",
        ] {
            assert_eq!(read("JWT", Use::Access, claims).err(), Some(Refusal::InvalidCredentials), "{claims}");
        }
        let (access, refresh) = (r#"{"sub":"a","iat":1,"exp":2,"jti":1}"#, r#"{"sub":"a","iat":1,"exp":2,"jti":-1}"#);
        assert!(read("JWT", Use::Access, access).is_ok() && read("JWTR", Use::Refresh, refresh).is_ok());
        for (typ, what, claims) in [
            ("JWT", Use::Refresh, refresh),
            ("JWTR", Use::Access, access),
            ("JWTR", Use::Refresh, access),
            ("jwt", Use::Access, access),
        ] {
            assert_eq!(read(typ, what, claims).err(), Some(Refusal::InvalidCredentials), "{typ} {what:?} {claims}");
        }
    }

    #[test]
    fn what_our_token_keys_have_not_signed_is_refused() {
        let (ring, other) = (keyring(), keyring());
        let claims = br#"{"sub":"a","iat":1,"exp":2}"#;
        let good = ring.sign(Purpose::Tokens, "JWT", claims).expect("signed");
        let text = good.expose_text().expect("text").to_owned();
        let check = |token: &str| Signed::read(&ring, Use::Access, token.as_bytes(), NOW).map(|_| ());
        assert_eq!(check(&text), Ok(()));
        let own = ring.sign(Purpose::Own, "JWT", claims).expect("signed");
        let foreign = other.sign(Purpose::Tokens, "JWT", claims).expect("signed");
        let (message, _) = text.rsplit_once('.').expect("three parts");
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let unsigned = format!("{none}.{}.", message.split_once('.').expect("two parts").1);
        for token in [
            own.expose_text().expect("text"),
            foreign.expose_text().expect("text"),
            &unsigned,
            message,
            &format!("{message}."),
            &format!("{text}."),
            &format!("{text}.x.y"),
            &text.replacen('.', "=.", 1),
            &format!(" {text}"),
            &"x".repeat(LONGEST + 1),
            "",
            "..",
        ] {
            assert_eq!(check(token), Err(Refusal::InvalidCredentials), "{token}");
        }
        for cut in 1..40 {
            assert_eq!(check(&text[..text.len() - cut]), Err(Refusal::InvalidCredentials), "cut by {cut}");
        }
    }

    #[test]
    fn a_token_is_good_by_cut_off_audience_and_account() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let signed = |audience: &str| Signed {
            what: Use::Access,
            subject: "ann".to_owned(),
            issued_at: NOW,
            expires_at: Timestamp::from_millis(NOW.millis() + 1),
            begins_at: None,
            audience: words(audience),
            verified_until: NOW,
            message: [0; 32],
            number: None,
        };
        let check = |audience: &str, ours: &str, required: bool| {
            let settings = AudienceSettings { audiences: words(ours), required };
            signed(audience).good(&account("ann"), &settings, NOW)
        };
        for (audience, ours, required, good) in [
            ("", "", false, true),
            ("", "foo bar", false, true),
            ("qux", "foo bar", false, false),
            ("bar qux", "foo bar", false, true),
            ("bar qux", "foo", false, false),
            ("bar qux", "", false, true),
            ("", "foo", true, false),
            ("foo", "foo", true, true),
            ("", "", true, false),
        ] {
            let expected = if good { Ok(()) } else { Err(Refusal::WrongAudience) };
            assert_eq!(check(audience, ours, required), expected, "{audience:?} for {ours:?}, required: {required}");
        }
        let none = AudienceSettings::default();
        let cut = |cut_off| signed("").good(&Account { cut_off, ..account("ann") }, &none, NOW);
        assert_eq!(cut(NOW), Ok(()));
        assert_eq!(cut(Timestamp::from_millis(NOW.millis() + 1000)), Err(Refusal::Revoked));
        let off = Account { status: crate::account::Status::Disabled, ..account("ann") };
        assert_eq!(signed("").good(&off, &none, NOW), Err(Refusal::AccountUnavailable));
    }
}
