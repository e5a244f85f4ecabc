//! The one connection to a terminal's device, on which all its panels speak: our login, and whose answer is whose.
//!
//! ```text
//!        opened: auth as administrator            authorised
//! out ─────────────────────────────────► asking ──────────────► in ──┐ requests under numbers of ours,
//!  ▲                                        │ a code             │ ◄─┘ answers back to whoever asked, events to all
//!  └──────────── turned away, or lost ──────┴────────────────────┘ authorizationNeeded
//! ```
//!
//! A request has its conversation's number, which says which of its requests an answer is for; here it gets one that no other
//! connection's has, and its answer gets the first one back. What the device says about our own login stays here, and a second
//! answer to a number, or one to a peer that is gone, is nobody's. It refuses to know who may what: that was looked at before.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use gatepost_identity::command::ConnectionId;
use gatepost_identity::secret::Secret;

use crate::shared::{Again, Heard, Multiplexer};
use crate::trueconf::answers::MOST;
use crate::trueconf::message::{Member, Members, json, members, numbered, object, text_of, unnumbered};

/// How long to stay away after a wrong secret: a device that forgets failures after five minutes sees one at a time.
const WRONG: Duration = Duration::from_secs(6 * 60);
/// The shortest and longest time to stay away where the device says that it has seen too many.
const LOCKED_OUT: (u64, u64) = (60, 15 * 60);
/// How long to stay away where somebody else has taken the administrator's role: coming back takes it from them.
const DISPLACED: Duration = Duration::from_secs(30);

/// Our side of the connection.
#[derive(Debug, Default)]
pub(super) struct Device {
    standing: Standing,
    last: u64,
    /// Who asked under each number of ours, and under which of theirs.
    asked: BTreeMap<u64, (ConnectionId, u64)>,
    /// Each connection's numbers of ours, the oldest first.
    of: HashMap<ConnectionId, VecDeque<u64>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Out,
    Asking,
    In,
}

impl Multiplexer for Device {
    fn opened(&mut self, secret: Option<&Secret>) -> String {
        self.lost();
        self.standing = Standing::Asking;
        let how = match secret.and_then(Secret::expose_text) {
            Some(text) => format!("\"type\":\"secured\",\"credentials\":{}", json(text)),
            None => "\"type\":\"unsecured\"".to_owned(),
        };
        format!("{{\"method\":\"auth\",\"requestId\":\"0\",\"role\":\"admin\",{how}}}")
    }

    fn forward(&mut self, from: ConnectionId, text: &str) -> Option<String> {
        let (id, rest) = unnumbered(text)?;
        self.last += 1;
        self.asked.insert(self.last, (from, id));
        let own = self.of.entry(from).or_default();
        own.push_back(self.last);
        // A conversation waits for so many answers; of an older one it has told already that there is none.
        if own.len() > MOST
            && let Some(oldest) = own.pop_front()
        {
            self.asked.remove(&oldest);
        }
        Some(numbered(self.last, rest))
    }

    fn heard(&mut self, text: &str) -> Heard {
        let Some(members) = members(text) else { return Heard::Nothing };
        let Member::Is(method) = text_of(&members, "method") else { return Heard::Nothing };
        match (&*method, self.standing) {
            ("auth", Standing::Asking) => self.judged(&members),
            ("auth", _) | (_, Standing::Out | Standing::Asking) => Heard::Nothing,
            ("event", Standing::In) => match text_of(&members, "event") {
                Member::Is(name) if name == "authorizationNeeded" => self.turned_away(&members),
                Member::Is(_) => Heard::Everybody,
                Member::Absent | Member::Other => Heard::Nothing,
            },
            (_, Standing::In) => self.answered(&members).unwrap_or(Heard::Nothing),
        }
    }

    fn lost(&mut self) {
        self.standing = Standing::Out;
        self.asked.clear();
        self.of.clear();
    }

    fn gone(&mut self, who: ConnectionId) {
        for number in self.of.remove(&who).unwrap_or_default() {
            self.asked.remove(&number);
        }
    }
}

