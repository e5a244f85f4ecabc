//! `gatepost audit` and `gatepost session`: what may be typed about lines of the audit and sessions, and the pieces in which
//! they are asked for.
//!
//! However long a listing is, one piece of it is held here at a time. A line that goes out is whole.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::ask::Asker;
use super::progress::Progress;
use super::{PAGE, moment, print};
use crate::config::{Config, parse_span};
use crate::operator::{AuditAsk, Operation, SessionAsk};
use gatepost_identity::clock::system_now;

/// How long to wait before it is asked whether the audit has grown.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Show the newest lines, oldest of them first
    Tail {
        /// How many
        #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=10_000))]
        lines: u64,
        /// Go on with lines as they come
        #[arg(short, long, conflicts_with = "until")]
        follow: bool,
        #[command(flatten)]
        filter: Filter,
    },
    /// Show one line with all that it says, or every line that is looked for, oldest first
    Show {
        /// The number of the line
        #[arg(conflicts_with_all = ["limit", "since", "until", "account", "client", "session", "attempt", "gate", "action", "outcome", "name", "source"])]
        number: Option<u64>,
        /// Stop after so many lines
        #[arg(short = 'n', long, value_name = "NUMBER")]
        limit: Option<u64>,
        #[command(flatten)]
        filter: Filter,
    },
}

/// Which lines. Where several of these are given, a line must be as all of them say.
#[derive(Debug, Clone, Args)]
pub(super) struct Filter {
    /// Written at or after: 2027-01-31, 2027-01-31T12:00:00Z, or a span before now, such as 90m or 7d
    #[arg(long, value_name = "MOMENT", value_parser = past)]
    since: Option<i64>,
    /// Written before; as --since
    #[arg(long, value_name = "MOMENT", value_parser = past)]
    until: Option<i64>,
    /// About the user with this name, address or id; of one who was removed, the id under `account`
    #[arg(long, value_name = "USER")]
    account: Option<String>,
    /// About the client with this id
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// About the session with this id
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Of the attempt with this id, as a line of the log names it
    #[arg(long, value_name = "ID")]
    attempt: Option<String>,
    /// By this gate: zenith, servicestack, trueconf; or operator, core
    #[arg(long, value_name = "NAME")]
    gate: Option<String>,
    /// What was tried: login, restore, user_add and so on
    #[arg(long, value_name = "WORD")]
    action: Option<String>,
    /// What became of it: ok, invalid_credentials and so on; or `refused` for everything but ok
    #[arg(long, value_name = "WORD")]
    outcome: Option<String>,
    /// Where this name was claimed, whether there is such a user or not
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// From this address
    #[arg(long, value_name = "ADDRESS")]
    source: Option<String>,
}

