//! The logins at a terminal, as a control panel makes them: found by its `config.json`, open to anybody at first, then behind a
//! password; a dropped socket that comes back by its token; and the server for files, which looks at tokens alone.
//!
//! It decides what is shown and what is expected of each answer.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::cli::say;
use crate::demo::servicestack::Browser;
use crate::demo::{Client, expect, line};

/// Shows them. `addresses`: where the terminal's page, control socket and server for files are.
pub(super) async fn log_in([web, control, files]: [SocketAddr; 3]) -> Result<(), String> {
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

    say("The server for files wants the token that is for it. There is no device behind this terminal, so there are none:")?;
    let token = answer["tokenForHttpServer"].as_str().unwrap_or_default().replace('#', "%23").replace('/', "%2F");
    let status = |answer: crate::demo::servicestack::Answer| answer.status;
    expect(Browser::plain(files).ask("GET /frames/?token=junk", &[], "").await.map(status)? == 401, "401")?;
    expect(Browser::plain(files).ask(&format!("GET /frames/?token={token}"), &[], "").await.map(status)? == 404, "404")
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