impl Device {
    /// What the device says to our `auth`.
    fn judged(&mut self, members: &Members<'_>) -> Heard {
        let number = |name: &str| members.get(name).and_then(|raw| raw.get().parse::<u64>().ok());
        if members.get("result").is_some_and(|raw| raw.get() == "true") {
            if number("previleges") == Some(1) {
                return away("it takes us for its user, and we must be its administrator".to_owned(), Again::After(WRONG));
            }
            self.standing = Standing::In;
            return Heard::Admitted;
        }
        let code = number("resultCode");
        let again = match code {
            // Something is broken there, or it says no code.
            Some(0 | 1) | None => Again::Soon,
            Some(6) => {
                let (least, most) = LOCKED_OUT;
                Again::After(Duration::from_secs(number("retryAfter").unwrap_or(least).clamp(least, most)))
            }
            Some(_) => Again::After(WRONG),
        };
        let words = match code {
            Some(1) => "it has a fault (code 1)",
            Some(2) => "its plan knows no secrets (code 2)",
            Some(4) => "how it is protected and whether `secret_file` is set do not fit (code 4)",
            Some(5) => "what `secret_file` holds is its user's secret and not its administrator's (code 5)",
            Some(6) => "it has seen too many wrong secrets (code 6)",
            Some(8) => "what `secret_file` holds is wrong (code 8)",
            Some(code) => return away(format!("it does not take our login (code {code})"), again),
            None => "it does not take our login, and says no code",
        };
        away(words.to_owned(), again)
    }

    /// The device has taken our authorisation away.
    fn turned_away(&mut self, members: &Members<'_>) -> Heard {
        match members.get("cause").map(|raw| raw.get()) {
            Some("1") => away("somebody else was let in as its administrator".to_owned(), Again::After(DISPLACED)),
            _ => away("it wants us to log in anew".to_owned(), Again::Soon),
        }
    }

    /// An answer to a request that was passed on, under the number that its conversation knows.
    fn answered(&mut self, members: &Members<'_>) -> Option<Heard> {
        let Member::Is(number) = text_of(members, "requestId") else { return None };
        let number: u64 = number.parse().ok()?;
        let (from, id) = self.asked.remove(&number)?;
        if let Some(own) = self.of.get_mut(&from) {
            own.retain(|&other| other != number);
            if own.is_empty() {
                self.of.remove(&from);
            }
        }
        let rest = object(members.iter().filter(|(name, _)| *name != "requestId").map(|(name, raw)| (&**name, raw.get())));
        Some(Heard::One(from, numbered(id, &rest[1..])))
    }
}

