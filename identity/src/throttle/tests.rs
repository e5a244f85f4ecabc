//! The throttle's tables: what is free, what follows, what a restart, a full table and a clock that steps do to it.

use super::*;
use crate::account::NameKey;

const ANN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000_000 + millis)
}

fn throttle() -> Throttle {
    Throttle::new(ThrottleSettings::default(), &[7; 32], Vec::new())
}

fn name(text: &str) -> Vec<Key> {
    vec![Key::Name(NameKey::of(text))]
}

fn fail(throttle: &Throttle, now: Timestamp, keys: &[Key]) -> bool {
    throttle.admit(now, keys).map(|charge| throttle.settle(charge, Settled::Failed)).is_ok()
}

#[test]
fn five_failures_are_free_and_then_each_waits_twice_as_long() {
    let throttle = throttle();
    let keys = name("ann");
    assert_eq!((0..200).filter(|_| fail(&throttle, at(0), &keys)).count(), 5);
    let mut now = 0;
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
        assert!(!fail(&throttle, at(now + wait * 1000 - 1), &keys), "after {wait} s");
        now += wait * 1000;
        assert!(fail(&throttle, at(now), &keys), "after {wait} s");
    }
    assert!(fail(&throttle, at(now + 30 * 60 * 1000), &keys), "forgotten after half an hour");
    assert!(fail(&throttle, at(now + 30 * 60 * 1000), &keys), "and the budget is whole again");
}

#[test]
fn what_proves_or_was_not_compared_costs_nothing() {
    let throttle = throttle();
    let keys = [Key::Source(ANN), Key::Name(NameKey::of("ann"))];
    for settled in [Settled::Proved, Settled::Neither] {
        for _ in 0..100 {
            let charge = throttle.admit(at(0), &keys).expect("not slowed");
            throttle.settle(charge, settled);
        }
    }
    for _ in 0..4 {
        assert!(fail(&throttle, at(0), &keys));
    }
    let charge = throttle.admit(at(0), &keys).expect("the fifth");
    throttle.settle(charge, Settled::Proved);
    assert_eq!((0..10).filter(|_| fail(&throttle, at(0), &keys)).count(), 5, "a success forgets the name's failures");
}

#[test]
fn a_charge_counts_while_the_attempt_is_under_way_and_after_it_was_given_up() {
    let throttle = throttle();
    let charges: Vec<_> = (0..5).map(|_| throttle.admit(at(0), &name("ann")).expect("free")).collect();
    assert!(throttle.admit(at(0), &name("ann")).is_err());
    drop(charges);
    assert!(throttle.admit(at(0), &name("ann")).is_err());
}

#[test]
fn a_source_has_twenty_and_gets_one_back_every_thirty_seconds() {
    let throttle = throttle();
    let keys = [Key::Source(ANN)];
    assert_eq!((0..50).filter(|_| fail(&throttle, at(0), &keys)).count(), 20);
    assert!(!fail(&throttle, at(29_999), &keys));
    assert!(fail(&throttle, at(30_000), &keys));
    assert!(!fail(&throttle, at(59_999), &keys));
    assert!(fail(&throttle, at(65_000), &keys), "the five seconds beyond the step are not lost");
    assert!(fail(&throttle, at(90_000), &keys));
    assert!(matches!(
        throttle.admit(at(91_000), &keys),
        Err(Refusal::TooManyAttempts { retry_after }) if retry_after == Duration::from_secs(29)
    ));
}

#[test]
fn a_refused_charge_leaves_the_other_keys_as_they_were() {
    let throttle = throttle();
    let both = [Key::Source(ANN), Key::Name(NameKey::of("ann"))];
    while fail(&throttle, at(0), &name("ann")) {}
    for _ in 0..100 {
        assert!(!fail(&throttle, at(0), &both));
    }
    assert!(fail(&throttle, at(0), &[Key::Source(ANN)]), "the source was not charged for what was refused by the name");
}

#[test]
fn an_ipv6_network_is_one_source_and_a_mapped_address_is_ipv4() {
    let throttle = throttle();
    let source = |text: &str| [Key::Source(text.parse().expect("an address"))];
    while fail(&throttle, at(0), &source("2001:db8::1")) {}
    assert!(!fail(&throttle, at(0), &source("2001:db8::ffff:1")));
    assert!(fail(&throttle, at(0), &source("2001:db8:0:1::1")));
    while fail(&throttle, at(0), &source("192.0.2.9")) {}
    assert!(!fail(&throttle, at(0), &source("::ffff:192.0.2.9")));
}

