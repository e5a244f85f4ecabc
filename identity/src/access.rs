//! Access and refresh tokens: what we have signed for an account, and know again when it is shown. How they are made is told in
//! `access/signing.rs`.
//!
//! A token carries its meaning in its claims, in its gate's spelling, and no record is kept of it: it is good while its account is
//! in force, was not cut off since, what it rests on stands, and the token was not revoked, by itself or by its number. What is
//! granted is what the account may do now, whatever the claims say. A cause is named only once the signature has verified. One that
//! was verified is known from memory, and whatever revokes it, or changes the keys, pushes it out. At first sight memory says, too,
//! whether anything like it was revoked, and knows the account where it has it as the feed does.
//!
//! ```text
//! parts, type, algorithm -> signature -> end -> beginning -> revoked -> account's cut-off -> audience -> account in force -> basis
//! ```

mod signing;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::Core;
use crate::account::{Account, AccountId};
use crate::audit::AuditEntry;
use crate::clock::Timestamp;
use crate::command::Context;
use crate::credential::About;
use crate::family::Family;
use crate::jwt::{LONGEST, Moment, OneOrMany};
use crate::keyring::{Keyring, Purpose};
use crate::live::{Kind, Known};
use crate::policy::{may_enter, may_try_password};
use crate::refusal::Refusal;
use crate::reply::{Method, Principal};
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

/// What a token rests on beside its account, and ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// A family of refresh tokens that rotate, by its id.
    Family(TokenHash),
    /// The API key that it was had for, by its hash.
    ApiKey(TokenHash),
}

impl Basis {
    /// Its id. The feed says of it that it is no more.
    const fn id(&self) -> &TokenHash {
        match self {
            Basis::Family(id) | Basis::ApiKey(id) => id,
        }
    }

    /// As it stands in the claim `grant_id`.
    fn text(&self) -> String {
        let mark = match self {
            Basis::Family(_) => 'f',
            Basis::ApiKey(_) => 'k',
        };
        format!("{mark}{}", URL_SAFE_NO_PAD.encode(self.id()))
    }

    /// What a claim says. `None`: it is somebody else's, who had the key before us, and means nothing here.
    fn parse(text: &str) -> Option<Basis> {
        let id = URL_SAFE_NO_PAD.decode(text.get(1..)?).ok()?.try_into().ok()?;
        match text.as_bytes().first()? {
            b'f' => Some(Basis::Family(id)),
            b'k' => Some(Basis::ApiKey(id)),
            _ => None,
        }
    }
}

