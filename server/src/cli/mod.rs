//! The command line: what an operator may type, and what comes back.
//!
//! Text for people, `--json` for scripts. Where a server holds the data directory the commands ask it; else they hold the
//! directory themselves. A password comes from standard input or a prompt, never from an argument, which others could see.

mod ask;
mod backup;
mod doctor;
mod keys;
mod look;
mod moving;
mod pages;
mod print;
mod progress;
mod servicestack;
mod terminals;
mod users;

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use gatepost_protocols::looks_like_a_terminals_token;
use serde_json::Value;

use self::backup::{Backup, Restore, VerifyBackup};
use self::doctor::Doctor;
use self::keys::{ApiKey, Key, Token};
use self::look::{Audit, Session};
use self::moving::{Export, Import};
use self::pages::{Completions, Man};
use self::progress::Progress;
use self::terminals::Terminal;
use self::users::User;
use crate::config::{Begun, Config, Sources, parse_span};
use crate::listen::descriptors;
use crate::listen::tls::closed_to_others;
use crate::operator::{Operation, Told};
use crate::serve::Server;
use crate::supervisor::Inherited;
use crate::{demo, telemetry};

/// What may hold the PIN that the server is begun with.
const PIN_VARIABLE: &str = "GATEPOST_PIN";
/// How many rows are asked for at once.
const PAGE: usize = 500;

/// An authentication server: one identity core, several wire protocols in front of it.
#[derive(Debug, Parser)]
#[command(name = "gatepost", version, max_term_width = 100)]
struct Cli {
    /// The settings file [default: gatepost.toml, if there is one]
    #[arg(long, value_name = "FILE", global = true, env = "GATEPOST_CONFIG")]
    config: Option<PathBuf>,
    /// The data directory; goes before the one in the settings
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// Answer in JSON, for scripts
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(Serve),
    /// Log in over every gate of a throw-away server, show each request and answer, and keep serving
    Demo {
        /// Stop after the logins; fails if an answer is not as expected
        #[arg(long)]
        exit: bool,
    },
    /// Check the settings and show what would run
    Check,
    /// Users
    #[command(subcommand)]
    User(User),
    /// Bring users in from elsewhere, with their ids, passwords and API keys
    #[command(subcommand)]
    Import(Import),
    /// Write out what `import` takes
    #[command(subcommand)]
    Export(Export),
    /// Clients: the software that users log in through, and services that speak for themselves
    #[command(subcommand)]
    Client(Client),
    /// Grants: codes that let a user in once, without a password
    #[command(subcommand)]
    Grant(Grant),
    /// API keys: texts that speak for a user with each request
    #[command(subcommand)]
    Apikey(ApiKey),
    /// Terminals: devices that are opened by a role's password or PIN
    #[command(subcommand)]
    Terminal(Terminal),
    /// Keys that sign
    #[command(subcommand)]
    Key(Key),
    /// Access and refresh tokens
    #[command(subcommand)]
    Token(Token),
    /// Sessions
    #[command(subcommand)]
    Session(Session),
    /// What was tried, by whom, and what became of it
    #[command(subcommand)]
    Audit(Audit),
    /// Copy the database into a file, also while a server works with it
    Backup(Backup),
    /// Read a backup from its beginning to its end, and say what is in it
    VerifyBackup(VerifyBackup),
    /// Put a backup in the place of the database, and end all sessions and tokens. Not while a server runs
    Restore(Restore),
    /// Look over what a server rests on, and say what is wrong and what to do about it
    ///
    /// Looks at settings, disk, database, clock, certificate and listeners. Ends with 0 where nothing was found, with 3 where there
    /// are warnings only, and with 1 where there are faults.
    Doctor(Doctor),
    /// Print what a shell needs to complete commands
    Completions(Completions),
    /// Write manual pages to a directory
    Man(Man),
}

#[derive(Args)]
struct Serve {
    /// Serve this terminal, whether the settings name it or not [default, where a PIN is given: the only one that they name, or
    /// `default`]
    #[arg(long, value_name = "NAME")]
    terminal: Option<String>,
    /// A PIN that makes whoever shows it the terminal's administrator, until the server ends. Others on this machine can see it
    /// here; a file or the environment keeps it to yourself. `-pin` is understood too
    #[arg(long, value_name = "PIN", env = PIN_VARIABLE, hide_env_values = true, allow_hyphen_values = true)]
    pin: Option<String>,
    /// The same, as the first line of a file that nobody else may read
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
}

