//! The tables of the terminal, cell by cell: which answer follows from which protection, plan, string and role asked for.

use super::guard::PIN_LETTERS;
use super::*;
use crate::clock::SystemEntropy;
use TerminalRole::{Administrator, User};

/// Every protection there is: the administrator's and the user's. U is unsecured, W a password, N a PIN.
const ALL: [&str; 7] = ["UU", "WU", "NU", "WW", "WN", "NW", "NN"];
/// Those where both are secured.
const BOTH: [&str; 4] = ["WW", "WN", "NW", "NN"];
/// The columns of every table: no role, the administrator's, the user's.
const ASKED: [Option<TerminalRole>; 3] = [None, Some(Administrator), Some(User)];

fn facts(protections: &str, plan: Plan, command_line_pin: bool) -> Facts {
    let one = |letter: u8| match letter {
        b'U' => Protection::Unsecured,
        b'W' => Protection::Password,
        _ => Protection::Pin,
    };
    let letters = protections.as_bytes();
    let protections = Protections::new(one(letters[0]), one(letters[1])).expect("such a terminal can be");
    Facts { plan, protections, command_line_pin }
}

/// What stands between a string and its comparison.
#[derive(Clone, Copy, PartialEq)]
enum Lock {
    None,
    /// The source has to wait.
    Source,
    /// No PIN of this terminal is looked at.
    Pins,
}

const WAIT: Duration = Duration::from_secs(30);

/// One attempt, as whoever makes it goes through with it. `equal` names the secrets that the string equals: A the
/// administrator's, B the user's, C that of the command line.
fn attempt(facts: Facts, shown: Shown, asked: Option<TerminalRole>, equal: &str, lock: Lock) -> Result<TerminalRole, Refusal> {
    let comparison = match facts.consider(shown, asked)? {
        Next::Obtained(obtained) => return Ok(obtained.role),
        Next::Compare(_) if lock == Lock::Source => return Err(Refusal::TooManyAttempts { retry_after: WAIT }),
        Next::Compare(comparison) if lock == Lock::Pins => comparison.without_pins(WAIT),
        Next::Compare(comparison) => comparison,
    };
    let is_equal = |candidate: &&Candidate| {
        equal.contains(match candidate {
            Candidate::CommandLinePin => 'C',
            Candidate::Password(Administrator) | Candidate::Pin(Administrator) => 'A',
            Candidate::Password(User) | Candidate::Pin(User) => 'B',
        })
    };
    let equal = comparison.candidates().iter().find(is_equal).copied();
    comparison.judge(equal).map(|obtained| obtained.role)
}

/// An outcome by the number that this kind of terminal gives it.
fn cell(result: &Result<TerminalRole, Refusal>) -> &'static str {
    match result {
        Ok(Administrator) => "admin",
        Ok(User) => "user",
        Err(Refusal::PlanRequired) => "2",
        Err(Refusal::NotPermitted | Refusal::LoginRequired) => "3",
        Err(Refusal::MethodNotAllowed) => "4",
        Err(Refusal::RoleMismatch) => "5",
        Err(Refusal::TooManyAttempts { .. }) => "6",
        Err(Refusal::InvalidCredentials) => "8",
        Err(other) => panic!("{other:?} is in no table"),
    }
}

fn row(facts: Facts, shown: Shown, equal: &str, lock: Lock) -> String {
    ASKED.map(|asked| cell(&attempt(facts, shown, asked, equal, lock))).join(" ")
}

#[test]
fn what_is_to_be_had_without_a_secret() {
    let check = |protections: &[&str], plan, pin, expected: &str| {
        for protections in protections {
            let facts = facts(protections, plan, pin);
            for lock in [Lock::None, Lock::Source, Lock::Pins] {
                assert_eq!(row(facts, Shown::Unsecured, "", lock), expected, "{protections} {facts:?}");
            }
        }
    };
    check(&["UU"], Plan::Pro, false, "admin admin user");
    check(&["WU", "NU"], Plan::Pro, false, "user 5 user");
    check(&BOTH, Plan::Pro, false, "4 4 4");
    check(&["UU", "WU", "NU"], Plan::Pro, true, "user 5 user");
    check(&BOTH, Plan::Pro, true, "4 4 4");
    check(&ALL, Plan::Free, false, "admin admin 2");
    check(&ALL, Plan::Free, true, "4 4 2");
}

