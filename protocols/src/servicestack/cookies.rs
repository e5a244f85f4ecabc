//! Cookies and the header fields that stand for them: which session a request speaks for, and what a browser is given to keep.
//!
//! ```text
//! ss-id    a session until the browser ends      ss-opt   which of the two counts: `temp` or `perm`
//! ss-pid   a session that is remembered          X-UAId   the id of the user, for scripts of the server's side
//! ss-tok   an access token                       ss-reftok   a refresh token
//! ```
//!
//! Whatever cannot be read is passed over: some clients keep pieces of dates as cookies and send them along. What goes out is a
//! jar, in which the last word on a name counts. It refuses to know whether an id opens anything.

use std::time::Duration;

use gatepost_identity::reply::TokenKind;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::servicestack::escape::escaped;
use crate::servicestack::spelling::EmptyIds;

const TEMPORARY: &str = "ss-id";
const PERMANENT: &str = "ss-pid";
const OPTIONS: &str = "ss-opt";
const USER: &str = "X-UAId";
const ACCESS: &str = "ss-tok";
const REFRESH: &str = "ss-reftok";

/// The fields that stand for the first three.
const TEMPORARY_FIELD: HeaderName = HeaderName::from_static("x-ss-id");
const PERMANENT_FIELD: HeaderName = HeaderName::from_static("x-ss-pid");
const OPTIONS_FIELD: HeaderName = HeaderName::from_static("x-ss-opt");

/// Every cookie of the gate's: no service sees or sets one.
pub(super) const NAMES: [&str; 6] = [TEMPORARY, PERMANENT, OPTIONS, USER, ACCESS, REFRESH];

/// The longest id that is looked at, in bytes. What we draw is shorter.
const LONGEST: usize = 256;
/// The longest token that is looked at, in bytes.
const LONGEST_TOKEN: usize = 8192;
/// How long a browser keeps what outlives it, in seconds: twenty years, as the framework has it. The session ends before.
const KEPT: u32 = 20 * 365 * 24 * 60 * 60;

/// What a request brought along.
#[derive(Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Brought {
    temporary: Option<String>,
    permanent: Option<String>,
    remembered: bool,
    /// Whether the id that counts stands in a field of its own.
    claimed: bool,
    access: Option<String>,
    refresh: Option<String>,
}

impl Brought {
    /// Reads the header fields, and the cookies where `cookies` says that they are to be believed. A field of its own goes over the
    /// cookie of its name.
    pub(super) fn read(headers: &HeaderMap, cookies: bool) -> Brought {
        let names = [TEMPORARY, PERMANENT, OPTIONS, ACCESS, REFRESH];
        let [temporary, permanent, options, access, refresh] = if cookies { self::cookies(headers, names) } else { [None; 5] };
        let field = |name: HeaderName| {
            let value = headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
            value.filter(|value| !value.is_empty())
        };
        let legible = |value: &&str, longest: usize| value.len() <= longest && value.bytes().all(|byte| byte.is_ascii_graphic());
        let id =
            |field: Option<&str>, cookie: Option<&str>| field.or(cookie).filter(|value| legible(value, LONGEST)).map(str::to_owned);
        let token = |cookie: Option<&str>| cookie.filter(|value| legible(value, LONGEST_TOKEN)).map(str::to_owned);
        let (own_temporary, own_permanent) = (field(TEMPORARY_FIELD), field(PERMANENT_FIELD));
        let options = field(OPTIONS_FIELD).or(options).filter(|value| legible(value, LONGEST)).unwrap_or_default();
        let remembered = options.split(',').any(|option| option == "perm");
        Brought {
            temporary: id(own_temporary, temporary),
            permanent: id(own_permanent, permanent),
            remembered,
            claimed: if remembered { own_permanent.is_some() } else { own_temporary.is_some() },
            access: token(access),
            refresh: token(refresh),
        }
    }

    /// The id of the session that the request speaks for, if it has one.
    pub(super) fn session(&self) -> Option<&str> {
        let id = if self.remembered { &self.permanent } else { &self.temporary };
        id.as_deref()
    }

    /// Whether that id was shown on purpose: no browser sends such a field by itself.
    pub(super) fn claims_session(&self) -> bool {
        self.claimed
    }

    /// The access token that it brought, by a cookie.
    pub(super) fn access(&self) -> Option<&str> {
        self.access.as_deref()
    }

    /// The refresh token that it brought, by a cookie.
    pub(super) fn refresh(&self) -> Option<&str> {
        self.refresh.as_deref()
    }