#[test]
fn what_counts_survives_a_restart_and_a_change_of_size() {
    let throttle = throttle();
    while fail(&throttle, at(0), &name("ann")) {}
    throttle.mark_familiar(at(0), ANN, AccountId(uuid::Uuid::from_u128(1)));
    let rows = throttle.take_dirty();
    assert!(throttle.take_dirty().is_empty());
    for entries in [32_768, 64, 100_000] {
        let again = Throttle::new(ThrottleSettings { entries, ..ThrottleSettings::default() }, &[7; 32], rows.clone());
        assert!(!fail(&again, at(1), &name("ann")), "{entries}");
        assert!(again.is_familiar(at(1), ANN, AccountId(uuid::Uuid::from_u128(1))), "{entries}");
        assert!(fail(&again, at(1), &name("bob")), "{entries}");
    }
}

#[test]
fn x4_a_full_table_shares_the_stricter_budget_and_frees_nothing_that_counts() {
    let settings = ThrottleSettings { entries: 8, ..ThrottleSettings::default() };
    let throttle = Throttle::new(settings, &[7; 32], Vec::new());
    while fail(&throttle, at(0), &name("ann")) {}
    let admitted = (0..10_000).filter(|n| fail(&throttle, at(1), &name(&format!("stranger {n}")))).count();
    assert_eq!(admitted, 7 + 5, "seven own slots, and five tries for everybody else together");
    assert!(!fail(&throttle, at(2), &name("ann")), "ann's lock stands");
    let later = at(31 * 60 * 1000);
    assert!(fail(&throttle, later, &name("newcomer")), "what no longer counts gives way");
}

/// How many names and networks are made up: a thousand for each of proptest's cases, so that `PROPTEST_CASES` says it.
fn crowd() -> u64 {
    u64::from(proptest::test_runner::Config::default().cases) * 1000
}

#[test]
fn x4_whatever_names_and_networks_are_made_up_the_tables_stay_as_large_and_no_lock_is_lost() {
    // So small that the crowd fills every bucket many times over.
    let entries = 4096;
    let throttle = Throttle::new(ThrottleSettings { entries, ..ThrottleSettings::default() }, &[7; 32], Vec::new());
    let buckets = || throttle.tables.iter().map(Vec::len).sum::<usize>();
    let places = buckets() * WIDTH;
    assert!(throttle.tables[0].capacity() * size_of::<Mutex<Bucket>>() <= 48 * entries, "as its settings say");
    let victims: Vec<Key> = (0..40)
        .flat_map(|number| {
            let name = format!("victim-{number}");
            let network = IpAddr::from([203, 0, 113, number]);
            [
                Key::Name(NameKey::of(&name)),
                Key::Source(network),
                Key::TokenSource(network),
                Key::Terminal(terminal("hall"), network),
            ]
        })
        .collect();
    let locks = |now: Timestamp, key: &Key| {
        // Each has a budget of a hundred at most.
        (0..200).take_while(|_| fail(&throttle, now, std::slice::from_ref(key))).count();
    };
    // Half of them are locked before the crowd comes, half while it is there.
    let (early, late) = victims.split_at(victims.len() / 2);
    early.iter().for_each(|key| locks(at(0), key));
    let crowd = crowd();
    let mut chance: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut draw = || {
        // Xorshift: any spread will do, as long as it is the same in each run.
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance
    };
    let millis = |done: u64| i64::try_from(done * 900 / crowd).expect("less than a second");
    for done in 0..crowd {
        if done == crowd / 2 {
            late.iter().for_each(|key| locks(at(millis(done)), key));
        }
        let number = draw();
        let network = if number & 1 == 0 {
            IpAddr::from(std::net::Ipv6Addr::from((u128::from(number) << 64) | 1))
        } else {
            IpAddr::from(u32::try_from(number >> 32).expect("32 bits").to_be_bytes())
        };
        let of_token = Key::TokenSource(network);
        let at_terminal = Key::Terminal(terminal("hall"), network);
        for key in [Key::Name(NameKey::of(&format!("{number:x}"))), Key::Source(network), of_token, at_terminal] {
            fail(&throttle, at(millis(done)), std::slice::from_ref(&key));
        }
        if done % (crowd / 10).max(1) == 0 {
            let locked = if done < crowd / 2 { early } else { &victims };
            for key in locked {
                assert!(!fail(&throttle, at(millis(done)), std::slice::from_ref(key)), "after {done}: {key:?}");
            }
        }
    }
    for key in &victims {
        assert!(!fail(&throttle, at(900), std::slice::from_ref(key)), "{key:?}");
    }
    assert_eq!(buckets() * WIDTH, places, "nothing has grown");
    let kept = throttle.take_dirty();
    assert!(kept.len() <= places, "{} rows for {places} places", kept.len());
    let counting = kept.iter().filter(|row| row.rule == Rule::Name as u8 || row.rule == Rule::Source as u8).count();
    assert!(counting > entries / 2, "the crowd has filled it: {counting}");
}

