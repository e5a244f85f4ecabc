//! What operators look at, in pieces: together the pieces are what was looked for, whatever the clock did meanwhile, and no piece
//! costs more than it may.

use gatepost_identity::admin::SessionFilter;
use gatepost_identity::audit::{AuditEntry, AuditFilter, AuditRow, REFUSED};
use gatepost_identity::session::SessionId;

use super::*;

/// How many rows one piece may look at.
const MOST: u64 = 10_000;
const HOUR: i64 = 60 * 60 * 1000;

/// A core over an audit of so many lines, so many seconds apart, whose clock is set an hour back and forth now and then.
async fn with_lines(lines: i64, apart: i64) -> (Core, Vec<AuditRow>) {
    let store = Arc::new(Memory::default());
    let entries = (0..lines).map(|number| {
        let set = if (number / 700) % 3 == 1 { HOUR } else { 0 };
        let at = Timestamp::from_millis(1_800_000_000_000 + number * apart * 1000 - set);
        let outcome = if number % 7 == 0 { "invalid_credentials" } else { "ok" };
        let name = (number % 1000 == 999).then(|| "Rare".to_owned());
        AuditEntry { outcome, name, ..AuditEntry::new(at, if number % 2 == 0 { "login" } else { "restore" }, "zenith") }
    });
    store.audit(entries.collect()).await.unwrap();
    let mut all = Vec::new();
    while let Some(after) = Some(all.last().map_or(0, |row: &AuditRow| row.number)).filter(|after| *after < lines as u64) {
        all.extend(store.audit_after(after, 1000).await.unwrap());
    }
    (Core::on(store, |_| ()).await, all)
}

/// All pieces one after the other.
async fn forwards(core: &Core, filter: &AuditFilter, limit: usize) -> Vec<u64> {
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let page = core.admin().audit_forwards(filter, from, limit).await.unwrap();
        assert!(page.rows.len() <= limit && page.seen <= MOST, "a piece stays small");
        found.extend(page.rows.iter().map(|row| row.number));
        if page.is_end {
            return found;
        }
        assert_ne!(page.last, from, "it comes on");
        from = page.last;
    }
}

async fn backwards(core: &Core, filter: &AuditFilter, limit: usize) -> Vec<u64> {
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let page = core.admin().audit_backwards(filter, from, limit).await.unwrap();
        assert!(page.rows.len() <= limit && page.seen <= MOST, "a piece stays small");
        found.extend(page.rows.iter().map(|row| row.number));
        if page.is_end {
            found.reverse();
            return found;
        }
        assert_ne!(page.last, from, "it comes on");
        from = page.last;
    }
}

#[tokio::test]
async fn the_pieces_of_the_audit_are_together_what_was_looked_for() {
    let (core, all) = with_lines(23_456, 1).await;
    let at = |seconds: i64| Some(Timestamp::from_millis(1_800_000_000_000 + seconds * 1000));
    let any = AuditFilter::default();
    for filter in [
        any.clone(),
        AuditFilter { outcome: Some(REFUSED.to_owned()), ..any.clone() },
        AuditFilter { name: Some("rARE".to_owned()), action: Some("restore".to_owned()), ..any.clone() },
        AuditFilter { since: at(700), until: at(1500), ..any.clone() },
        AuditFilter { since: at(20_000), ..any.clone() },
        AuditFilter { until: at(-1000), ..any.clone() },
        AuditFilter { since: at(12_000), until: at(12_000), ..any.clone() },
        AuditFilter { since: at(1_000_000), ..any.clone() },
        AuditFilter { until: at(-1_000_000), ..any.clone() },
        AuditFilter { gate: Some("trueconf".to_owned()), ..any.clone() },
    ] {
        let wanted: Vec<u64> = all.iter().filter(|row| filter.admits(row)).map(|row| row.number).collect();
        for limit in [1000, 333] {
            assert_eq!(forwards(&core, &filter, limit).await, wanted, "{filter:?}");
            assert_eq!(backwards(&core, &filter, limit).await, wanted, "{filter:?}");
        }
    }
}

#[tokio::test]
async fn lines_of_a_time_are_found_without_looking_at_all_others() {
    // Four days, and as many lines of each.
    const DAILY: u64 = 8640;
    let (core, _) = with_lines(4 * DAILY as i64, 10).await;
    let at = |day: i64| Some(Timestamp::from_millis(1_800_000_000_000 + day * 86_400_000));
    let seen = async |filter: AuditFilter, forwards: bool| {
        let (mut seen, mut from) = (0, None);
        loop {
            let admin = core.admin();
            let page = match forwards {
                true => admin.audit_forwards(&filter, from, 1000).await.unwrap(),
                false => admin.audit_backwards(&filter, from, 1000).await.unwrap(),
            };
            seen += page.seen;
            from = page.last;
            if page.is_end {
                return seen;
            }
        }
    };
    let nothing = AuditFilter { action: Some("none".to_owned()), ..AuditFilter::default() };
    let all = seen(nothing.clone(), true).await;
    assert_eq!(all, 4 * DAILY);
    let newest = AuditFilter { since: at(4), ..nothing.clone() };
    assert!(seen(newest.clone(), true).await <= DAILY + DAILY / 12, "a day beside the time, and no more");
    assert!(seen(newest, false).await <= DAILY + DAILY / 12);
    let oldest = AuditFilter { until: at(0), ..nothing };
    assert!(seen(oldest.clone(), true).await <= DAILY + DAILY / 12);
    assert!(seen(oldest, false).await <= DAILY + DAILY / 12);
}

#[tokio::test]
async fn the_pieces_of_the_sessions_are_together_what_was_looked_for() {
    let core = Core::with(|_| ()).await;
    let mut peers = Vec::new();
    for number in 0..40 {
        let source = if number % 4 == 0 { "192.0.2.4" } else { "192.0.2.1" };
        peers.push(Peering::of(core.ask(password("ann", "pw"), &core.context(core.connection(), source)).await));
    }
    let pages = async |filter: SessionFilter, limit: usize| {
        let (mut found, mut after): (Vec<SessionId>, _) = (Vec::new(), None);
        loop {
            let page = core.admin().session_page(&filter, after, limit).await.unwrap();
            assert!(page.rows.len() <= limit);
            found.extend(page.rows.iter().map(|row| row.session.id));
            match page.next {
                None => return found,
                next => after = next,
            }
        }
    };
    let open = SessionFilter::default();
    let all = pages(open.clone(), 1000).await;
    assert!(all.len() == 40 && all.is_sorted_by(|one, next| one > next), "each once, newest first");
    let some = pages(SessionFilter { source: Some("192.0.2.4".to_owned()), ..open.clone() }, 1000).await;
    assert_eq!(some.len(), 10);
    for limit in [1, 7, 10, 40] {
        assert_eq!(pages(open.clone(), limit).await, all, "{limit}");
        assert_eq!(pages(SessionFilter { source: Some("192.0.2.4".to_owned()), ..open.clone() }, limit).await, some, "{limit}");
    }
}