/// What stands behind somebody who was recognised, for tokens that are signed for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind {
    /// What further tokens rest on, too.
    pub(crate) basis: Option<Basis>,
    /// The refresh token, where one was shown.
    pub(crate) refresh: Option<Arc<Signed>>,
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
    /// The number itself, where it is one.
    counted: Option<i64>,
    basis: Option<Basis>,
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
    iat: MomentOrNot,
    exp: Option<MomentOrNot>,
    nbf: Option<MomentOrNot>,
    aud: Option<OneOrMany>,
    jti: Option<NumberOrText>,
    grant_id: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum MomentOrNot {
    Moment(Moment),
    Not(serde::de::IgnoredAny),
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
    /// [`Refusal::WrongAlgorithm`], [`Refusal::NoMoment`]; [`Refusal::InvalidCredentials`] for everything else, and where a claim is
    /// missing, doubled or odd.
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
        if let Some(expected) = keyring.expects_another(Purpose::Tokens, &parsed.alg, now) {
            return Err(Refusal::WrongAlgorithm { shown: parsed.alg, expected });
        }
        let message = &token[..header.len() + 1 + payload.len()];
        let verified = keyring.verifies(Purpose::Tokens, &parsed.alg, message, &bytes(signature)?, now);
        let verified_until = verified.ok_or(no_good.clone())?;
        let claims: Claims = serde_json::from_slice(&bytes(payload)?).map_err(|_| Refusal::InvalidCredentials)?;
        // Our numbers tell the two apart as well: those of refresh tokens are below zero.
        let counted = match claims.jti {
            Some(NumberOrText::Number(number)) if (number < 0) != (what == Use::Refresh) => return Err(no_good),
            Some(NumberOrText::Number(number)) => Some(number),
            Some(NumberOrText::Text(_)) | None => None,
        };
        let moment = |name, moment: MomentOrNot| match moment {
            MomentOrNot::Moment(moment) => moment.timestamp().ok_or(Refusal::NoMoment(name)),
            MomentOrNot::Not(_) => Err(Refusal::NoMoment(name)),
        };
        let subject = claims.sub.text();
        Ok(Signed {
            what,
            // Some issuers write the name of a provider before the id.
            subject: subject.rsplit('|').next().unwrap_or_default().to_owned(),
            issued_at: moment("iat", claims.iat)?,
            expires_at: moment("exp", claims.exp.ok_or(Refusal::InvalidCredentials)?)?,
            begins_at: claims.nbf.map(|begins_at| moment("nbf", begins_at)).transpose()?,
            audience: claims.aud.map(OneOrMany::list).unwrap_or_default(),
            verified_until,
            message: hash(&Secret::new(message)),
            number: claims.jti.map(|number| revocation_of(&number.text())),
            counted,
            basis: claims.grant_id.as_ref().and_then(serde_json::Value::as_str).and_then(Basis::parse),
        })
    }

    /// What is revoked where it is.
    fn revocations(&self) -> impl Iterator<Item = TokenHash> {
        [Some(self.message), self.number].into_iter().flatten()
    }

    /// The family that it is of, or would begin, and its number there.
    pub(crate) fn place(&self) -> (TokenHash, i64) {
        match self.basis {
            Some(Basis::Family(id)) => (id, self.counted.unwrap_or_default()),
            Some(Basis::ApiKey(_)) | None => (self.message, 0),
        }
    }

    /// Whether it was signed for a family.
    pub(crate) fn has_family(&self) -> bool {
        matches!(self.basis, Some(Basis::Family(_)))
    }

    /// The family that it begins, where it was not signed for one.
    pub(crate) fn adopted(&self, account: AccountId) -> Family {
        Family {
            id: self.message,
            account,
            adopted: true,
            current: 0,
            issued_at: self.issued_at,
            previous: None,
            expires_at: self.expires_at,
        }
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
        if self.what == Use::Refresh {
            // Whoever would go on for an account that is off is told so, and not that its tokens have ended with it.
            may_enter(Some(account), None, now)?;
        }
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
    ///
    /// `kept`: a browser sends it along unasked, and will do so until it is told to forget it, so it is no guess.
    pub(crate) async fn recognise_signed(
        &self,
        any_of: &[Secret],
        (what, kept): (Use, bool),
        context: &Context,
        about: &mut About,
    ) -> Result<(Principal, Behind), Refusal> {
        may_try_password(self.settings().requires_secure(context.gate), &context.peer)?;
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
        if matches!(result, Err(Refusal::InvalidCredentials | Refusal::WrongAlgorithm { .. })) && !kept {
            // Whoever has a good one is let in, whatever others at the same address show: nobody guesses a signature.
            self.throttle.check(self.steady(), &source)?;
            self.throttle.count(self.steady(), &source);
        }
        let (signed, account) = result?;
        if what == Use::Refresh {
            self.by(context, self.stands_in_family(&signed, context, about)).await?;
        }
        let ends = [Some(signed.expires_at), account.expires_at].into_iter().flatten().min();
        let principal = self.by_itself(&account, None, what.method(), ends, context);
        let behind = Behind { basis: signed.basis, refresh: Some(signed).filter(|_| what == Use::Refresh) };
        Ok((principal, behind))
    }

    /// A good token and its account, from memory, or verified now.
    async fn signed(&self, token: &Secret, what: Use, now: Timestamp) -> Result<(Arc<Signed>, Arc<Account>), Refusal> {
        let shown = hash(token);
        if let Some((Known::Signed(signed), account)) = self.live.known(&shown)
            && signed.what == what
            && now < signed.verified_until
        {
            signed.good(&account, &self.settings().audience, now)?;
            return Ok((signed, account));
        }
        loop {
            // What has ended meanwhile has ended before now.
            let now = self.clock.now();
            let before = *self.feed.lock().await;
            let signed = Arc::new(Signed::read(&self.keyring(), what, token.expose(), now)?);
            signed.timely(now)?;
            for revocation in signed.revocations() {
                if self.may_be(Kind::Revoked, &revocation).await? && self.store.is_revoked(&revocation).await? {
                    return Err(Refusal::Revoked);
                }
            }
            let account = match self.live.account_known_as(&signed.subject) {
                Some(account) => account,
                None => {
                    // Whoever holds a refresh token that we have signed may know that there is nobody any more whom it is for.
                    let gone = if what == Use::Refresh { Refusal::AccountGone } else { Refusal::AccountUnavailable };
                    let account = self.store.account_known_as(&signed.subject).await?.ok_or(gone)?;
                    Arc::new(Account { password: None, ..account })
                }
            };
            signed.good(&account, &self.settings().audience, now)?;
            self.basis_stands(&signed, &account, now).await?;
            let feed = self.feed.lock().await;
            if *feed == before {
                let revocations = signed.revocations().chain(signed.basis.map(|basis| *basis.id())).collect();
                self.live.know(shown, revocations, Known::Signed(Arc::clone(&signed)), Arc::clone(&account));
                return Ok((signed, account));
            }
        }
    }

    /// Whether what a token rests on is there. What ends it later is told by the feed.
    async fn basis_stands(&self, signed: &Signed, account: &Account, now: Timestamp) -> Result<(), Refusal> {
        let owner = match signed.basis {
            None => return Ok(()),
            Some(Basis::Family(id)) => self.store.family(&id).await?.map(|family| family.account),
            Some(Basis::ApiKey(hash)) => match self.store.api_key(&hash).await? {
                Some(key) => key.standing(now).map(|()| key.account())?,
                None => None,
            },
        };
        if owner == Some(account.id) { Ok(()) } else { Err(Refusal::Revoked) }
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
            let (family, _) = signed.place();
            if !signed.has_family() {
                self.store.revoke_signed(signed.message, signed.expires_at, entry.clone()).await?;
            }
            // Whoever signs out ends all that grew from the login, or the token before this one would bring another.
            if signed.has_family() || what == Use::Refresh {
                self.store.end_family(family, entry).await?;
            }
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
            r#"{"sub":"a","sub":"b","iat":1,"exp":2}"#,
            r#"{"sub":"a","iat":1,"exp":2,"exp":3}"#,
            r#"{"sub":["a"],"iat":1,"exp":2}"#,
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
    fn a_claim_that_says_no_moment_is_named() {
        for (claims, name) in [
            (r#"{"sub":"a","iat":1,"exp":"2"}"#, "exp"),
            (r#"{"sub":"a","iat":1,"exp":1e300}"#, "exp"),
            (r#"{"sub":"a","iat":true,"exp":2}"#, "iat"),
            (r#"{"sub":"a","iat":"now","exp":"then"}"#, "iat"),
            (r#"{"sub":"a","iat":1,"exp":2,"nbf":{}}"#, "nbf"),
        ] {
            assert_eq!(read("JWT", Use::Access, claims).err(), Some(Refusal::NoMoment(name)), "{claims}");
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
            foreign.expose_text().expect("text"),
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
        for (token, shown) in [(own.expose_text().expect("text"), "EdDSA"), (&unsigned, "none")] {
            let wrong = Refusal::WrongAlgorithm { shown: shown.to_owned(), expected: "HS256" };
            assert_eq!(check(token), Err(wrong), "{token}");
        }
        let own_only = Keyring::of(&[draw_key(KeyAlgorithm::EdDSA, NOW, &SystemEntropy).expect("a key")]).expect("keys");
        let nobodys = Signed::read(&own_only, Use::Access, text.as_bytes(), NOW);
        assert_eq!(nobodys.err(), Some(Refusal::InvalidCredentials), "where there is no key, none is expected");
        for cut in 1..40 {
            assert_eq!(check(&text[..text.len() - cut]), Err(Refusal::InvalidCredentials), "cut by {cut}");
        }
    }

    #[test]
    fn what_a_token_rests_on_reads_back_and_anything_else_in_its_place_means_nothing() {
        for basis in [Basis::Family([7; 32]), Basis::ApiKey([255; 32])] {
            assert_eq!(Basis::parse(&basis.text()), Some(basis));
        }
        let family = Basis::Family([7; 32]).text();
        for text in
            ["", "f", "x", &family[1..], &family[..family.len() - 1], &format!("x{}", &family[1..]), &format!("{family}A"), "ä"]
        {
            assert_eq!(Basis::parse(text), None, "{text:?}");
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
            counted: None,
            basis: None,
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