#[test]
fn a_newcomer_inherits_nothing_from_whoever_had_its_slot() {
    let newcomers = [Key::Source(ANN), Key::Name(NameKey::of("newcomer")), Key::TokenSource(ANN)];
    let strangers = |n: u32| Key::TokenSource(IpAddr::V4(n.to_be().into()));
    for newcomer in newcomers {
        let settings = ThrottleSettings { entries: 8, ..ThrottleSettings::default() };
        let throttle = Throttle::new(settings, &[7; 32], Vec::new());
        for n in 1..=8 {
            (0..100).for_each(|_| throttle.count(at(0), &strangers(n)));
        }
        let later = at(100_000);
        assert!(fail(&throttle, later, std::slice::from_ref(&newcomer)), "{newcomer:?}");
        let free = (1..1000).take_while(|_| fail(&throttle, later, std::slice::from_ref(&newcomer))).count() + 1;
        let expected = match newcomer {
            Key::Source(_) => 20,
            Key::TokenSource(_) => 100,
            _ => 5,
        };
        assert_eq!(free, expected, "{newcomer:?}");
    }
}

#[test]
fn unlocking_forgets_what_stands_against_the_keys() {
    let throttle = throttle();
    while fail(&throttle, at(0), &name("ann")) {}
    throttle.forget(&name("ann"));
    assert!(fail(&throttle, at(0), &name("ann")));
}

#[test]
fn a_forgiven_step_is_forgiven_once_whatever_is_given_back() {
    let throttle = throttle();
    let source = [Key::Source(ANN)];
    let both = [Key::Source(ANN), Key::Name(NameKey::of("locked"))];
    while fail(&throttle, at(0), &name("locked")) {}
    while fail(&throttle, at(0), &source) {}
    let later = at(30_000);
    while fail(&throttle, later, &name("locked")) {}
    for _ in 0..25 {
        assert!(!fail(&throttle, later, &both));
    }
    assert_eq!((0..50).filter(|_| fail(&throttle, later, &source)).count(), 1);
}

#[test]
fn one_success_in_flight_forgives_no_other_failure_of_its_source() {
    let throttle = throttle();
    let source = [Key::Source(ANN)];
    let success = throttle.admit(at(0), &source).expect("free");
    let before = (0..50).filter(|_| fail(&throttle, at(1), &source)).count();
    throttle.settle(success, Settled::Proved);
    let after = (0..50).filter(|_| fail(&throttle, at(2), &source)).count();
    assert_eq!((before, after), (19, 1));
}

#[test]
fn what_is_given_back_makes_no_failure_older() {
    let throttle = throttle();
    let mut admitted = 0;
    for _ in 0..20 {
        let neither = throttle.admit(at(0), &name("ann"));
        admitted += (0..4).filter(|_| fail(&throttle, at(0), &name("ann"))).count();
        if let Ok(charge) = neither {
            throttle.settle(charge, Settled::Neither);
        }
    }
    assert_eq!(admitted, 4, "the attempt that was not compared holds the fifth place each time");
}

#[test]
fn a_clock_that_was_ahead_locks_nobody_for_longer_than_the_wait() {
    let throttle = throttle();
    while fail(&throttle, at(365 * 24 * 60 * 60 * 1000), &name("ann")) {}
    assert!(!fail(&throttle, at(0), &name("ann")));
    assert!(fail(&throttle, at(1000), &name("ann")));
    while fail(&throttle, at(365 * 24 * 60 * 60 * 1000), &[Key::Source(ANN)]) {}
    assert!(!fail(&throttle, at(0), &[Key::Source(ANN)]));
    assert!(fail(&throttle, at(30_000), &[Key::Source(ANN)]));
}

proptest::proptest! {
    /// However admissions and settlements interleave, no more attempts fail in one moment than the budget allows.
    #[test]
    fn interleaving_wins_nothing(steps in proptest::collection::vec((0..3u8, 0..8usize), 1..200)) {
        let throttle = throttle();
        let keys = [Key::Source(ANN), Key::Name(NameKey::of("ann"))];
        let (mut open, mut failed) = (Vec::new(), 0);
        for (step, which) in steps {
            match step {
                0 => open.extend(throttle.admit(at(0), &keys).ok()),
                _ if open.is_empty() => {}
                1 => {
                    throttle.settle(open.remove(which % open.len()), Settled::Failed);
                    failed += 1;
                }
                _ => throttle.settle(open.remove(which % open.len()), Settled::Neither),
            }
        }
        proptest::prop_assert!(failed <= 5, "{failed} failures within one moment");
    }
}