    /// As if it had brought no refresh token in a cookie.
    pub(super) fn forget_refresh(&mut self) {
        self.refresh = None;
    }

    /// Every id that it has.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        [&self.temporary, &self.permanent].into_iter().filter_map(|id| id.as_deref())
    }
}

/// The values of cookies, of each name the first. An empty one is as good as none: it was deleted.
fn cookies<'h, const N: usize>(headers: &'h HeaderMap, names: [&str; N]) -> [Option<&'h str>; N] {
    let mut found = [None; N];
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| std::str::from_utf8(line.as_bytes()).ok());
    for (name, value) in lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('=')) {
        let (name, value) = (name.trim(), value.trim());
        if let Some(place) = names.iter().position(|own| *own == name).filter(|_| !value.is_empty()) {
            found[place].get_or_insert(value);
        }
    }
    found
}

/// What may come out of a jar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lid {
    /// Everything.
    Open,
    /// No token: a link of somebody else's has led the browser here, and it would go on as whoever the link is about.
    KeepsTokens,
    /// Nothing.
    Closed,
}

impl Lid {
    /// By where a request came from, and whether it was led here to read only.
    pub(super) const fn of(elsewhere: bool, only_reads: bool) -> Lid {
        match (elsewhere, only_reads) {
            (false, _) => Lid::Open,
            (true, true) => Lid::KeepsTokens,
            (true, false) => Lid::Closed,
        }
    }
}

/// What a browser is given to keep.
pub(super) struct Jar {
    secure: bool,
    lid: Lid,
    empty: EmptyIds,
    /// The names of the tokens that the request brought.
    brought: Vec<&'static str>,
    set: Vec<(&'static str, Kept)>,
}

enum Kept {
    UntilItEnds(String),
    Long(String),
    For(String, Duration),
    Deleted,
}

impl Jar {
    /// A jar with ids for a browser that lacks them. Whatever is put into it, the lid has the last word.
    pub(super) fn new(brought: &Brought, empty: EmptyIds, lid: Lid, secure: bool) -> Jar {
        let tokens = [(ACCESS, &brought.access), (REFRESH, &brought.refresh)].into_iter();
        let brought_tokens = tokens.filter(|(_, token)| token.is_some()).map(|(name, _)| name).collect();
        let mut jar = Jar { secure, lid, set: Vec::new(), brought: brought_tokens, empty };
        if brought.temporary.is_none() {
            jar.put(TEMPORARY, Kept::UntilItEnds(jar.empty.temporary()));
        }
        if brought.permanent.is_none() {
            jar.put(PERMANENT, Kept::Long(jar.empty.permanent()));
        }
        jar
    }

    /// The id that stands for the session of a request that brought none.
    pub(super) fn empty_session(&self) -> String {
        self.empty.temporary()
    }

    /// Somebody is given something of their own to keep: the tokens that the request brought may be another's, and would go over it.
    /// What is kept afterwards stays.
    pub(super) fn part_from_tokens(&mut self) {
        for name in std::mem::take(&mut self.brought) {
            self.put(name, Kept::Deleted);
        }
    }

    /// A session begins. Both ids are new, whichever of them counts from now on, and no token stays that goes before them.
    pub(super) fn begin(&mut self, session: &str, remember: bool, user: &str) {
        let (temporary, permanent) = match remember {
            true => (self.empty.temporary(), session.to_owned()),
            false => (session.to_owned(), self.empty.permanent()),
        };
        self.put(TEMPORARY, Kept::UntilItEnds(temporary));
        self.put(PERMANENT, Kept::Long(permanent));
        self.put(OPTIONS, Kept::Long(if remember { "perm" } else { "temp" }.to_owned()));
        self.put(USER, Kept::Long(escaped(user)));
        self.part_from_tokens();
    }

    /// No session begins, but its place is taken: the ids are new and open nothing.
    pub(super) fn begin_nothing(&mut self, remember: bool, user: &str) {
        let empty = if remember { self.empty.permanent() } else { self.empty.temporary() };
        self.begin(&empty, remember, user);
    }

    /// A token goes along, for as long as it is good. Of other kinds than the two nothing is kept.
    pub(super) fn keep(&mut self, kind: &TokenKind, token: &str, life: Duration) {
        match kind {
            TokenKind::Access => self.put(ACCESS, Kept::For(token.to_owned(), life)),
            TokenKind::Refresh => self.put(REFRESH, Kept::For(token.to_owned(), life)),
            TokenKind::Restore | TokenKind::Cookie { .. } | TokenKind::Terminal(_) | TokenKind::Upstream { .. } => {}
        }
    }

