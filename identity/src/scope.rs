//! Scopes: what there is to grant, and what of it is granted. And the one check of a right, of whatever kind.
//!
//! One pure function, [`resolve`], decides. Names here are canonical; the families of names that peers use are each
//! gate's own business, in its `spelling.rs`.

use std::fmt;
use std::sync::Arc;

use crate::account::NameKey;
use crate::command::ProviderName;
use crate::refusal::Refusal;
use crate::reply::Principal;

/// The canonical name of one right, for example `Zenith/Market`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// Parses a name: 1 to 128 printable ASCII characters but blank, `"` and `\` (RFC 6749 section 3.3).
    pub fn parse(text: &str) -> Result<Scope, String> {
        let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if text.is_empty() || text.len() > 128 || !text.bytes().all(legal) {
            return Err(format!("{text:?} is not a scope: 1 to 128 printable ASCII characters, no blank, quote or backslash"));
        }
        Ok(Scope(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of scopes, in the order it was made in, without doubles. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Scopes(Arc<[Scope]>);

impl Scopes {
    /// The scopes in it.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether it holds `scope`.
    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.contains(scope)
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Scopes {
        let mut kept: Vec<Scope> = Vec::new();
        for scope in scopes {
            if !kept.contains(&scope) {
                kept.push(scope);
            }
        }
        Scopes(kept.into())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// One line of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeDefinition {
    /// The right.
    pub scope: Scope,
    /// Whether it is given only where nobody on the way could read or change what is said.
    pub secure_only: bool,
    /// What other issuers call it in their tokens, likeliest family of names first.
    pub names: Vec<ScopeName>,
}

/// A name of a right in a family of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeName {
    /// The name.
    pub name: String,
    /// The gate's own mark for the family.
    pub spelling: u8,
}

/// The rights that names in somebody else's token mean, and the family of the first name that means any. Each name means the rights
/// that are called exactly so, and not those below it, as it would in a request: a request is bounded by what the user and the
/// client hold, a token by nothing but its words.
pub fn meant(catalogue: &[ScopeDefinition], names: &[String]) -> (Scopes, Option<u8>) {
    let (mut scopes, mut spelling) = (Vec::new(), None);
    for name in names {
        let family = catalogue.iter().flat_map(|line| &line.names).filter(|own| own.name == *name).map(|own| own.spelling).min();
        let is_meant = |line: &&ScopeDefinition| line.scope.as_str() == name || line.names.iter().any(|own| own.name == *name);
        scopes.extend(catalogue.iter().filter(is_meant).map(|line| line.scope.clone()));
        spelling = spelling.or(family);
    }
    (scopes.into_iter().collect(), spelling)
}

/// Which scopes a peer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeRequest {
    /// It named none: all it can have.
    Maximum,
    /// It asked for no right at all.
    Nothing,
    /// It named some. Names that the gate does not know are already gone, so the set may be empty.
    AnyOf(Scopes),
}

impl ScopeRequest {
    /// What is left of it for whoever may ask for no more than `bound` does. Who names what it may not ask for has named it in
    /// vain; who names nothing gets what the bound leaves.
    #[must_use]
    pub fn within(&self, bound: &ScopeRequest) -> ScopeRequest {
        match (self, bound) {
            (ScopeRequest::Maximum, bound) => bound.clone(),
            (asked, ScopeRequest::Maximum) => asked.clone(),
            (ScopeRequest::Nothing, _) => ScopeRequest::Nothing,
            (ScopeRequest::AnyOf(_), ScopeRequest::Nothing) => ScopeRequest::AnyOf(Scopes::default()),
            (ScopeRequest::AnyOf(asked), ScopeRequest::AnyOf(bound)) => {
                ScopeRequest::AnyOf(asked.iter().filter(|scope| bound.contains(scope)).cloned().collect())
            }
        }
    }
}

/// Which scopes are granted: what is asked for, of what the user holds, of what the client may carry, of what this
/// transport may carry; in the catalogue's order.
///
/// # Errors
/// [`Refusal::ScopeNotGranted`] where names were asked for and nothing is left of them, and where the transport alone
/// emptied a grant (`docs/protocols/zenith.md`, "Scopes").
pub fn resolve(
    catalogue: &[ScopeDefinition],
    requested: &ScopeRequest,
    held: &Scopes,
    client: &Scopes,
    secure: bool,
) -> Result<Scopes, Refusal> {
    let asked = |scope: &Scope| match requested {
        ScopeRequest::Maximum => true,
        ScopeRequest::Nothing => false,
        ScopeRequest::AnyOf(named) => named.contains(scope),
    };
    let open = |line: &&ScopeDefinition| asked(&line.scope) && held.contains(&line.scope) && client.contains(&line.scope);
    let granted: Scopes =
        catalogue.iter().filter(open).filter(|line| secure || !line.secure_only).map(|line| line.scope.clone()).collect();
    let emptied_by_transport = granted.is_empty() && catalogue.iter().any(|line| open(&line));
    let named_in_vain = granted.is_empty() && matches!(requested, ScopeRequest::AnyOf(_));
    if named_in_vain || emptied_by_transport { Err(Refusal::ScopeNotGranted) } else { Ok(granted) }
}

/// Something that a message, or a service behind a gate, wants of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// This scope was granted.
    Scope(Scope),
    /// The account has this role, spelled just so.
    Role(String),
    /// The account has this permission, spelled just so.
    Permission(String),
    /// This provider vouches.
    Provider(ProviderName),
}

impl Principal {
    /// Whether they may: the one check of a right, also for what a gate answers by itself.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`].
    pub fn may(&self, right: &Right) -> Result<(), Refusal> {
        let has = match right {
            Right::Scope(scope) => self.scopes.contains(scope),
            Right::Role(role) => self.rights.roles.contains(role),
            Right::Permission(permission) => self.rights.permissions.contains(permission),
            Right::Provider(provider) => {
                self.provider.as_ref().is_some_and(|vouching| NameKey::of(&vouching.0) == NameKey::of(&provider.0))
            }
        };
        if has { Ok(()) } else { Err(Refusal::NotPermitted) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Rights;
    use crate::reply::Method;

    fn scopes(text: &str) -> Scopes {
        text.split_whitespace().map(|name| Scope::parse(name).expect("a scope")).collect()
    }

    fn check(requested: ScopeRequest, held: &str, client: &str, secure: bool, expected: Option<&str>) {
        let catalogue = [("m", false), ("n", false), ("t", true)].map(|(name, secure_only)| ScopeDefinition {
            scope: Scope::parse(name).expect("a scope"),
            secure_only,
            names: Vec::new(),
        });
        let granted = resolve(&catalogue, &requested, &scopes(held), &scopes(client), secure);
        assert_eq!(granted.ok(), expected.map(scopes), "{requested:?} of {held} through {client}, secure: {secure}");
    }

    #[test]
    fn a_right_is_had_or_not() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let principal = Principal {
            session: None,
            account: None,
            client: None,
            scopes: scopes("m"),
            rights: Rights { roles: words("Manager"), permissions: words("CanPrint") },
            terminal: None,
            spelling: 0,
            provider: Some(ProviderName("local".to_owned())),
            method: Method::Password,
            expires_at: None,
        };
        let scope = |name| Right::Scope(Scope::parse(name).expect("a scope"));
        let role = |name: &str| Right::Role(name.to_owned());
        let permission = |name: &str| Right::Permission(name.to_owned());
        let provider = |name: &str| Right::Provider(ProviderName(name.to_owned()));
        for right in [scope("m"), role("Manager"), permission("CanPrint"), provider("Local")] {
            assert_eq!(principal.may(&right), Ok(()), "{right:?}");
        }
        for right in [scope("n"), role("manager"), role("CanPrint"), permission("Manager"), permission(""), provider("apikey")] {
            assert_eq!(principal.may(&right), Err(Refusal::NotPermitted), "{right:?}");
        }
        let signed = Principal { provider: None, ..principal };
        assert_eq!(signed.may(&provider("local")), Err(Refusal::NotPermitted));
    }

    #[test]
    fn a_request_within_a_bound_asks_for_no_more_than_either() {
        use ScopeRequest::{AnyOf, Maximum, Nothing};
        let check = |asked: ScopeRequest, bound: ScopeRequest, expected: ScopeRequest| {
            assert_eq!(asked.within(&bound), expected, "{asked:?} within {bound:?}");
        };
        let of = |text: &str| AnyOf(scopes(text));
        check(Maximum, Maximum, Maximum);
        check(Maximum, of("m"), of("m"));
        check(Maximum, Nothing, Nothing);
        check(Nothing, Maximum, Nothing);
        check(Nothing, of("m"), Nothing);
        check(Nothing, Nothing, Nothing);
        check(of("t m"), Maximum, of("t m"));
        check(of("t m"), of("m n"), of("m"));
        check(of("t"), of("m"), of(""));
        check(of("t"), Nothing, of(""));
    }

    #[test]
    fn names_of_other_issuers_mean_what_is_called_so_and_nothing_below() {
        let name = |name: &str, spelling| ScopeName { name: name.to_owned(), spelling };
        let line = |scope: &str, names: Vec<ScopeName>| ScopeDefinition {
            scope: Scope::parse(scope).expect("a scope"),
            secure_only: false,
            names,
        };
        let catalogue = [
            line("Z/A", vec![name("Z/A", 0), name("P.Z.A", 1)]),
            line("Z/B", vec![name("Z/B", 0), name("P.Z.B", 1), name("P.Z.A.B", 1)]),
            line("plain", Vec::new()),
        ];
        let check = |names: &[&str], expected: &[&str], spelling| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let (scopes, family) = meant(&catalogue, &names);
            assert_eq!((scopes.iter().map(Scope::as_str).collect::<Vec<_>>(), family), (expected.to_vec(), spelling), "{names:?}");
        };
        check(&["Z/A"], &["Z/A"], Some(0));
        check(&["P.Z.A"], &["Z/A"], Some(1));
        check(&["other", "P.Z.A.B", "Z/A"], &["Z/B", "Z/A"], Some(1));
        check(&["plain"], &["plain"], None);
        check(&["", "Z", "P.Z", "Z/", "P.Z.", "P.Z.C", "z/a", "Z.A"], &[], None);
    }

    #[test]
    fn a_grant_is_never_wider_than_request_user_client_and_transport() {
        use ScopeRequest::{AnyOf, Maximum, Nothing};
        check(Maximum, "t m", "m n t", true, Some("m t"));
        check(Maximum, "t m", "m", true, Some("m"));
        check(Maximum, "t m", "m n t", false, Some("m"));
        check(Maximum, "t", "m n t", false, None);
        check(Maximum, "", "m n t", false, Some(""));
        check(Maximum, "", "m n t", true, Some(""));
        check(Nothing, "t m", "m n t", true, Some(""));
        check(AnyOf(scopes("t m")), "m n", "m n t", true, Some("m"));
        check(AnyOf(scopes("t")), "m n", "m n t", true, None);
        check(AnyOf(scopes("t")), "t", "m n t", false, None);
        check(AnyOf(scopes("t m")), "t m", "m n t", false, Some("m"));
        check(AnyOf(scopes("")), "t m", "m n t", true, None);
        check(AnyOf(scopes("x")), "t m x", "m n t x", true, None);
    }
}
