//! Where a page goes afterwards: only to places of this server, whatever somebody has written into the address.
//!
//! An address is taken apart and its origin compared, since what merely begins like this server's may lead elsewhere. What no
//! browser reads as it is written (backslashes, control characters) is refused. It refuses to know what the page was.

use crate::servicestack::escape::for_a_header;
use crate::servicestack::value::same;

/// What addresses are compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here<'a> {
    /// Where others find this server: an origin in lower case. `None`: nothing that names an origin is taken.
    pub(super) public_url: Option<&'a str>,
    /// What stands before every path of the gate.
    pub(super) base_path: &'a str,
}

/// An address that leads elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elsewhere;

impl Here<'_> {
    /// The address as it can stand in `Location`.
    ///
    /// # Errors
    /// It leads elsewhere, or nobody can be sure.
    pub(super) fn check(&self, address: &str) -> Result<String, Elsewhere> {
        let address = address.trim();
        let below = address.strip_prefix('~').filter(|path| path.starts_with('/'));
        // What comes before the path may be nothing, and then two slashes at its beginning would lead elsewhere.
        if below.unwrap_or(address).starts_with("//") || address.contains(|letter: char| letter == '\\' || letter.is_control()) {
            return Err(Elsewhere);
        }
        if let Some(path) = below {
            return Ok(for_a_header(&format!("{}{path}", self.base_path)));
        }
        let is_ours = match origin(address) {
            Origin::None => true,
            Origin::Of { scheme, authority } => self.public_url.is_some_and(|own| is_origin(own, scheme, authority)),
            Origin::Odd => false,
        };
        if is_ours { Ok(for_a_header(address)) } else { Err(Elsewhere) }
    }

    /// The page that a request came from by its `Referer`, if that is a page of this server: path and query alone, so that nothing
    /// of the header's origin comes back. Without a public address that is the origin that the request itself was sent to.
    pub(super) fn referer(&self, referer: &str, host: Option<&str>) -> Option<String> {
        let Origin::Of { scheme, authority } = origin(referer) else { return None };
        let is_ours = match self.public_url {
            Some(own) => is_origin(own, scheme, authority),
            None => host.is_some_and(|host| same(host, authority)),
        };
        let path = referer.split_once("://")?.1.get(authority.len()..)?;
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        self.check(&path).ok().filter(|_| is_ours)
    }
}

enum Origin<'a> {
    /// It names none: a path, a query, a fragment.
    None,
    /// It names this one.
    Of { scheme: &'a str, authority: &'a str },
    /// It has a scheme that has no origin, or one that says more than an origin.
    Odd,
}

fn origin(address: &str) -> Origin<'_> {
    let end = address.find([':', '/', '?', '#']).unwrap_or(address.len());
    let (scheme, rest) = address.split_at(end);
    let Some(rest) = rest.strip_prefix(':') else { return Origin::None };
    let Some(rest) = rest.strip_prefix("//") else { return Origin::Odd };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = !authority.is_empty() && authority.is_ascii() && !authority.contains(['@', ' ', '%']);
    if plain && (same(scheme, "http") || same(scheme, "https")) { Origin::Of { scheme, authority } } else { Origin::Odd }
}

/// Whether scheme and authority are this origin, by whichever of the two ways its usual port is written.
pub(super) fn is_origin(own: &str, scheme: &str, authority: &str) -> bool {
    let Some((own_scheme, own_authority)) = own.split_once("://") else { return false };
    let port = if own_scheme == "https" { ":443" } else { ":80" };
    let bare = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    same(own_scheme, scheme) && bare(own_authority) == bare(authority)
}