    /// A token that was brought is no good.
    pub(super) fn drop_access(&mut self) {
        self.put(ACCESS, Kept::Deleted);
    }

    /// As [`Jar::drop_access`].
    pub(super) fn drop_refresh(&mut self) {
        self.put(REFRESH, Kept::Deleted);
    }

    /// Whatever session there was has ended.
    pub(super) fn end(&mut self) {
        for name in [TEMPORARY, PERMANENT, USER] {
            self.put(name, Kept::Deleted);
        }
    }

    /// Nothing comes out any more.
    pub(super) fn close(&mut self) {
        self.lid = Lid::Closed;
    }

    fn put(&mut self, name: &'static str, kept: Kept) {
        match self.set.iter_mut().find(|(other, _)| *other == name) {
            Some((_, before)) => *before = kept,
            None => self.set.push((name, kept)),
        }
    }

    /// Writes the header fields, one for each cookie, as ASP.NET spells them.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let given = |kept: &Kept| match (self.lid, kept) {
            (Lid::Open, _) => true,
            (Lid::KeepsTokens, kept) => !matches!(kept, Kept::For(..)),
            (Lid::Closed, _) => false,
        };
        let set = || self.set.iter().filter(|(_, kept)| given(kept));
        let kept_tokens: Vec<&str> = set().filter(|(_, kept)| matches!(kept, Kept::For(..))).map(|(name, _)| *name).collect();
        if !kept_tokens.is_empty() {
            // Scripts cannot see the cookies, and are told that they are there.
            if let Ok(names) = HeaderValue::try_from(kept_tokens.join(",")) {
                headers.insert("X-Cookies", names);
            }
        }
        for (name, kept) in set() {
            let (value, life) = match kept {
                Kept::UntilItEnds(value) => (&**value, String::new()),
                Kept::Long(value) => (&**value, format!("; max-age={KEPT}")),
                Kept::For(value, life) => (&**value, format!("; max-age={}", life.as_millis().div_ceil(1000))),
                Kept::Deleted => ("", "; max-age=0".to_owned()),
            };
            let secure = if self.secure { "; secure" } else { "" };
            let text = format!("{name}={value}{life}; path=/{secure}; samesite=lax; httponly");
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.append(SET_COOKIE, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).expect("a header's value");
        let mut headers = HeaderMap::new();
        for (name, text) in fields {
            headers.append(*name, value(text));
        }
        headers
    }

