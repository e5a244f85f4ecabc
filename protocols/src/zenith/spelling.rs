//! How this wire spells what the core knows by other names: scopes and tokens.
//!
//! Three generations of scope names are in use. A request may use any; the answer is in the family that was asked in.
//! Which scopes are granted is the core's decision, on canonical names only.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatepost_identity::reply::{IssuedToken, NewToken, Spelled};
use gatepost_identity::scope::{Scope, ScopeDefinition, ScopeName, ScopeRequest, Scopes};
use gatepost_identity::secret::Secret;

use crate::vouching::{Rights, Vouched};

/// A generation of scope names. Its number travels through the core as the session's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// `Zenith/Market`: the current one, and the canonical names.
    Slashed = 0,
    /// `Paritech.Zenith.Market`: the published samples.
    Dotted = 1,
    /// `http://api.paritech.com/wsapi/market`: scopes of 2015 and 2016.
    Uri = 2,
}

impl Family {
    const ALL: [Family; 3] = [Family::Slashed, Family::Dotted, Family::Uri];

    /// The family that a name in the settings belongs to, by its look.
    fn of(name: &str) -> Family {
        match name {
            _ if name.contains("://") => Family::Uri,
            _ if name.contains('/') || !name.contains('.') => Family::Slashed,
            _ => Family::Dotted,
        }
    }

    fn separator(self) -> char {
        match self {
            Family::Slashed | Family::Uri => '/',
            Family::Dotted => '.',
        }
    }

    /// The mark that the core keeps with the session.
    pub(super) fn mark(self) -> u8 {
        self as u8
    }

    /// The family of a mark; a mark of nobody's reads as the canonical names.
    fn marked(mark: u8) -> Family {
        Family::ALL.into_iter().find(|family| family.mark() == mark).unwrap_or(Family::Slashed)
    }
}

/// One right: its canonical name, whether it needs a secured connection, and what else it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Right {
    scope: Scope,
    secure_only: bool,
    /// By family; the first of a family is the one told.
    names: [Vec<String>; 3],
}

impl Right {
    /// A right with its aliases, in order. Its canonical name comes first in the family that it looks like.
    pub(super) fn new(scope: Scope, secure_only: bool, aliases: impl IntoIterator<Item = String>) -> Right {
        let mut names = [Vec::new(), Vec::new(), Vec::new()];
        for name in [scope.as_str().to_owned()].into_iter().chain(aliases) {
            names[Family::of(&name) as usize].push(name);
        }
        Right { scope, secure_only, names }
    }

    /// Whether `name` is one of its names in `family`, or the parent of one.
    fn is_called(&self, name: &str, family: Family) -> bool {
        self.names[family as usize].iter().any(|own| {
            own.strip_prefix(name).is_some_and(|rest| rest.is_empty() || (!name.is_empty() && rest.starts_with(family.separator())))
        })
    }