impl std::fmt::Debug for Serve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serve").field("terminal", &self.terminal).field("pin_file", &self.pin_file).finish_non_exhaustive()
    }
}

impl Serve {
    /// What was typed, where `typed` says whether the PIN was, and not only found in the environment.
    fn begun(&self, typed: bool) -> Result<Begun, String> {
        let read = |path: &PathBuf| {
            closed_to_others(path)?;
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, String>(text.lines().next().unwrap_or_default().to_owned())
        };
        let (pin, whence) = match (&self.pin_file, &self.pin) {
            (Some(path), _) => (Some(read(path)?), path.display().to_string()),
            // Whoever leaves the variable empty means none.
            (None, Some(pin)) if pin.is_empty() && !typed => (None, String::new()),
            (None, pin) => (pin.clone(), if typed { "--pin" } else { PIN_VARIABLE }.to_owned()),
        };
        if pin.as_ref().is_some_and(|pin| !(1..=256).contains(&pin.len())) {
            return Err(format!("{whence}: a PIN is 1 to 256 bytes long"));
        }
        if pin.as_deref().is_some_and(looks_like_a_terminals_token) {
            return Err(format!("{whence}: looks like a token, which is never taken for a PIN"));
        }
        Ok(Begun { terminal: self.terminal.clone(), pin })
    }
}

#[derive(Debug, Subcommand)]
enum Client {
    /// Add a client; public unless it gets a secret
    Add {
        /// Its id
        id: String,
        /// A friendly name
        #[arg(long)]
        display_name: Option<String>,
        /// Draw a secret and show it once
        #[arg(long, conflicts_with = "secret_stdin")]
        confidential: bool,
        /// Take a secret from standard input or a prompt
        #[arg(long)]
        secret_stdin: bool,
        /// A scope that may be granted through it; may be repeated
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Tell it no token that restores a session
        #[arg(long)]
        without_token: bool,
        /// When it ends
        #[arg(long, value_name = "MOMENT", value_parser = moment)]
        expires: Option<i64>,
    },
    /// List the clients
    List,
    /// Show one client
    Show(Identified),
    /// Change friendly name, scopes, token or expiry
    Set {
        /// Its id
        id: String,
        /// Another friendly name; empty takes it away
        #[arg(long)]
        display_name: Option<String>,
        /// A scope; those given are all
        #[arg(long = "scope", value_name = "SCOPE", conflicts_with = "no_scopes")]
        scopes: Vec<String>,
        /// No scope
        #[arg(long)]
        no_scopes: bool,
        /// Whether it is told a token that restores a session
        #[arg(long, value_name = "true|false")]
        token: Option<bool>,
        /// When it ends; `never` takes the end away
        #[arg(long, value_name = "MOMENT", value_parser = moment)]
        expires: Option<i64>,
    },
    /// Give it another secret, show it once, and end the sessions that came through it
    NewSecret {
        /// Its id
        id: String,
        /// Take the secret from standard input or a prompt instead of drawing one
        #[arg(long)]
        secret_stdin: bool,
    },
    /// Switch a client off and end the sessions that came through it
    Disable(Identified),
    /// Switch a client on
    Enable(Identified),
    /// Remove a client and end the sessions that came through it
    Remove(Identified),
}

#[derive(Debug, Args)]
struct Identified {
    /// Its id
    id: String,
}

#[derive(Debug, Subcommand)]
enum Grant {
    /// Make a grant and show its code once
    Mint {
        /// The id of the client that may redeem it
        #[arg(long, value_name = "ID")]
        client: String,
        /// The name or e-mail address of the user whom it lets in
        #[arg(long, value_name = "NAME")]
        user: String,
        /// The provider that redeems it [default: the first one]
        #[arg(long, value_name = "NAME")]
        provider: Option<String>,
        /// A scope that may be had with it; may be repeated [default: all that user and client have]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// How long it is good, at most 10m
        #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = parse_span)]
        expires: Duration,
    },
}

