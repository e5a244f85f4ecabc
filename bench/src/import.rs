//! `gatepost import` beside the running server: accounts a second, the memory of both processes, and what the checks of tokens take
//! meanwhile.
//!
//! The command is a process of its own, as an operator starts it, and reads files that were written before: lines of JSON, and a
//! SQLite file with ServiceStack's tables. Names and addresses come in no order, as people's do, so that each batch touches its
//! pages all over the indexes; ids count up. A thread of its own presents a signed token that was seen before, first while nothing
//! else goes on and then all through an import.

use std::fs;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gatepost_identity::clock::system_instant;
use rusqlite::{Connection, params};
use serde_json::json;

use crate::Outcome;
use crate::bearer::{PROVIDER, installation, token};
use crate::client::{Client, text_frame};
use crate::measure::{Goal, Table, count, duration_at, lasting, rounds};
use crate::process::{Server, beside};
use crate::setup::{auth_token_of, source};

const ROUNDS: usize = 5;
/// The accounts of a file of a round, and of the one that shows whether memory stays flat.
const SOME: usize = 100_000;
const MANY: usize = 1_000_000;
/// How long tokens are checked while nothing else goes on.
const CALM: Duration = Duration::from_secs(5);
/// How long the checker waits after each answer.
const AGAIN: Duration = Duration::from_micros(500);
/// How often the memory of a command is looked at.
const LOOK: Duration = Duration::from_millis(10);
const HASH: &str = "AQAAAAEAACcQAAAAEAABAgMEBQYHCAkKCwwNDg8MEcVEKt4ecR/YF/mYINH8m8S+hLwpYRIKZm/NePKWvQ==";
const PHC: &str = "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8";

/// What an import came to.
struct Import {
    per_second: f64,
    /// The most memory that the command held, in bytes.
    peak: f64,
    /// What each check of a token took meanwhile.
    checks: Vec<Duration>,
}

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let server = Server::start(installation("", 0).await?)?;
    let (some, many) = (count(SOME), count(MANY));
    let mut calm = checked(server.address, || std::thread::sleep(lasting(CALM)))?;
    let mut checks = Vec::new();
    let (mut lines, mut tables, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = 0;
    for round in 0..=rounds(ROUNDS) {
        for kind in ["users", "servicestack"] {
            let file = server.installation.directory.join(format!("{kind}-{round}"));
            write(kind, &file, first, some)?;
            first += some;
            let import = import(&server, kind, &file, some)?;
            fs::remove_file(&file)?;
            if round == 0 {
                continue;
            }
            checks.extend(import.checks);
            peaks.push(import.peak);
            if kind == "users" { &mut lines } else { &mut tables }.push(import.per_second);
        }
    }
    let before = server.process.resident()?;
    let file = server.installation.directory.join("many");
    write("users", &file, first, many)?;
    let at_once = import(&server, "users", &file, many)?;
    let after = server.process.resident()?;
    checks.extend(&at_once.checks);
    let peak = peaks.iter().copied().fold(0.0, f64::max);

    let table = Table::begin(&format!(
        "import: files of {some} accounts each beside the running server, {} rounds; then one of {many}; names in no order",
        rounds(ROUNDS)
    ))?;
    table.figures("accounts a second, lines of JSON with PHC hashes", "", &lines, Goal::AtLeast(50_000.0))?;
    table.figures("accounts a second, ServiceStack's tables", "", &tables, Goal::AtLeast(50_000.0))?;
    table.figure(&format!("accounts a second, {many} in one file"), "", at_once.per_second, Goal::AtLeast(50_000.0))?;
    table.figure(&format!("peak memory of the command, {some} accounts"), " MB", peak / 1e6, Goal::None)?;
    table.figure(&format!("  {many} accounts, as a part of that"), "", at_once.peak / peak, Goal::AtMost(1.2))?;
    table.figure(&format!("memory of the server before those {many}"), " MB", before / 1e6, Goal::None)?;
    table.figure("  growth, bytes an account", "", (after - before).max(0.0) / many as f64, Goal::AtMost(10.0))?;
    let millis = |durations: &mut Vec<Duration>, part| duration_at(durations, part).as_secs_f64() * 1e3;
    let (idle, meanwhile) = (millis(&mut calm, 0.99), millis(&mut checks, 0.99));
    table.figure("check of a token, 99 of 100, nothing else going on", " ms", idle, Goal::None)?;
    table.figure("  during imports", " ms", meanwhile, Goal::None)?;
    table.figure("  as a multiple", "", meanwhile / idle, Goal::AtMost(2.0))
}