/// The cells for a string that is no token, each under the secrets that it equals.
fn expected(protections: &str, plan: Plan, pin: bool, equal: &str) -> &'static str {
    let (a, b, c) = (equal.contains('A'), equal.contains('B'), equal.contains('C'));
    match (plan, pin, protections) {
        (Plan::Free, false, _) => "2 2 2",
        (Plan::Free, true, _) if c => "admin admin 2",
        (Plan::Free, true, _) => "8 8 2",
        (Plan::Pro, false, "UU") => "4 4 4",
        (Plan::Pro, _, "UU" | "WU" | "NU") if a || c => "admin admin 4",
        (Plan::Pro, _, "UU" | "WU" | "NU") => "8 8 4",
        (Plan::Pro, ..) if b && (a || c) => "admin admin user",
        (Plan::Pro, ..) if b => "user 5 user",
        (Plan::Pro, ..) if a || c => "admin admin 5",
        (Plan::Pro, ..) => "8 8 8",
    }
}

/// Every terminal there can be, and every set of its secrets that a string can equal.
fn every_case() -> Vec<(&'static str, Plan, bool, String)> {
    let mut cases = Vec::new();
    for protections in ALL {
        for (plan, pin) in [(Plan::Pro, false), (Plan::Pro, true), (Plan::Free, false), (Plan::Free, true)] {
            let there_is = [('A', protections != "UU"), ('B', !protections.ends_with('U')), ('C', pin)];
            for set in 0..8_u8 {
                let member = |(place, (letter, there)): (usize, (char, bool))| (set >> place & 1 == 1).then_some((letter, there));
                let chosen: Vec<(char, bool)> = there_is.into_iter().enumerate().filter_map(member).collect();
                if chosen.iter().all(|(_, there)| *there) {
                    cases.push((protections, plan, pin, chosen.into_iter().map(|(letter, _)| letter).collect()));
                }
            }
        }
    }
    cases
}

#[test]
fn what_a_string_opens() {
    let cases = every_case();
    assert_eq!(cases.len(), 2 * (1 + 2 + 2 + 4 * 4) + 2 * 2 * (1 + 2 + 2 + 4 * 4));
    for (protections, plan, pin, equal) in cases {
        let told = row(facts(protections, plan, pin), Shown::Text(Reading::Unshaped), &equal, Lock::None);
        assert_eq!(told, expected(protections, plan, pin, &equal), "{protections} {plan:?} command line {pin}, equals {equal:?}");
    }
}

#[test]
fn while_a_source_waits_what_would_be_compared_is_not() {
    for (protections, plan, pin, equal) in every_case() {
        let told = row(facts(protections, plan, pin), Shown::Text(Reading::Unshaped), &equal, Lock::Source);
        let expected = expected(protections, plan, pin, &equal);
        let waiting: Vec<&str> =
            expected.split(' ').map(|cell| if matches!(cell, "admin" | "user" | "5" | "8") { "6" } else { cell }).collect();
        assert_eq!(told, waiting.join(" "), "{protections} {plan:?} command line {pin}, equals {equal:?}");
    }
}