/// What was typed, with `-pin` of `serve` as `--pin`: those who start such a terminal are used to write it with one dash.
fn with_two_dashes(arguments: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut serves = false;
    arguments.into_iter().map(move |argument| match argument.to_str() {
        Some(text) if serves && (text == "-pin" || text.starts_with("-pin=")) => OsString::from(format!("-{text}")),
        text => {
            serves |= text == Some("serve");
            argument
        }
    })
}

/// Whether others on this machine can see a PIN among what was typed.
fn shows_a_pin(matches: &ArgMatches) -> bool {
    let serve = matches.subcommand_matches("serve");
    serve.is_some_and(|serve| serve.value_source("pin") == Some(ValueSource::CommandLine))
}

/// Two PINs from two places are a mistake, whichever was meant.
fn only_one_pin(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some(serve) = matches.subcommand_matches("serve").filter(|serve| serve.contains_id("pin_file")) else { return Ok(()) };
    let other = match serve.value_source("pin") {
        Some(ValueSource::CommandLine) => "the argument '--pin <PIN>'",
        Some(_) if serve.get_one::<String>("pin").is_some_and(|pin| !pin.is_empty()) => "the variable GATEPOST_PIN",
        Some(_) | None => return Ok(()),
    };
    let complaint = format!("{other} cannot be used with '--pin-file <FILE>'");
    Err(Cli::command().error(ErrorKind::ArgumentConflict, complaint))
}