    fn session(fields: &[(&'static str, &str)]) -> Option<String> {
        Brought::read(&headers(fields), true).session().map(str::to_owned)
    }

    #[test]
    fn the_options_say_which_id_counts() {
        let check = |fields: &[(&'static str, &str)], expected: Option<&str>| {
            assert_eq!(session(fields).as_deref(), expected, "{fields:?}");
        };
        check(&[], None);
        check(&[("cookie", "ss-id=a; ss-pid=b")], Some("a"));
        check(&[("cookie", "ss-id=a; ss-pid=b; ss-opt=temp")], Some("a"));
        check(&[("cookie", "ss-id=a; ss-pid=b; ss-opt=perm")], Some("b"));
        check(&[("cookie", "ss-opt=temp,perm; ss-id=a; ss-pid=b")], Some("b"));
        check(&[("cookie", "ss-opt=permanent; ss-id=a; ss-pid=b")], Some("a"));
        check(&[("cookie", "ss-opt=perm; ss-id=a")], None);
        check(&[("cookie", "ss-pid=b")], None);
        check(&[("cookie", "ss-pid=b"), ("cookie", "ss-opt=perm")], Some("b"));
    }

    #[test]
    fn a_header_field_goes_over_the_cookie_of_its_name() {
        let cookie = ("cookie", "ss-id=a; ss-pid=b; ss-opt=temp");
        assert_eq!(session(&[cookie, ("x-ss-id", "c")]).as_deref(), Some("c"));
        assert_eq!(session(&[cookie, ("x-ss-opt", "perm")]).as_deref(), Some("b"));
        assert_eq!(session(&[cookie, ("x-ss-opt", "perm"), ("x-ss-pid", "d")]).as_deref(), Some("d"));
        assert_eq!(session(&[cookie, ("x-ss-id", " ")]).as_deref(), Some("a"));
        let foreign = Brought::read(&headers(&[cookie, ("x-ss-pid", "d"), ("x-ss-opt", "perm")]), false);
        assert_eq!((foreign.session(), foreign.all().count()), (Some("d"), 1));
        let claims = |fields: &[(&'static str, &str)]| Brought::read(&headers(fields), true).claims_session();
        assert!(claims(&[cookie, ("x-ss-id", "c")]) && claims(&[("x-ss-opt", "perm"), ("x-ss-pid", "d")]));
        assert!(!claims(&[cookie]) && !claims(&[cookie, ("x-ss-id", " ")]) && !claims(&[cookie, ("x-ss-pid", "d")]));
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        let check = |cookie: &str, expected: Option<&str>| {
            assert_eq!(session(&[("cookie", cookie)]).as_deref(), expected, "{cookie:?}");
        };
        check("; 21 Nov 2045 22:28:00 GMT=null; ss-id=a; =; x", Some("a"));
        check("SS-ID=b; ss-id =a", Some("a"));
        check("ss-id=; ss-id=a", Some("a"));
        check("ss-id=", None);
        check("ss-id", None);
        check("ss-id=a b", None);
        check("ss-id=é", None);
        check("ss-id=a=b; ss-id=c", Some("a=b"));
        check(&format!("ss-id={}", "x".repeat(LONGEST)), Some(&"x".repeat(LONGEST)));
        check(&format!("ss-id={}", "x".repeat(LONGEST + 1)), None);
    }

    fn written(jar: &Jar) -> Vec<String> {
        let mut headers = HeaderMap::new();
        jar.write(&mut headers);
        headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    fn jar(brought: &Brought, lid: Lid, secure: bool) -> Jar {
        Jar::new(brought, EmptyIds([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), lid, secure)
    }

    #[test]
    fn tokens_and_all_else_come_out_as_the_lid_lets_them() {
        for (elsewhere, only_reads, expected) in [(false, false, 3), (false, true, 3), (true, true, 2), (true, false, 0)] {
            let mut jar = jar(&Brought::default(), Lid::of(elsewhere, only_reads), false);
            jar.keep(&TokenKind::Access, "a.b.c", Duration::from_secs(1));
            let mut headers = HeaderMap::new();
            jar.write(&mut headers);
            let told = (headers.get_all(SET_COOKIE).iter().count(), headers.contains_key("x-cookies"));
            assert_eq!(told, (expected, expected == 3), "elsewhere: {elsewhere}, only reads: {only_reads}");
        }
        let mut led = jar(&Brought::default(), Lid::KeepsTokens, false);
        led.drop_access();
        assert_eq!(written(&led).len(), 3, "what is no good is taken back whoever led here");
    }

    #[test]
    fn a_browser_without_ids_is_given_some() {
        let nothing = Brought::default();
        let expected = [
            "ss-id=00000000000; path=/; samesite=lax; httponly",
            "ss-pid=00000000001; max-age=630720000; path=/; samesite=lax; httponly",
        ];
        assert_eq!(written(&jar(&nothing, Lid::Open, false)), expected);
        let both = Brought { temporary: Some("a".to_owned()), permanent: Some("b".to_owned()), ..Brought::default() };
        assert!(written(&jar(&both, Lid::Open, false)).is_empty());
        assert!(written(&jar(&nothing, Lid::Closed, false)).is_empty());
    }

    #[test]
    fn the_last_word_on_a_name_counts() {
        let mut jar = jar(&Brought::default(), Lid::Open, true);
        jar.begin("s", true, "u 7;x");
        let expected = [
            "ss-id=00000000000; path=/; secure; samesite=lax; httponly",
            "ss-pid=s; max-age=630720000; path=/; secure; samesite=lax; httponly",
            "ss-opt=perm; max-age=630720000; path=/; secure; samesite=lax; httponly",
            "X-UAId=u+7%3bx; max-age=630720000; path=/; secure; samesite=lax; httponly",
        ];
        assert_eq!(written(&jar), expected);
        jar.begin("s", false, "7");
        assert!(written(&jar)[0].starts_with("ss-id=s; path=/;"));
        assert!(written(&jar)[1].starts_with("ss-pid=00000000001; max-age=630720000;"));
        assert!(written(&jar)[2].starts_with("ss-opt=temp;"));
        jar.end();
        let names = ["ss-id=;", "ss-pid=;", "ss-opt=temp;", "X-UAId=;"];
        for (cookie, name) in written(&jar).iter().zip(names) {
            assert!(cookie.starts_with(name) && cookie.contains("max-age=0") != name.starts_with("ss-opt"), "{cookie}");
        }
    }
}