#[test]
fn while_pins_are_not_looked_at_a_right_one_is_as_good_as_a_wrong_one_and_passwords_go_on() {
    let check = |protections, pin, equal, expected: &str| {
        let told = row(facts(protections, Plan::Pro, pin), Shown::Text(Reading::Unshaped), equal, Lock::Pins);
        assert_eq!(told, expected, "{protections} command line {pin}, equals {equal:?}");
    };
    for equal in ["", "A", "B", "AB"] {
        check("NN", false, equal, "6 6 6");
    }
    check("WW", false, "A", "admin admin 5");
    check("WW", false, "", "8 8 8");
    check("WN", false, "A", "admin admin 5");
    check("WN", false, "B", "6 6 6");
    check("WN", false, "", "6 6 6");
    check("NW", false, "B", "user 5 user");
    check("NW", false, "A", "6 6 6");
    check("NU", false, "A", "6 6 4");
    check("UU", false, "", "4 4 4");
    check("WU", true, "C", "6 6 4");
    check("WU", true, "A", "admin admin 4");
}

#[test]
fn a_token_opens_its_own_role_under_any_protection_and_in_any_wait() {
    for protections in ALL {
        for pin in [false, true] {
            for lock in [Lock::None, Lock::Source, Lock::Pins] {
                let check = |plan, reading, expected: &str| {
                    let facts = facts(protections, plan, pin);
                    assert_eq!(row(facts, Shown::Text(reading), "ABC", lock), expected, "{facts:?} {reading:?}");
                };
                check(Plan::Pro, Reading::Stands(Administrator), "admin admin 5");
                check(Plan::Pro, Reading::Stands(User), "user 5 user");
                check(Plan::Pro, Reading::Refused, "8 8 8");
                check(Plan::Free, Reading::Stands(Administrator), "admin admin 5");
                check(Plan::Free, Reading::Stands(User), "2 5 2");
                check(Plan::Free, Reading::Refused, "8 8 2");
            }
        }
    }
}

#[test]
fn only_an_administrator_steps_down_and_nobody_steps_up() {
    let check = |plan, held, expected: &str| {
        let told = [User, Administrator].map(|to| cell(&facts("WW", plan, false).narrow(held, to).map(|()| to))).join(" ");
        assert_eq!(told, expected, "{plan:?} {held:?}");
    };
    check(Plan::Pro, Some(Administrator), "user 3");
    check(Plan::Pro, Some(User), "3 3");
    check(Plan::Pro, None, "3 3");
    check(Plan::Free, Some(Administrator), "2 3");
    check(Plan::Free, Some(User), "3 3");
    // A stranger need not learn the plan.
    check(Plan::Free, None, "3 3");
}

