//! The logins at a terminal, as a control panel makes them: found by its `config.json`, open to anybody at first, then behind a
//! password; a dropped socket that comes back by its token; commands for the device behind it, as far as each role may give them; and
//! the server for files, which looks at tokens alone.
//!
//! It decides what is shown and what is expected of each answer.

#[path = "../../../examples/terminal/service.rs"]
mod terminal;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cli::say;
use crate::demo::servicestack::Browser;
use crate::demo::{Client, PATIENCE, expect, line};

/// What the device wants to be shown.
pub(super) const PIN: &str = "K7M2QX";

/// The device behind the terminal: that of the examples, until this is dropped.
pub(super) struct Device {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// The methods that it was asked for, in order.
    asked: Arc<Mutex<Vec<String>>>,
    running: JoinHandle<()>,
}

impl Device {
    /// Begins it on a port of the system's choosing.
    pub(super) async fn begin() -> Result<Device, String> {
        let failed = |error: std::io::Error| format!("no port for the terminal: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let record = Arc::clone(&asked);
        let device = terminal::Terminal::new(Some(PIN), move |request| {
            let method = request["method"].as_str().unwrap_or_default().to_owned();
            record.lock().unwrap_or_else(PoisonError::into_inner).push(method);
        });
        Ok(Device { address, asked, running: tokio::spawn(device.serve(listener)) })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Shows them. `addresses`: where the terminal's page, control socket and server for files are.
pub(super) async fn log_in([web, control, files]: [SocketAddr; 3], device: &Device) -> Result<(), String> {
    say(&format!("TrueConf: a panel finds the terminal by http://{web}/public/default/config.json:"))?;
    let found = Browser::plain(web).ask("GET /public/default/config.json", &[], "").await?.json();
    expect(found["config"]["websocket"]["port"] == control.port(), "the control socket's port")?;

    say(
        "The terminal is not secured, so anybody comes in. The first one sets passwords, for its administrator and then for its user:",
    )?;
    let mut first = Client::open("1", line(control, None).await.map_err(|error| error.to_string())?, "/", None).await?;
    let answer = first.ask(&json!({"method": "auth", "type": "unsecured"})).await?;
    expect(answer["result"] == true && answer["resultCode"] == 0, "resultCode 0")?;
    for (role, password) in [("admin", "Insect-9"), ("user", "Diego-7")] {
        let protect = json!({"method": "setAuthParams", "userType": role, "authType": "password", "password": password});
        expect(first.ask(&protect).await?["result"] == true, "true")?;
    }

    say("Another panel, with a wrong password and with the right one:")?;
    let mut second = Client::open("2", line(control, None).await.map_err(|error| error.to_string())?, "/", None).await?;
    let secured = |text: &str| json!({"method": "auth", "type": "secured", "role": "user", "credentials": text});
    expect(second.ask(&secured("Diego-8")).await?["resultCode"] == 8, "resultCode 8")?;
    let granted = second.ask(&secured("Diego-7")).await?;
    expect(granted["resultCode"] == 0 && granted["previleges"] == 1, "resultCode 0, as user")?;
    let text = |member: &str| granted[member].as_str().unwrap_or_default().to_owned();

    say("Its socket drops. It comes back by the token that it was given:")?;
    drop(second);
    let mut third = Client::open("3", line(control, None).await.map_err(|error| error.to_string())?, "/", None).await?;
    let answer = third.ask(&secured(&text("token"))).await?;
    expect(answer["resultCode"] == 0 && answer["previleges"] == 1, "resultCode 0, as user")?;

    command(&mut first, &mut third, device).await?;

    say("The server for files wants the token that is for it. It is ours and not the device's, and has none:")?;
    let token = answer["tokenForHttpServer"].as_str().unwrap_or_default().replace('#', "%23").replace('/', "%2F");
    let status = |answer: crate::demo::servicestack::Answer| answer.status;
    expect(Browser::plain(files).ask("GET /frames/?token=junk", &[], "").await.map(status)? == 401, "401")?;
    expect(Browser::plain(files).ask(&format!("GET /frames/?token={token}"), &[], "").await.map(status)? == 404, "404")
}

/// What panels came for: a device behind the gate, which has let the gate in and nobody else.
async fn command(administrator: &mut Client, user: &mut Client, device: &Device) -> Result<(), String> {
    say(&format!(
        "Behind the terminal is a device at ws://{}/, which knows one PIN and the gate alone. A user may call:",
        device.address
    ))?;
    let let_in = async {
        while device.asked().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, let_in).await.map_err(|_| "the gate does not come to the device")?;
    let call = user.ask(&json!({"method": "call", "requestId": "1", "peerId": "edward@example.org"})).await?;
    expect(call["result"] == true && call["requestId"] == "1", "true, under its own requestId")?;
    let told = |message: &Value| message["event"] == "appStateChanged" && message["embeddedHttpPort"] != 9999;
    for panel in [&mut *user, &mut *administrator] {
        panel.until("an event, which both hear, with the port of our own server", told).await?;
    }

    say(
        "It may not change the main screen. The administrator may, by the same requestId, and is the only one whom the device hears:",
    )?;
    let monitor = json!({"method": "changeCurrentMonitor", "requestId": "1", "index": 0});
    expect(user.ask(&monitor).await?["error"] == "access denied", "access denied")?;
    expect(administrator.ask(&monitor).await?["result"] == true, "true")?;
    let asked = device.asked();
    say(&format!("  the device was asked: {}", asked.join(", ")))?;
    expect(asked == ["auth", "call", "changeCurrentMonitor"], "one login, and what was allowed")
}

impl Client {
    /// A request and its answer.
    async fn ask(&mut self, request: &Value) -> Result<Value, String> {
        self.send(request).await?;
        loop {
            let message = self.next().await?;
            // Events come when they come.
            if message["method"] == request["method"] {
                return Ok(message);
            }
        }
    }
}
