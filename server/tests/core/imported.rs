//! People who bring a hash that others have made: the first good login makes ours of it, by whichever way they come, and nothing
//! else of the account changes.

use super::requests::through;
use super::*;

/// Passwords with a hash of each kind of family.
const BROUGHT: [(&str, &str); 5] = [
    ("my password", "AAABAgMEBQYHCAkKCwwNDg+ukCEMDf0yyQ29NYubggHIVY0sdEUfdyeM+E1LtH1uJg=="),
    ("p@55w,rd:1", "$servicestack-sha256$AQIDBA==$PgoZboViJJzz0pCK9ZVbUKnfYpIdXpOSZG7ugR9vR+Q="),
    ("a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"),
    ("password", "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8"),
    ("password", "$pbkdf2-sha256$1212$4vjV83LKPjQzk31VI4E0Vw$hsYF68OiOUPdDZ1Fg.fJPeq1h/gXXY7acBp9/6c.tmQ"),
];

impl Core {
    async fn bring(&self, name: &str, hash: &str) -> Result<(), Refusal> {
        let scopes = vec!["m".to_owned()];
        let user = NewUser { name: name.to_owned(), scopes, password_hash: Some(hash.to_owned()), ..NewUser::default() };
        self.admin().add_user(user).await.map(|_| ())
    }
}

fn binding(binding: Binding, name: &str, word: &str) -> Verb {
    let request = GrantRequest { scope: ScopeRequest::Nothing, role: None, binding, spelling: None };
    Verb::Authenticate { provider: None, credential: password(name, word), request }
}

#[tokio::test]
async fn whoever_comes_with_the_hash_of_another_is_let_in_by_it_once_and_by_ours_from_then_on() {
    let core = Core::with(|_| ()).await;
    for (number, (word, hash)) in BROUGHT.into_iter().enumerate() {
        for way in ["connection", "cookie", "tokens", "request", "proof"] {
            let name = format!("{way}{number}");
            core.bring(&name, hash).await.unwrap();
            let before = core.admin().user(&name).await.unwrap();
            assert_eq!(before.password.as_deref(), Some(hash), "as it is");
            let log_in = async |word: &str| match way {
                "connection" => core.guess(&name, word, "192.0.2.1").await,
                "proof" => core.who(vec![through("app"), password(&name, word)]).await.result.map(|_| ()),
                _ => {
                    let binds = match way {
                        "cookie" => Binding::Cookie { remember: false },
                        "tokens" => Binding::TokenCookies,
                        _ => Binding::Request,
                    };
                    core.request(vec![through("app")], binding(binds, &name, word)).await.result.map(|_| ())
                }
            };
            // No more wrong guesses than one source has free.
            if matches!(way, "connection" | "cookie" | "proof") {
                assert_eq!(log_in("wrong").await, Err(Refusal::InvalidCredentials), "{name}");
            }
            assert_eq!(core.admin().user(&name).await.unwrap(), before, "{name}");
            log_in(word).await.unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
            let after = core.admin().user(&name).await.unwrap();
            let ours = after.password.clone().unwrap();
            assert!(ours.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{name}: {ours}");
            let expected = gatepost_identity::account::Account { password: Some(ours.clone()), ..before };
            assert_eq!(after, expected, "no change of the account, and nothing signed for it is cut off");
            log_in(word).await.unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
            assert_eq!(core.admin().user(&name).await.unwrap().password, Some(ours), "{name}: it is made once");
        }
    }
}

#[tokio::test]
async fn a_hash_made_anew_ends_no_session() {
    let core = Core::with(|_| ()).await;
    core.bring("bob", BROUGHT[2].1).await.unwrap();
    let log_in = async || {
        let asked = binding(Binding::Cookie { remember: false }, "bob", BROUGHT[2].0);
        core.request(vec![through("app")], asked).await.granted()
    };
    let first = log_in().await;
    log_in().await;
    let text = first.tokens[0].secret.expose_text().unwrap().to_owned();
    core.who(vec![requests::cookie(&text)]).await.granted();
    assert_eq!(core.sessions().await, 2);
}

#[tokio::test]
async fn a_hash_that_costs_too_much_is_not_taken_in() {
    let core = Core::with(|_| ()).await;
    let (salt, hash) = ("c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc");
    for dear in [
        format!("$argon2id$v=19$m=4194304,t=1,p=1${salt}${hash}"),
        format!("$argon2i$v=19$m=64,t=4294967295,p=1${salt}${hash}"),
        format!("$argon2id$v=19$m=4096,t=1,p=255${salt}${hash}"),
        format!("$pbkdf2-sha256$1000000000${salt}${hash}"),
        "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned(),
        "hunter2".to_owned(),
    ] {
        let refusal = core.bring("bob", &dear).await.unwrap_err();
        let Refusal::Invalid(faults) = &refusal else { panic!("{dear}: {refusal:?}") };
        assert!(faults.len() == 1 && faults[0].starts_with("the hash of the password: "), "{faults:?}");
        assert!(!faults[0].contains(hash) && !faults[0].contains("hunter2"), "{faults:?}");
    }
    assert!(core.admin().user("bob").await.is_err(), "nothing of the account is kept");
    let both = NewUser {
        name: "bob".to_owned(),
        password: Some(Secret::new("pw")),
        password_hash: Some(BROUGHT[0].1.to_owned()),
        ..NewUser::default()
    };
    assert!(matches!(core.admin().add_user(both).await, Err(Refusal::Invalid(_))));
}

#[tokio::test]
async fn a_hash_that_costs_too_much_by_now_lets_nobody_in_and_stays() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    {
        let core = Core::on(Arc::clone(&store), |_| ()).await;
        core.populate().await;
        core.bring("bob", BROUGHT[4].1).await.unwrap();
    }
    let core = Core::on(Arc::clone(&store), |settings| settings.passwords.imported.time = Duration::ZERO).await;
    assert_eq!(core.guess("bob", "password", "192.0.2.1").await, Err(Refusal::InvalidCredentials));
    assert_eq!(core.admin().user("bob").await.unwrap().password.as_deref(), Some(BROUGHT[4].1));
    core.guess("ann", "pw", "192.0.2.1").await.expect("ours is within");
}

#[tokio::test]
async fn odd_passwords_are_only_wrong() {
    let core = Core::with(|_| ()).await;
    for (number, (word, hash)) in BROUGHT.into_iter().enumerate() {
        let name = format!("bob{number}");
        core.bring(&name, hash).await.unwrap();
        let odd = [format!("{word}\0"), format!("{word}\0{word}"), "x".repeat(1024 * 1024), "\u{e9}".repeat(40), "\0".to_owned()];
        for (guess, odd) in odd.into_iter().enumerate() {
            let source = format!("2001:db8:{number}:{guess}::1");
            assert_eq!(core.guess(&name, &odd, &source).await, Err(Refusal::InvalidCredentials), "{name}");
            core.admin().unlock_user(&name).await.unwrap();
        }
    }
}