#[test]
fn what_cannot_be_guessed_counts_only_when_refused() {
    let throttle = throttle();
    let key = Key::TokenSource(ANN);
    for _ in 0..100 {
        assert_eq!(throttle.check(at(0), &key), Ok(()));
        throttle.count(at(0), &key);
    }
    assert!(throttle.check(at(0), &key).is_err());
    assert_eq!(throttle.check(at(1000), &key), Ok(()));
}

fn terminal(name: &str) -> TerminalName {
    TerminalName::parse(name).expect("a name")
}

fn stranger(number: u32) -> Key {
    Key::Terminal(terminal("hall"), IpAddr::V4(number.into()))
}

#[test]
fn a_crowd_at_terminals_makes_nobody_stricter_elsewhere_nor_with_pins_nor_with_who_came_in_before() {
    let settings = ThrottleSettings { entries: 64, ..ThrottleSettings::default() };
    let throttle = Throttle::new(settings, &[7; 32], Vec::new());
    let compared = (0..10_000).filter(|number| fail(&throttle, at(0), &[stranger(*number)])).count();
    assert!((64..200).contains(&compared), "{compared}");
    let others = [
        (Key::Name(NameKey::of("ann")), 5),
        (Key::Source(ANN), 20),
        (Key::TerminalFamiliar(terminal("hall"), ANN), 5),
        (Key::TerminalPins(terminal("hall")), 50),
    ];
    for (key, free) in others {
        let admitted = (0..100).filter(|_| fail(&throttle, at(1), std::slice::from_ref(&key))).count();
        assert_eq!(admitted, free, "{key:?}");
    }
}

#[test]
fn the_pins_of_two_hundred_terminals_are_counted_apart() {
    let settings = ThrottleSettings { entries: 8, ..ThrottleSettings::default() };
    let throttle = Throttle::new(settings, &[7; 32], Vec::new());
    for number in 0..200 {
        let pins = [Key::TerminalPins(terminal(&format!("room-{number}")))];
        assert_eq!((0..60).filter(|_| fail(&throttle, at(0), &pins)).count(), 50, "{number}");
    }
}

#[test]
fn what_stands_against_a_source_goes_along_when_it_becomes_familiar_and_survives_a_restart() {
    let throttle = throttle();
    let (hall, stranger) = (terminal("hall"), [Key::Terminal(terminal("hall"), ANN)]);
    let familiar = [Key::TerminalFamiliar(hall.clone(), ANN)];
    for _ in 0..4 {
        assert!(fail(&throttle, at(0), &stranger));
    }
    assert!(!throttle.is_familiar_at(at(0), ANN, &hall));
    for _ in 0..3 {
        throttle.mark_familiar_at(at(0), ANN, &hall);
    }
    assert!(throttle.is_familiar_at(at(0), ANN, &hall) && !throttle.is_familiar_at(at(0), ANN, &terminal("room")));
    assert!(fail(&throttle, at(1), &familiar), "the fifth");
    assert!(!fail(&throttle, at(2), &familiar));
    let again = Throttle::new(ThrottleSettings::default(), &[7; 32], throttle.take_dirty());
    assert!(again.is_familiar_at(at(3), ANN, &hall) && !fail(&again, at(3), &familiar));
    assert!(fail(&again, at(30_001), &familiar));
}

#[test]
fn at_a_terminal_what_is_given_back_leaves_no_trace_unless_others_were_charged_meanwhile() {
    let throttle = throttle();
    let key = [stranger(1)];
    let neither = |now| throttle.admit(now, &key).map(|charge| throttle.settle(charge, Settled::Neither)).is_ok();
    while fail(&throttle, at(0), &key) {}
    for step in 0..10 {
        assert!(neither(at(30_000 + step)), "a right one costs no wait");
    }
    let under_way = throttle.admit(at(31_000), &key).expect("it may");
    assert!(!fail(&throttle, at(31_000), &key), "it counts meanwhile");
    throttle.settle(under_way, Settled::Neither);
    let (first, second) = (throttle.admit(at(40_000), &[stranger(2)]), throttle.admit(at(41_000), &[stranger(2)]));
    throttle.settle(first.expect("free"), Settled::Neither);
    throttle.settle(second.expect("free"), Settled::Failed);
    assert_eq!((0..10).filter(|_| fail(&throttle, at(42_000), &[stranger(2)])).count(), 4, "the other one stands");
}