    /// The canonical name.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// Every right of this gate, in the order in which they are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Catalogue(pub(super) Vec<Right>);

impl Default for Catalogue {
    /// The rights of appendix A of the published documents, and two that deployments use beside them. In both older
    /// generations news stood below the market.
    fn default() -> Catalogue {
        /// Name, secured connections only, further dotted names, paths below the root of the oldest family.
        type Row = (&'static str, bool, &'static [&'static str], &'static [&'static str]);
        const MARKET: &[&str] =
            &["market", "market/asset", "market/depthfull", "market/depthshort", "market/trades", "market/symbols"];
        const TRADING: &[&str] =
            &["trading", "trading/accounts", "trading/balances", "trading/holdings", "trading/orders", "trading/transactions"];
        const ROWS: [Row; 6] = [
            ("Market", false, &["Paritech.Zenith.Market.Data"], MARKET),
            ("News", false, &["Paritech.Zenith.Market.News"], &["market/news"]),
            ("Trading", true, &[], TRADING),
            ("OrderPad", true, &[], &[]),
            ("Authorise", true, &[], &[]),
            ("Admin", true, &[], &[]),
        ];
        let right = |(name, secure_only, dotted, paths): Row| {
            let scope = Scope::parse(&format!("Zenith/{name}")).expect("the names above are scopes");
            let dotted = dotted.iter().map(|name| (*name).to_owned());
            let addresses = paths.iter().map(|path| format!("{WSAPI}/{path}"));
            Right::new(scope, secure_only, [format!("Paritech.Zenith.{name}")].into_iter().chain(dotted).chain(addresses))
        };
        Catalogue(ROWS.into_iter().map(right).collect())
    }
}

/// The root of the oldest family.
const WSAPI: &str = "http://api.paritech.com/wsapi";

impl Catalogue {
    /// What the core must know of it.
    pub(super) fn definitions(&self) -> Vec<ScopeDefinition> {
        let name = |family: Family, name: &String| ScopeName { name: name.clone(), spelling: family.mark() };
        let definition = |right: &Right| ScopeDefinition {
            scope: right.scope.clone(),
            secure_only: right.secure_only,
            names: Family::ALL
                .into_iter()
                .flat_map(|family| right.names[family as usize].iter().map(move |one| name(family, one)))
                .collect(),
        };
        self.0.iter().map(definition).collect()
    }

    /// Starts to read the names of a request.
    pub(super) fn select(&self) -> Selection<'_> {
        Selection { catalogue: self, chosen: vec![false; self.0.len()], family: None, named: false }
    }

    /// The names to tell for `scopes`: those of this catalogue, in its order, in the family of `mark`. A right without a
    /// name in that family is told by its canonical one.
    pub(super) fn told<'a>(&'a self, scopes: &'a Scopes, mark: u8) -> impl Iterator<Item = &'a str> {
        let family = Family::marked(mark) as usize;
        let name = move |right: &'a Right| right.names[family].first().map_or(right.scope.as_str(), String::as_str);
        self.0.iter().filter(|right| scopes.contains(&right.scope)).map(name)
    }
}

/// The names of one request, read one after the other.
pub(super) struct Selection<'a> {
    catalogue: &'a Catalogue,
    chosen: Vec<bool>,
    family: Option<Family>,
    named: bool,
}

impl Selection<'_> {
    /// Adds a name: it selects each right that bears it or a name below it. The first name that selects anything decides
    /// the family of the answer; one that selects nothing is ignored.
    pub(super) fn add(&mut self, name: &str) {
        self.named = true;
        for family in Family::ALL {
            let mut known = false;
            for (right, chosen) in self.catalogue.0.iter().zip(&mut self.chosen) {
                if right.is_called(name, family) {
                    *chosen = true;
                    known = true;
                }
            }
            if known {
                self.family.get_or_insert(family);
                return;
            }
        }
    }