fn away(why: String, again: Again) -> Heard {
    Heard::TurnedAway { why, again }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: ConnectionId = ConnectionId(7);
    const BOB: ConnectionId = ConnectionId(8);

    /// One that has been let in.
    fn inside() -> Device {
        let mut device = Device::default();
        device.opened(None);
        assert_eq!(
            device.heard(r#"{"method":"auth","requestId":"0","previleges":2,"result":true,"resultCode":0}"#),
            Heard::Admitted
        );
        device
    }

    fn one(who: ConnectionId, text: &str) -> Heard {
        Heard::One(who, text.to_owned())
    }

    #[test]
    fn it_logs_in_as_administrator_with_what_it_is_given() {
        let mut device = Device::default();
        let secured = device.opened(Some(&Secret::new("a\"b")));
        assert_eq!(secured, r#"{"method":"auth","requestId":"0","role":"admin","type":"secured","credentials":"a\"b"}"#);
        assert_eq!(device.opened(None), r#"{"method":"auth","requestId":"0","role":"admin","type":"unsecured"}"#);
        assert!(!format!("{device:?}").contains("a\"b"));
    }

    #[test]
    fn every_code_says_when_to_come_back() {
        let check = |answer: &str, words: &str, again: Again| {
            let mut device = Device::default();
            device.opened(None);
            match device.heard(&format!(r#"{{"method":"auth","requestId":"",{answer}}}"#)) {
                Heard::TurnedAway { why, again: told } => {
                    assert!(why.contains(words), "{why}");
                    assert_eq!(told, again, "{answer}");
                }
                other => panic!("{answer}: {other:?}"),
            }
        };
        let failed = |code: u8| format!(r#""result":false,"resultCode":{code},"error":"x""#);
        let seconds = |seconds| Again::After(Duration::from_secs(seconds));
        check(&failed(1), "code 1", Again::Soon);
        check(r#""result":false,"error":"x""#, "no code", Again::Soon);
        check(r#""result":"true""#, "no code", Again::Soon);
        for code in [2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 200] {
            check(&failed(code), &format!("(code {code})"), Again::After(WRONG));
        }
        check(&failed(6), "code 6", seconds(60));
        check(&format!(r#"{},"retryAfter":240"#, failed(6)), "code 6", seconds(240));
        check(&format!(r#"{},"retryAfter":1"#, failed(6)), "code 6", seconds(60));
        check(&format!(r#"{},"retryAfter":86400"#, failed(6)), "code 6", seconds(900));
        check(r#""result":true,"resultCode":0,"previleges":1"#, "user", Again::After(WRONG));
    }

    #[test]
    fn whose_answer_is_whose_is_known_by_a_number_of_ours() {
        let mut device = inside();
        assert_eq!(
            device.forward(ANN, r#"{"requestId":"1","method":"call"}"#).as_deref(),
            Some(r#"{"requestId":"1","method":"call"}"#)
        );
        assert_eq!(
            device.forward(BOB, r#"{"requestId":"1","method":"call"}"#).as_deref(),
            Some(r#"{"requestId":"2","method":"call"}"#)
        );
        let answer = |id: &str| format!(r#"{{"method":"call","requestId":{id},"result":true}}"#);
        assert_eq!(device.heard(&answer("\"2\"")), one(BOB, r#"{"requestId":"1","method":"call","result":true}"#));
        assert_eq!(device.heard(&answer("\"2\"")), Heard::Nothing, "one request has one answer");
        for id in ["\"3\"", "1", "\"\"", "null", "\"0\"", "[\"1\"]"] {
            assert_eq!(device.heard(&answer(id)), Heard::Nothing, "{id}");
        }
        assert_eq!(device.heard(&answer("\"1\"")), one(ANN, r#"{"requestId":"1","method":"call","result":true}"#));
        assert!(device.asked.is_empty() && device.of.is_empty());
        assert_eq!(device.forward(ANN, r#"{"method":"call"}"#), None);
    }

    #[test]
    fn an_answer_for_whoever_is_gone_is_nobodys_and_none_outlives_the_connection() {
        let mut device = inside();
        for from in [ANN, BOB] {
            device.forward(from, r#"{"requestId":"1","method":"call"}"#).expect("it goes up");
        }
        device.gone(ANN);
        assert_eq!(device.heard(r#"{"method":"call","requestId":"1","result":true}"#), Heard::Nothing);
        device.lost();
        device.opened(None);
        assert_eq!(device.heard(r#"{"method":"call","requestId":"2","result":true}"#), Heard::Nothing);
        device.heard(r#"{"method":"auth","result":true}"#);
        assert_eq!(device.heard(r#"{"method":"call","requestId":"2","result":true}"#), Heard::Nothing);
        let third = device.forward(BOB, r#"{"requestId":"1","method":"call"}"#);
        assert_eq!(third.as_deref(), Some(r#"{"requestId":"3","method":"call"}"#), "a number is never used again");
    }

    #[test]
    fn of_each_connection_so_many_are_remembered() {
        let mut device = inside();
        for id in 1..=100 {
            device.forward(ANN, &format!(r#"{{"requestId":"{id}","method":"call"}}"#)).expect("it goes up");
        }
        device.forward(BOB, r#"{"requestId":"1","method":"call"}"#).expect("it goes up");
        assert_eq!((device.asked.len(), device.of[&ANN].len()), (MOST + 1, MOST));
        assert_eq!(device.heard(r#"{"method":"call","requestId":"1","result":true}"#), Heard::Nothing);
        assert_eq!(
            device.heard(r#"{"method":"call","requestId":"100","result":true}"#),
            one(ANN, r#"{"requestId":"100","method":"call","result":true}"#)
        );
    }

    #[test]
    fn what_is_about_our_own_login_passes_to_nobody() {
        let mut device = inside();
        let event = r#"{"method":"event","event":"incomingCall"}"#;
        assert_eq!(device.heard(event), Heard::Everybody);
        for text in [
            r#"{"method":"auth","requestId":"0","result":true,"token":"x"}"#,
            r#"{"method":"event"}"#,
            r#"{"method":"event","event":5}"#,
            r#"{"method":5}"#,
            "[]",
            "junk",
        ] {
            assert_eq!(device.heard(text), Heard::Nothing, "{text}");
        }
        let needed = |cause: &str| format!(r#"{{"method":"event","event":"authorizationNeeded","cause":{cause}}}"#);
        assert!(matches!(device.heard(&needed("1")), Heard::TurnedAway { again: Again::After(DISPLACED), .. }));
        assert!(matches!(device.heard(&needed("8")), Heard::TurnedAway { again: Again::Soon, .. }));
        device.opened(None);
        assert_eq!(device.heard(event), Heard::Nothing, "before we are let in there is nothing to hear");
        assert_eq!(device.heard(&needed("1")), Heard::Nothing);
    }
}