/// Runs what was typed.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = Cli::command().try_get_matches_from(with_two_dashes(arguments)).and_then(|matches| {
        only_one_pin(&matches)?;
        let shows_a_pin = shows_a_pin(&matches);
        Cli::from_arg_matches(&matches).map(|cli| (cli, shows_a_pin))
    });
    let (cli, shows_a_pin) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version go to standard output and succeed; the library knows which is which.
            error.print().ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run_command(cli, shows_a_pin) {
        Ok(code) => code,
        Err(complaint) => {
            writeln!(std::io::stderr(), "gatepost: {complaint}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run_command(cli: Cli, shows_a_pin: bool) -> Result<ExitCode, String> {
    let done = |()| ExitCode::SUCCESS;
    match &cli.command {
        Command::Completions(completions) => return completions.run(Cli::command()).map(done),
        Command::Man(man) => return man.run(Cli::command()).map(done),
        _ => {}
    }
    // Before there are threads, which could read the environment meanwhile.
    let inherited = match &cli.command {
        Command::Serve(_) => Inherited::take()?,
        _ => Inherited::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    if let Command::Demo { exit } = cli.command {
        telemetry::start("warn", telemetry::Format::Text)?;
        let result = runtime.block_on(demo::run(exit));
        runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        return result.map(done);
    }
    let begun = match &cli.command {
        Command::Serve(serve) => serve.begun(shows_a_pin)?,
        _ => Begun::default(),
    };
    let sources = Sources { file: cli.config, environment: std::env::vars_os().collect(), data: cli.data, begun };
    if let Command::Doctor(doctor) = cli.command {
        telemetry::start("error", telemetry::Format::Text)?;
        let result = runtime.block_on(doctor.run(sources, cli.json));
        runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        return result;
    }
    let config = Config::load(sources.clone()).map_err(|error| error.to_string())?;
    if let Command::Check = cli.command {
        return print::check(&config, cli.json).map(done);
    }
    let serves = matches!(cli.command, Command::Serve(_));
    // A command that runs without a server has no log of its own: what goes wrong is its answer.
    let log = if serves { &config.log } else { "error" };
    telemetry::start(log, config.log_format)?;
    if shows_a_pin {
        tracing::warn!(
            "the PIN stands on the command line, where others on this machine can see it; --pin-file and GATEPOST_PIN keep it"
        );
    }
    if let Some(warning) = &config.warning {
        tracing::warn!("{warning}");
    }
    let json = cli.json;
    let result = runtime.block_on(async move {
        match cli.command {
            Command::Serve(_) => serve(config, sources, inherited).await,
            // These were done before there was need of the settings.
            Command::Demo { .. } | Command::Check | Command::Doctor(_) | Command::Completions(_) | Command::Man(_) => Ok(()),
            Command::Audit(command) => command.run(config, json).await,
            Command::User(User::List) => list(config, json, "name", |after| Operation::UserList { after, limit: PAGE }).await,
            Command::Client(Client::List) => list(config, json, "id", |after| Operation::ClientList { after, limit: PAGE }).await,
            Command::Backup(command) => command.run(config, json).await,
            Command::VerifyBackup(command) => command.run(json).await,
            Command::Restore(command) => command.run(&config.data, json).await,
            Command::Import(import) => import.run(config, json).await,
            Command::Export(export) => export.run(config, json).await,
            Command::User(command) => answer(config, json, command.operation()?).await,
            Command::Client(command) => answer(config, json, client(command)?).await,
            Command::Grant(Grant::Mint { client, user, provider, scopes, expires }) => {
                let life = u64::try_from(expires.as_millis()).unwrap_or(u64::MAX);
                answer(config, json, Operation::GrantMint { client, user, provider, scopes, life }).await
            }
            Command::Terminal(Terminal::List) => rows(config, json, Operation::TerminalList).await,
            Command::Terminal(command) => answer(config, json, command.operation()?).await,
            Command::Apikey(ApiKey::List(of)) => rows(config, json, of.operation()).await,
            Command::Apikey(command) => answer(config, json, command.operation()).await,
            Command::Key(Key::List) => rows(config, json, Operation::KeyList).await,
            Command::Key(command) => answer(config, json, command.operation()?).await,
            Command::Token(Token::Revoke { jti }) => answer(config, json, Operation::TokenRevoke { jti }).await,
            Command::Session(command) => command.run(config, json).await,
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result.map(done)
}

fn client(command: Client) -> Result<Operation, String> {
    Ok(match command {
        Client::Add { id, display_name, confidential, secret_stdin, scopes, without_token, expires } => Operation::ClientAdd {
            id,
            display_name,
            confidential,
            secret: if secret_stdin { Some(secret("Secret")?) } else { None },
            scopes,
            without_token,
            expires_at: expires.filter(|&end| end != 0),
        },
        Client::List => Operation::ClientList { after: None, limit: PAGE },
        Client::Show(Identified { id }) => Operation::ClientShow { id },
        Client::Set { id, display_name, scopes, no_scopes, token, expires } => Operation::ClientSet {
            id,
            display_name,
            scopes: (no_scopes || !scopes.is_empty()).then_some(scopes),
            receives_token: token,
            expires_at: expires,
        },
        Client::NewSecret { id, secret_stdin } => {
            Operation::ClientNewSecret { id, secret: if secret_stdin { Some(secret("Secret")?) } else { None } }
        }
        Client::Disable(Identified { id }) => Operation::ClientDisable { id },
        Client::Enable(Identified { id }) => Operation::ClientEnable { id },
        Client::Remove(Identified { id }) => Operation::ClientRemove { id },
    })
}

async fn serve(config: Config, sources: Sources, inherited: Inherited) -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| format!("cannot wait for signals: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let raised = descriptors::raise();
    let mut server = Server::start(config, inherited).await?;
    raised.say();
    // The one line on standard output: a supervisor waits for it.
    say(&format!("ready {}", server.addresses()))?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => server.reload(&sources),
        }
    }
    let asked_again = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server.stop(asked_again).await;
    Ok(())
}

async fn answer(config: Config, json: bool, operation: Operation) -> Result<(), String> {
    let mut asking = ask::Asker::open(config).await?;
    let facts = Progress::new().during(asking.ask(operation), "waiting for the answer").await;
    asking.close().await;
    print::facts(&facts?, json)
}

/// Lists everything, page by page; `key` is what the next page begins after.
async fn list(config: Config, json: bool, key: &str, page: impl Fn(Option<String>) -> Operation) -> Result<(), String> {
    let mut asking = ask::Asker::open(config).await?;
    let mut printed = print::Rows::new(json);
    let mut after = None;
    let result = loop {
        let rows = match asking.ask(page(after)).await {
            Ok(Value::Array(rows)) => rows,
            Ok(_) => break Err("the server answered with something else than rows".to_owned()),
            Err(complaint) => break Err(complaint),
        };
        after = rows.last().and_then(|row| row[key].as_str()).map(str::to_owned);
        let last = rows.len() < PAGE;
        if let Err(complaint) = printed.add(rows) {
            break Err(complaint);
        }
        if last {
            break printed.end();
        }
    };
    asking.close().await;
    result
}

/// Lists what comes in one page.
async fn rows(config: Config, json: bool, operation: Operation) -> Result<(), String> {
    let mut asking = ask::Asker::open(config).await?;
    let answered = asking.ask(operation).await;
    asking.close().await;
    let Value::Array(rows) = answered? else { return Err("the server answered with something else than rows".to_owned()) };
    let mut printed = print::Rows::new(json);
    printed.add(rows)?;
    printed.end()
}

/// A secret from a prompt, asked twice; or, where nobody sits there, the first line of standard input.
fn secret(what: &str) -> Result<Told, String> {
    if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password(format!("{what}: ")).map_err(|error| error.to_string())?;
        let second = rpassword::prompt_password("Once more: ").map_err(|error| error.to_string())?;
        return if first == second { Ok(Told::new(first)) } else { Err("the two differ; nothing was done".to_owned()) };
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|error| format!("standard input: {error}"))?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(format!("{} is expected on standard input, and there was none", what.to_lowercase()));
    }
    Ok(Told::new(line.to_owned()))
}

/// A moment, in milliseconds since the Unix epoch: RFC 3339, or a date for its first moment in UTC; `never` is 0.
fn moment(text: &str) -> Result<i64, String> {
    if text == "never" {
        return Ok(0);
    }
    // The library takes a date with anything behind it; a moment without a zone must not pass for midnight.
    let day = || {
        (text.len() == "2027-01-31".len())
            .then(|| text.parse::<jiff::civil::Date>().ok())
            .flatten()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
    };
    let moment = text.parse().ok().or_else(|| day().map(|day| day.timestamp()));
    moment.map(jiff::Timestamp::as_millisecond).ok_or_else(|| "write 2027-01-31, 2027-01-31T12:00:00Z or never".to_owned())
}

/// Writes a line to standard output.
pub(crate) fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| format!("standard output: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn one_dash_is_two_for_the_pin_of_serve_and_nowhere_else() {
        let check = |typed: &str, expected: &str| {
            let told: Vec<OsString> = with_two_dashes(typed.split(' ').map(OsString::from)).collect();
            assert_eq!(told, expected.split(' ').map(OsString::from).collect::<Vec<_>>());
        };
        check("gatepost serve -pin x", "gatepost serve --pin x");
        check("gatepost --config f serve -pin=x --terminal a", "gatepost --config f serve --pin=x --terminal a");
        check("gatepost apikey mint --letters -pin", "gatepost apikey mint --letters -pin");
    }

    #[test]
    fn a_pin_may_begin_with_a_hyphen_and_may_not_be_what_is_never_compared() {
        let begun = |typed: &[&str]| {
            let arguments = ["gatepost", "serve"].iter().chain(typed).map(OsString::from);
            let cli = Cli::try_parse_from(with_two_dashes(arguments)).expect("well typed");
            let Command::Serve(serve) = cli.command else { panic!("it serves") };
            serve.begun(true).map(|begun| begun.pin.unwrap_or_default())
        };
        assert_eq!(begun(&["--pin", "-ab"]), Ok("-ab".to_owned()));
        assert_eq!(begun(&["-pin", "-ab"]), Ok("-ab".to_owned()));
        assert_eq!(begun(&["-pin=-ab"]), Ok("-ab".to_owned()));
        assert_eq!(begun(&["--pin", ""]), Err("--pin: a PIN is 1 to 256 bytes long".to_owned()));
        let token = format!("1*{}*1999999999*{}", "a".repeat(16), "30".repeat(32));
        assert_eq!(begun(&["--pin", &token]), Err("--pin: looks like a token, which is never taken for a PIN".to_owned()));
    }

    #[test]
    fn moments_are_dates_or_instants() {
        assert_eq!(moment("1970-01-02"), Ok(86_400_000));
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(1000));
        assert_eq!(moment("1970-01-01T01:00:01+01:00"), Ok(1000));
        assert_eq!(moment("never"), Ok(0));
        for text in ["tomorrow", "2027-01-31T18:00:00", "2027-01-31 18:00", "31.1.2027"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