    /// What was asked for, and in which family.
    pub(super) fn finish(self) -> (ScopeRequest, Family) {
        let family = self.family.unwrap_or(Family::Slashed);
        if !self.named {
            return (ScopeRequest::Nothing, family);
        }
        let chosen = self.catalogue.0.iter().zip(self.chosen).filter(|(_, chosen)| *chosen);
        (ScopeRequest::AnyOf(chosen.map(|(right, _)| right.scope.clone()).collect()), family)
    }
}

/// How tokens are written here. One that restores a session: its 32 bytes as they are. Base-64 comes on when it is told, since
/// the wire's rule takes it off again when it comes back. One for the service behind this gate: signed claims.
pub(super) fn spell(token: &NewToken<'_>) -> Spelled {
    match token {
        NewToken::Restore { random } => Spelled::Text(Secret::new(random.as_slice())),
        NewToken::Cookie { .. } | NewToken::Terminal(_) | NewToken::Access { .. } | NewToken::Refresh { .. } => Spelled::Never,
        NewToken::Upstream { audience, issuer, principal, issued_at, expires_at } => {
            let (issued_at, expires_at) = (*issued_at, *expires_at);
            Vouched { issuer, audience, principal, issued_at, expires_at }.spelled(Rights::Scopes)
        }
    }
}

/// Writes a token as it is told: Base-64 of its bytes.
pub(super) fn push_token(out: &mut String, token: &IssuedToken) {
    STANDARD.encode_string(token.secret.expose(), out);
}

/// What an `AccessToken` may mean, likeliest first. If it is Base-64 (standard alphabet, padded, after blanks, tabs and line
/// ends are dropped, unused bits zero), it means the bytes; failing these, and otherwise, its own text. `None`: it can be
/// no token.
pub(super) fn readings(text: &str) -> Option<Vec<Secret>> {
    if text.is_empty() || !text.is_ascii() {
        return None;
    }
    let is_layout = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let decoded = match text.bytes().filter(is_layout).count() {
        0 => STANDARD.decode(text),
        _ => STANDARD.decode(Secret::new(text.bytes().filter(|byte| !is_layout(byte)).collect::<Vec<u8>>()).expose()),
    };
    let decoded = decoded.ok().filter(|bytes| !bytes.is_empty()).map(Secret::new);
    Some(decoded.into_iter().chain([Secret::new(text)]).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gatepost_identity::account::{AccountSummary, ClientId, Rights};
    use gatepost_identity::clock::Timestamp;
    use gatepost_identity::reply::{Method, Principal};
    use gatepost_identity::session::SessionId;

    use super::*;

    fn scopes(names: &str) -> Scopes {
        names.split_whitespace().map(|name| Scope::parse(&format!("Zenith/{name}")).expect("a scope")).collect()
    }

    fn claims(display_name: Option<&str>, service: bool) -> String {
        let account = AccountSummary {
            id: None,
            issuer: None,
            subject: "u-1".to_owned(),
            name: "ann".to_owned(),
            email: Some("ann@example.org".to_owned()),
            display_name: display_name.map(str::to_owned),
            first_name: None,
            last_name: None,
            profile_url: None,
            cut_off: Default::default(),
        };
        let principal = Principal {
            session: Some(SessionId(Default::default())),
            account: Some(Arc::new(account)).filter(|_| !service),
            client: ClientId::parse("app").ok(),
            scopes: scopes("Market News"),
            rights: Rights::default(),
            terminal: None,
            provider: None,
            method: Method::Password,
            spelling: 1,
            expires_at: None,
        };
        let (issued_at, expires_at) = (Timestamp::from_millis(1_900_000_000_999), Timestamp::from_millis(1_900_000_060_999));
        let new = NewToken::Upstream { audience: "svc", issuer: "https://a", principal: &principal, issued_at, expires_at };
        match spell(&new) {
            Spelled::Signed { typ: "JWT", claims } => String::from_utf8(claims).expect("text"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_service_behind_the_gate_is_told_who_is_there_in_canonical_names() {
        let session = "00000000-0000-0000-0000-000000000000";
        assert_eq!(
            claims(Some("Ann Example"), false),
            format!(
                r#"{{"iss":"https://a","aud":"svc","sub":"u-1","client_id":"app","scope":"Zenith/Market Zenith/News","sid":"{session}","preferred_username":"ann","name":"Ann Example","iat":1900000000,"exp":1900000060}}"#
            )
        );
        let service: serde_json::Value = serde_json::from_str(&claims(None, true)).expect("JSON");
        assert_eq!((&service["sub"], &service["client_id"], service.get("name")), (&"app".into(), &"app".into(), None));
        assert_eq!(service.get("preferred_username"), None, "who has no name to log in with is a client");
    }

    #[test]
    fn claims_are_printable_ascii_whatever_somebody_is_called() {
        for name in ["Zoë", "Ω 𝔸𝓃𝓃 🦀", "a\"b\\c\u{7f}\u{0}\u{85}\r\nX: y", "\u{feff}\u{2028}"] {
            let claims = claims(Some(name), false);
            assert!(claims.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{claims:?}");
            let read: serde_json::Value = serde_json::from_str(&claims).expect("JSON");
            assert_eq!(read["name"], name);
        }
    }

    #[test]
    fn a_token_is_read_as_base64_first_and_as_text_second() {
        let check = |text: &str, expected: Option<&[&[u8]]>| {
            let read = readings(text);
            let read: Option<Vec<&[u8]>> = read.as_ref().map(|read| read.iter().map(Secret::expose).collect());
            assert_eq!(read.as_deref(), expected, "{text:?}");
        };
        check("mF_9.B5f-4.1JqM", Some(&[b"mF_9.B5f-4.1JqM"]));
        check("aaa.bbb.ccc", Some(&[b"aaa.bbb.ccc"]));
        check("dG9rZW4x", Some(&[b"token1", b"dG9rZW4x"]));
        check("abcd", Some(&[&[0x69, 0xb7, 0x1d], b"abcd"]));
        check("abc", Some(&[b"abc"]));
        check("abc=", Some(&[&[0x69, 0xb7], b"abc="]));
        check(" dG9r\r\n\tZW4x", Some(&[b"token1", b" dG9r\r\n\tZW4x"]));
        check("dG9rZW4", Some(&[b"dG9rZW4"]));
        check("dG9rZW4x====", Some(&[b"dG9rZW4x===="]));
        check("abd=", Some(&[b"abd="]));
        check("_-_-", Some(&[b"_-_-"]));
        check("    ", Some(&[b"    "]));
        check("", None);
        check("dG9rZW4ö", None);
        let hexadecimal = "0123456789abcdef".repeat(4);
        assert_eq!(readings(&hexadecimal).map(|read| read[0].expose().len()), Some(48));
    }

    #[test]
    fn each_family_selects_its_names_and_all_below_them() {
        let check = |asked: &[&str], expected: Option<&str>, family| {
            let catalogue = Catalogue::default();
            let mut selection = catalogue.select();
            asked.iter().for_each(|name| selection.add(name));
            let expected = expected.map_or(ScopeRequest::Nothing, |names| ScopeRequest::AnyOf(scopes(names)));
            assert_eq!(selection.finish(), (expected, family), "{asked:?}");
        };
        use Family::{Dotted, Slashed, Uri};
        let all = "Market News Trading OrderPad Authorise Admin";
        check(&[], None, Slashed);
        check(&["Zenith"], Some(all), Slashed);
        check(&["Zenith/Market"], Some("Market"), Slashed);
        check(&["Zenith/Trading", "Zenith/Market", "Zenith/Market"], Some("Market Trading"), Slashed);
        check(&["Paritech.Zenith"], Some(all), Dotted);
        check(&["Paritech"], Some(all), Dotted);
        check(&["Paritech.Zenith.Market"], Some("Market News"), Dotted);
        check(&["Paritech.Zenith.Market.Data"], Some("Market"), Dotted);
        check(&["Paritech.Zenith.Market.News"], Some("News"), Dotted);
        check(&["Paritech.Zenith.News", "Zenith/Market"], Some("Market News"), Dotted);
        check(&[WSAPI], Some("Market News Trading"), Uri);
        check(&["http://api.paritech.com/wsapi/market/news"], Some("News"), Uri);
        check(&["http://api.paritech.com/wsapi/trading/orders"], Some("Trading"), Uri);
        check(&["Motif/Service", "Paritech.Zenith.Trading"], Some("Trading"), Dotted);
        for unknown in ["", "/", ".", "zenith", "Zenith/", "Zenith/Mark", "Zenith/Market/x", "Paritech.Zen", "Motif/Service"] {
            check(&[unknown], Some(""), Slashed);
        }
    }

    #[test]
    fn a_canonical_name_is_of_the_family_that_it_looks_like() {
        let names = ["Own.News", "Own/News", "own://news"];
        let right = |name: &&str| Right::new(Scope::parse(name).expect("a scope"), false, []);
        let catalogue = Catalogue(names.iter().map(right).collect());
        for (asked, chosen, family) in
            [("Own", "Own/News", Family::Slashed), ("Own.News", "Own.News", Family::Dotted), ("own:/", "own://news", Family::Uri)]
        {
            let mut selection = catalogue.select();
            selection.add(asked);
            let chosen = [chosen].iter().map(|name| Scope::parse(name).expect("a scope")).collect();
            assert_eq!(selection.finish(), (ScopeRequest::AnyOf(chosen), family), "{asked}");
        }
    }

    #[test]
    fn answers_are_in_the_family_asked_in_in_the_catalogues_order() {
        let check = |held, mark, expected: &[&str]| {
            let catalogue = Catalogue::default();
            assert_eq!(catalogue.told(&scopes(held), mark).collect::<Vec<_>>(), expected, "{held} as {mark}");
        };
        check("Trading Market", 0, &["Zenith/Market", "Zenith/Trading"]);
        check("Trading Market", 1, &["Paritech.Zenith.Market", "Paritech.Zenith.Trading"]);
        check("News", 1, &["Paritech.Zenith.News"]);
        check(
            "News Trading Market OrderPad",
            2,
            &[
                "http://api.paritech.com/wsapi/market",
                "http://api.paritech.com/wsapi/market/news",
                "http://api.paritech.com/wsapi/trading",
                "Zenith/OrderPad",
            ],
        );
        check("Market", 9, &["Zenith/Market"]);
        check("Elsewhere", 0, &[]);
    }
}