impl Filter {
    fn ask(self) -> AuditAsk {
        let Filter { since, until, account, client, session, attempt, gate, action, outcome, name, source } = self;
        let ask = AuditAsk {
            since,
            until,
            account,
            client,
            session,
            attempt,
            gate,
            action,
            outcome,
            name,
            source,
            ..AuditAsk::default()
        };
        AuditAsk { limit: PAGE, ..ask }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Session {
    /// List the sessions in force, newest first
    List {
        /// Of the user with this name, address or id only
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// That came through this client only
        #[arg(long, value_name = "ID")]
        client: Option<String>,
        /// That came through this gate only
        #[arg(long, value_name = "NAME")]
        gate: Option<String>,
        /// That began at this address only
        #[arg(long, value_name = "ADDRESS")]
        source: Option<String>,
        /// Stop after so many
        #[arg(short = 'n', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
        /// Only those older than the session with this id: the last one of the page before
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },
    /// Show one session, also one that ended not long ago
    Show {
        /// The session's id
        id: String,
    },
    /// End one session, or all of a user
    End {
        /// The session's id
        #[arg(required_unless_present = "user", conflicts_with = "user")]
        id: Option<String>,
        /// All sessions of this user
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
}

impl Audit {
    pub(super) async fn run(self, config: Config, json: bool) -> Result<(), String> {
        let mut asker = Asker::open(config).await?;
        let mut progress = Progress::new();
        let result = match self {
            Audit::Tail { lines, follow, filter } => tail(&mut asker, &mut progress, filter.ask(), lines, follow, json).await,
            Audit::Show { number: Some(number), .. } => match asker.ask(Operation::AuditShow { number }).await {
                Ok(line) => print::facts(&line, json),
                Err(complaint) => Err(complaint),
            },
            Audit::Show { number: None, limit, filter } => {
                let ask = AuditAsk { forwards: true, ..filter.ask() };
                forwards(&mut asker, &mut progress, ask, limit, json).await.map(|_| ())
            }
        };
        progress.clear();
        asker.close().await;
        result
    }
}

impl Session {
    pub(super) async fn run(self, config: Config, json: bool) -> Result<(), String> {
        let operation = match self {
            Session::List { user, client, gate, source, limit, after } => {
                let ask = SessionAsk { user, client, gate, source, after, limit: PAGE };
                return list(config, ask, limit, json).await;
            }
            Session::Show { id } => Operation::SessionShow { id },
            Session::End { id: Some(id), .. } => Operation::SessionEnd { id },
            Session::End { id: None, user } => Operation::SessionEndUser { user: user.unwrap_or_default() },
        };
        super::answer(config, json, operation).await
    }
}

/// A piece of the audit, taken apart.
struct Piece {
    rows: Vec<Value>,
    first: Option<u64>,
    last: Option<u64>,
    is_end: bool,
}

async fn piece(asker: &mut Asker, progress: &mut Progress, ask: &AuditAsk, seen: &mut u64) -> Result<Piece, String> {
    let mut answer = asker.ask(Operation::AuditPage(ask.clone())).await?;
    let Value::Array(rows) = answer["rows"].take() else {
        return Err("the server answered with something else than lines".to_owned());
    };
    *seen += answer["seen"].as_u64().unwrap_or(0);
    let (last, at) = (answer["last"].as_u64(), answer["last_at"].as_str());
    if let (Some(last), Some(at)) = (last, at) {
        progress.tell(|| format!("looked at {seen} lines of the audit, the last one number {last} of {at}"));
    }
    Ok(Piece { rows, first: answer["first"].as_u64(), last, is_end: answer["end"].as_bool().unwrap_or(true) })
}

/// The newest lines that are looked for, and, where it is to be followed, what comes.
async fn tail(
    asker: &mut Asker,
    progress: &mut Progress,
    mut ask: AuditAsk,
    lines: u64,
    follow: bool,
    json: bool,
) -> Result<(), String> {
    let (mut found, mut seen, mut newest) = (Vec::new(), 0, None);
    let mut left = lines;
    // Where nothing is to be shown, it is only looked where the audit ends.
    loop {
        ask.limit = usize::try_from(left.clamp(1, PAGE as u64)).unwrap_or(PAGE);
        let piece = piece(asker, progress, &ask, &mut seen).await?;
        left = left.saturating_sub(piece.rows.len() as u64);
        newest = newest.or(piece.first);
        found.extend(piece.rows);
        ask.from = piece.last;
        if left == 0 || piece.is_end {
            break;
        }
    }
    progress.clear();
    found.truncate(usize::try_from(lines).unwrap_or(usize::MAX));
    found.iter().rev().try_for_each(|row| print::audit(row, json))?;
    if !follow {
        return Ok(());
    }
    let mut ask = AuditAsk { forwards: true, from: Some(newest.unwrap_or(0)), limit: PAGE, ..ask };
    loop {
        ask.from = forwards(asker, progress, ask.clone(), None, json).await?;
        progress.clear();
        *progress = Progress::new();
        tokio::time::sleep(PAUSE).await;
    }
}

/// Every line that is looked for from `ask.from` on. Answers the number of the last one that was looked at.
async fn forwards(
    asker: &mut Asker,
    progress: &mut Progress,
    mut ask: AuditAsk,
    limit: Option<u64>,
    json: bool,
) -> Result<Option<u64>, String> {
    let (mut seen, mut left) = (0, limit);
    loop {
        if left == Some(0) {
            return Ok(ask.from);
        }
        ask.limit = left.map_or(PAGE, |left| usize::try_from(left).unwrap_or(PAGE).min(PAGE));
        let piece = piece(asker, progress, &ask, &mut seen).await?;
        left = left.map(|left| left.saturating_sub(piece.rows.len() as u64));
        if !piece.rows.is_empty() {
            progress.clear();
        }
        piece.rows.iter().try_for_each(|row| print::audit(row, json))?;
        ask.from = piece.last;
        if piece.is_end {
            return Ok(ask.from);
        }
    }
}

/// The sessions that are looked for, page by page.
async fn list(config: Config, mut ask: SessionAsk, limit: Option<u64>, json: bool) -> Result<(), String> {
    let mut asker = Asker::open(config).await?;
    let mut printed = print::Rows::new(json);
    let mut progress = Progress::new();
    let (mut seen, mut left) = (0, limit);
    let result = loop {
        ask.limit = left.map_or(PAGE, |left| usize::try_from(left).unwrap_or(PAGE).min(PAGE));
        let mut answer = match asker.ask(Operation::SessionPage(ask.clone())).await {
            Ok(answer) => answer,
            Err(complaint) => break Err(complaint),
        };
        let Value::Array(rows) = answer["rows"].take() else {
            break Err("the server answered with something else than rows".to_owned());
        };
        seen += answer["seen"].as_u64().unwrap_or(0);
        left = left.map(|left| left.saturating_sub(rows.len() as u64));
        progress.clear();
        if let Err(complaint) = printed.add(rows) {
            break Err(complaint);
        }
        ask.after = answer["next"].as_str().map(str::to_owned);
        if ask.after.is_none() || left == Some(0) {
            break printed.end();
        }
        progress.tell(|| format!("looked at {seen} sessions"));
    };
    asker.close().await;
    result
}

/// A moment, or a span before now.
fn past(text: &str) -> Result<i64, String> {
    match parse_span(text) {
        Ok(span) => {
            let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
            Ok(system_now().millis().saturating_sub(millis))
        }
        Err(_) if text == "never" => Err("write a moment, or a span before now".to_owned()),
        Err(_) => {
            moment(text).map_err(|_| "write 2027-01-31, 2027-01-31T12:00:00Z, or a span before now such as 90m or 7d".to_owned())
        }
    }
}