#[test]
fn the_role_asked_for_is_compared_first_so_that_one_secret_for_both_gives_what_was_asked() {
    let order = |protections, pin, asked| match facts(protections, Plan::Pro, pin).consider(Shown::Text(Reading::Unshaped), asked) {
        Ok(Next::Compare(comparison)) => comparison.candidates().to_vec(),
        other => panic!("{other:?}"),
    };
    let (a, b, c) = (Candidate::Password(Administrator), Candidate::Pin(User), Candidate::CommandLinePin);
    assert_eq!(order("WN", true, None), [a, c, b]);
    assert_eq!(order("WN", true, Some(Administrator)), [a, c, b]);
    assert_eq!(order("WN", true, Some(User)), [b, a, c]);
    assert_eq!(order("WU", true, None), [a, c]);
    assert_eq!(order("UU", true, None), [c]);
    let has_pins = |protections, pin| match facts(protections, Plan::Pro, pin).consider(Shown::Text(Reading::Unshaped), None) {
        Ok(Next::Compare(comparison)) => comparison.has_pins(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        [("WW", false), ("WN", false), ("NW", false), ("WW", true)].map(|(p, pin)| has_pins(p, pin)),
        [false, true, true, true]
    );
}

#[test]
fn only_the_administrators_secret_makes_anybody_forget_a_failure_and_only_a_comparison_is_one() {
    let comparison = match facts("WN", Plan::Pro, false).consider(Shown::Text(Reading::Unshaped), None) {
        Ok(Next::Compare(comparison)) => comparison,
        other => panic!("{other:?}"),
    };
    let obtained = |role| Ok(Obtained { role, grounds: Grounds::Unsecured });
    assert_eq!(comparison.settled(&obtained(Administrator)), Settled::Proved);
    assert_eq!(comparison.settled(&obtained(User)), Settled::Neither);
    let no = [
        (Refusal::RoleMismatch, Settled::Neither),
        (Refusal::Busy { retry_after: WAIT }, Settled::Neither),
        (Refusal::TimedOut, Settled::Neither),
        (Refusal::InvalidCredentials, Settled::Failed),
        (Refusal::TooManyAttempts { retry_after: WAIT }, Settled::Failed),
    ];
    for (refusal, settled) in no.clone() {
        assert_eq!(comparison.settled(&Err(refusal)), settled);
    }
    let pins_alone = match facts("NN", Plan::Pro, false).consider(Shown::Text(Reading::Unshaped), None) {
        Ok(Next::Compare(comparison)) => comparison.without_pins(WAIT),
        other => panic!("{other:?}"),
    };
    for (refusal, _) in no {
        assert_eq!(pins_alone.settled(&Err(refusal)), Settled::Neither, "nothing was left to compare");
    }
}

#[test]
fn a_candidate_that_was_not_among_them_proves_nothing() {
    let Ok(Next::Compare(comparison)) = facts("WU", Plan::Pro, false).consider(Shown::Text(Reading::Unshaped), None) else {
        panic!("it is compared");
    };
    for foreign in [Candidate::Password(User), Candidate::Pin(Administrator), Candidate::CommandLinePin] {
        assert_eq!(comparison.judge(Some(foreign)), Err(Refusal::InvalidCredentials));
    }
}

#[test]
fn who_may_set_which_protection() {
    use Protection::{Password, Pin, Unsecured};
    let set = |protections, by, of, to| facts(protections, Plan::Pro, false).change(by, of, to, true);
    let check = |protections, by, of, to, expected: Result<&str, &str>| match (set(protections, Some(by), of, to), expected) {
        (Ok(became), Ok(expected)) => {
            assert_eq!(became, facts(expected, Plan::Pro, false).protections, "{protections} {by:?} {of:?} {to:?}");
        }
        (Err(Refusal::NotPermitted), Err("denied")) | (Err(Refusal::Invalid(_)), Err("invalid")) => {}
        (told, expected) => panic!("{protections} {by:?} {of:?} {to:?}: {told:?}, expected {expected:?}"),
    };
    check("UU", Administrator, Administrator, Password, Ok("WU"));
    check("UU", Administrator, Administrator, Pin, Ok("NU"));
    check("UU", Administrator, User, Password, Err("invalid"));
    check("UU", Administrator, User, Pin, Err("invalid"));
    check("UU", Administrator, User, Unsecured, Ok("UU"));
    check("WN", Administrator, Administrator, Unsecured, Ok("UU"));
    check("WN", Administrator, Administrator, Password, Ok("WN"));
    check("WN", Administrator, User, Password, Ok("WW"));
    check("WN", User, User, Password, Ok("WW"));
    check("WN", User, User, Unsecured, Ok("WU"));
    check("UU", User, User, Pin, Err("invalid"));
    for to in [Unsecured, Password, Pin] {
        check("WN", User, Administrator, to, Err("denied"));
        assert_eq!(set("WN", None, User, to), Err(Refusal::LoginRequired));
    }
    let free = |of, to| facts("WN", Plan::Free, true).change(Some(Administrator), of, to, true);
    assert_eq!(free(Administrator, Password), Err(Refusal::PlanRequired));
    assert_eq!(free(User, Pin), Err(Refusal::PlanRequired));
    assert_eq!(free(Administrator, Unsecured), Ok(Protections::UNSECURED));
    // The PIN of the command line ends with the program; what is kept must hold without it.
    let with_pin = facts("UU", Plan::Pro, true).change(Some(Administrator), User, Pin, true);
    assert!(matches!(with_pin, Err(Refusal::Invalid(_))), "{with_pin:?}");
    let unwanted = facts("WU", Plan::Pro, false).change(Some(Administrator), Administrator, Pin, false);
    assert!(matches!(unwanted, Err(Refusal::Invalid(_))), "{unwanted:?}");
}

fn terminal(plan: Plan, command_line_pin: Option<&str>) -> Terminal {
    Terminal {
        name: TerminalName::parse("default").expect("a name"),
        plan,
        administrator: Guard::Pin(Secret::new("K7M2QX")),
        user: Guard::Pin(Secret::new("ABC234")),
        command_line_pin: command_line_pin.map(Secret::new),
    }
}

#[test]
fn a_pin_is_shown_to_an_administrator_and_that_of_the_command_line_to_nobody() {
    let shown = |terminal: &Terminal, asking| {
        let ShownProtection { administrator, user } = terminal.shown_to(asking);
        [administrator, user].map(|guard| {
            (guard.protection, guard.pin.map(|pin| String::from_utf8(pin.expose().to_vec()).expect("letters and digits")))
        })
    };
    let pin = |text: Option<&str>| (Protection::Pin, text.map(str::to_owned));
    let none = (Protection::Unsecured, None);
    let pro = terminal(Plan::Pro, None);
    assert_eq!(shown(&pro, Some(Administrator)), [pin(Some("K7M2QX")), pin(Some("ABC234"))]);
    assert_eq!(shown(&pro, Some(User)), [pin(None), pin(None)]);
    assert_eq!(shown(&pro, None), [pin(None), pin(None)]);
    let started = terminal(Plan::Pro, Some("pin123"));
    assert_eq!(shown(&started, Some(Administrator)), [pin(None), pin(Some("ABC234"))]);
    assert_eq!(shown(&terminal(Plan::Free, None), Some(Administrator)), [none.clone(), none.clone()]);
    assert_eq!(shown(&terminal(Plan::Free, Some("pin123")), Some(Administrator)), [pin(None), none]);
}

#[test]
fn what_is_kept_and_contradicts_itself_lets_nobody_in() {
    let contradiction = Terminal { administrator: Guard::Unsecured, ..terminal(Plan::Pro, None) };
    assert_eq!(contradiction.facts(), None);
    assert!(terminal(Plan::Pro, None).facts().is_some());
    assert!(!format!("{contradiction:?}").contains("ABC234"), "and a PIN is not printed with it");
}

#[test]
fn pins_are_drawn_evenly_and_typed_in_any_case() {
    let pins: Vec<Secret> = (0..500).map(|_| draw_pin(&SystemEntropy)).collect();
    let seen: std::collections::BTreeSet<u8> = pins.iter().flat_map(|pin| pin.expose().to_vec()).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), PIN_LETTERS, "3000 letters show each of 32");
    let pin = Secret::new("K7M2QX");
    for (typed, expected) in
        [("K7M2QX", true), ("k7m2qx", true), ("k7M2Qx", true), (" K7M2QX", false), ("K7M2Q", false), ("", false)]
    {
        assert_eq!(pin_matches(&pin, &Secret::new(typed)), expected, "{typed:?}");
    }
    assert!(pin_matches(&Secret::new("pin123"), &Secret::new("PIN123")), "that of the command line too");
}

#[test]
fn names_and_passwords_are_parsed() {
    for good in ["default", "Room-1", "a.b_c", &"x".repeat(64)] {
        assert_eq!(TerminalName::parse(good).map(|name| name.as_str().to_owned()), Ok(good.to_owned()));
    }
    for bad in ["", ".", "..", ".x", "-x", "a b", "a/b", "ä", &"x".repeat(65)] {
        assert_eq!(TerminalName::parse(bad), Err(NotATerminalName), "{bad:?}");
    }
    let password = |length: usize| NewPassword::parse(Secret::new(vec![b'x'; length])).is_ok();
    assert_eq!([0, 1, 256, 257].map(password), [false, true, true, false]);
}