/// Runs the command to its end, and checks tokens meanwhile.
fn import(server: &Server, kind: &str, file: &Path, accounts: usize) -> Outcome<Import> {
    let mut command = Command::new(beside("gatepost")?);
    command.arg("--config").arg(server.installation.config()).arg("--data").arg(server.installation.data());
    command.arg("import").arg(kind).arg(file).stdout(Stdio::piped()).stderr(Stdio::null());
    let (mut peak, mut took, mut said) = (0.0, Duration::ZERO, Ok(String::new()));
    let checks = checked(server.address, || {
        let began = system_instant();
        said = (|| {
            let mut child = command.spawn()?;
            let status = format!("/proc/{}/status", child.id());
            while child.try_wait()?.is_none() {
                peak = fs::read_to_string(&status).ok().as_deref().and_then(high_water).unwrap_or(peak);
                std::thread::sleep(LOOK);
            }
            took = system_instant() - began;
            Outcome::Ok(std::io::read_to_string(child.stdout.take().ok_or("it has no output")?)?)
        })();
    })?;
    let said = said?;
    if !said.starts_with(&format!("{accounts} taken, 0 here already, 0 left")) {
        return Err(format!("the import said {said:?}").into());
    }
    Ok(Import { per_second: accounts as f64 / took.as_secs_f64(), peak, checks })
}

fn high_water(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? * 1024.0)
}

/// Presents one token again and again as long as `work` lasts: how long each answer took.
fn checked(to: SocketAddr, work: impl FnOnce()) -> Outcome<Vec<Duration>> {
    let ended = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&ended);
    let checker = std::thread::spawn(move || -> Outcome<Vec<Duration>> {
        let check = async {
            let mut client = Client::connect(source(0), to).await?;
            let frame = text_frame(&auth_token_of(PROVIDER, &token(0)?));
            client.granted(&frame).await?;
            let mut took = Vec::new();
            while !until.load(Ordering::Acquire) {
                let began = system_instant();
                client.granted(&frame).await?;
                took.push(system_instant() - began);
                tokio::time::sleep(AGAIN).await;
            }
            Ok(took)
        };
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(check)
    });
    work();
    ended.store(true, Ordering::Release);
    checker.join().map_err(|_| "the thread that checks tokens panicked")?
}

/// Writes a file of this kind with accounts whose ids count up from this number.
fn write(kind: &str, file: &Path, first: usize, accounts: usize) -> Outcome<()> {
    // A multiplication by an odd number leaves no two alike.
    let name = |number: usize| format!("{:08x}", u32::try_from(number).unwrap_or(0).wrapping_mul(0x9e37_79b1));
    let email = |number: usize| format!("{}@example.org", name(number));
    if kind == "users" {
        let mut out = BufWriter::new(fs::File::create(file)?);
        for number in first..first + accounts {
            let row = json!({
                "name": name(number), "id": number.to_string(), "email": email(number), "display_name": format!("User {number}"),
                "roles": ["Editor"], "scopes": ["Zenith/Market"], "password_hash": PHC, "created_at": "2019-08-07T06:05:04Z",
            });
            writeln!(out, "{row}")?;
        }
        return Ok(out.flush()?);
    }
    let mut database = Connection::open(file)?;
    database.execute_batch(
        "CREATE TABLE UserAuth (Id INTEGER PRIMARY KEY AUTOINCREMENT, UserName VARCHAR(8000), Email VARCHAR(8000),
         DisplayName VARCHAR(8000), Salt VARCHAR(8000), PasswordHash VARCHAR(8000), Roles VARCHAR(1000000),
         Permissions VARCHAR(1000000), CreatedDate VARCHAR(8000) NOT NULL, LockedDate VARCHAR(8000));",
    )?;
    let all = database.transaction()?;
    {
        let mut insert = all.prepare(
            "INSERT INTO UserAuth (Id, UserName, Email, DisplayName, PasswordHash, Roles, CreatedDate)
             VALUES (?1, ?2, ?3, ?4, ?5, '[Editor]', '2019-08-07 06:05:04.1234567')",
        )?;
        for number in first..first + accounts {
            let id = i64::try_from(number)? + 1_000_000_000;
            insert.execute(params![id, name(number), email(number), format!("User {number}"), HASH])?;
        }
    }
    Ok(all.commit()?)
}