/// The address with a mark in its fragment: `#s=1`. One that is there already goes on behind a slash, and a mark of the same name
/// is replaced.
pub(super) fn marked(address: &str, name: &str, value: &str) -> String {
    let mark = format!("{name}={value}");
    let Some((before, fragment)) = address.split_once('#').filter(|(_, fragment)| !fragment.is_empty()) else {
        return format!("{}#{mark}", address.trim_end_matches('#'));
    };
    let mut marks: Vec<&str> = fragment.split('/').collect();
    match marks.iter_mut().find(|other| other.split_once('=').is_some_and(|(other, _)| other == name)) {
        Some(same) => *same = &mark,
        None => marks.push(&mark),
    }
    format!("{before}#{}", marks.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Here<'static> = Here { public_url: Some("https://auth.example.org"), base_path: "/host" };

    #[test]
    fn only_what_leads_here_is_taken() {
        let here = |address: &str| HERE.check(address);
        for (address, expected) in [
            ("/home", "/home"),
            (" /home?a=b#c ", "/home?a=b#c"),
            ("home/../x", "home/../x"),
            ("?a=http://x", "?a=http://x"),
            ("/a:b", "/a:b"),
            ("~/home", "/host/home"),
            ("/a b/é", "/a%20b/%c3%a9"),
            ("/%2f%2fevil.test", "/%2f%2fevil.test"),
            ("/%5cevil.test", "/%5cevil.test"),
            ("https://auth.example.org", "https://auth.example.org"),
            ("HTTPS://AUTH.example.org:443/x?y", "HTTPS://AUTH.example.org:443/x?y"),
            ("https://auth.example.org#x", "https://auth.example.org#x"),
        ] {
            assert_eq!(here(address).as_deref(), Ok(expected), "{address}");
        }
        for address in [
            "//evil.test",
            "  //evil.test",
            "///evil.test",
            "~//evil.test",
            " ~///evil.test",
            "~/\\evil.test",
            "/\\evil.test",
            "\\\\evil.test",
            "\\/evil.test",
            "/\t/evil.test",
            "/x\r\nSet-Cookie: a=b",
            "https:evil.test",
            "https:/evil.test",
            "https:///evil.test",
            "https://evil.test",
            "https://auth.example.org.evil.test/",
            "https://auth.example.org@evil.test/",
            "https://auth.example.org:8443/",
            "https://auth.example.org%2eevil.test/",
            "http://auth.example.org/",
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://auth.example.org/",
            "a:b",
        ] {
            assert_eq!(here(address), Err(Elsewhere), "{address}");
        }
        let nameless = Here { public_url: None, base_path: "" };
        assert_eq!(nameless.check("https://auth.example.org/"), Err(Elsewhere));
        assert_eq!(nameless.check("~/x").as_deref(), Ok("/x"));
        assert_eq!(nameless.check("~/x//y").as_deref(), Ok("/x//y"));
        for address in ["~//evil.test", "~///evil.test", " ~//evil.test", "~/\\evil.test", "~/\t/evil.test"] {
            assert_eq!(nameless.check(address), Err(Elsewhere), "{address}");
        }
    }

    #[test]
    fn a_referer_gives_its_path_where_it_is_ours() {
        let check = |here: Here<'_>, referer: &str, host: Option<&str>, expected: Option<&str>| {
            assert_eq!(here.referer(referer, host).as_deref(), expected, "{referer}");
        };
        check(HERE, "https://auth.example.org/login?a=b#c", None, Some("/login?a=b"));
        check(HERE, "https://auth.example.org", None, Some("/"));
        check(HERE, "https://auth.example.org?a", None, Some("/?a"));
        check(HERE, "https://evil.test/login", Some("evil.test"), None);
        check(HERE, "/login", None, None);
        check(HERE, "https://auth.example.org//evil.test", None, None);
        let nameless = Here { public_url: None, base_path: "" };
        check(nameless, "http://127.0.0.1:8000/x", Some("127.0.0.1:8000"), Some("/x"));
        check(nameless, "http://127.0.0.1:8000/x", Some("127.0.0.1:8001"), None);
        check(nameless, "http://127.0.0.1:8000/x", None, None);
    }

    #[test]
    fn marks_go_into_the_fragment() {
        for (address, name, value, expected) in [
            ("/home", "s", "1", "/home#s=1"),
            ("/home#", "s", "1", "/home#s=1"),
            ("/home?x#a=b", "s", "1", "/home?x#a=b/s=1"),
            ("/h#s=0/f=1/s=1", "f", "2", "/h#s=0/f=2/s=1"),
        ] {
            assert_eq!(marked(address, name, value), expected);
        }
    }
}
