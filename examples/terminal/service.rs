//! A small terminal to put behind the TrueConf gate: it does nothing, says what it is asked, and protects itself as badly as a real
//! one: one PIN for its administrator, no TLS, five guesses.
//!
//! One connection is its administrator; the next that shows the PIN takes its place. Whoever is let in may ask:
//!
//! ```text
//! getAppState      what it is doing, and the port of its own server     call, hangUp        changes that, and tells everybody
//! getSettings      what setSettings has set                             changeCurrentMonitor, shutdown    that it is done
//! getSystemInfo, getMonitorsInfo                                        echo     what was sent
//! pad              an answer of `bytes` bytes                           flood    `events` events, then the answer
//! never            nothing                                              later    an answer once the next request has its own
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// How many wrong PINs it takes before it takes no more.
const GUESSES: u32 = 5;
/// How many events may wait for a connection.
const WAITING: usize = 1024;

/// What is known to all its connections.
#[derive(Clone)]
pub(crate) struct Terminal(Arc<Known>);

struct Known {
    /// What its administrator must show; none: nothing.
    pin: Option<String>,
    /// Hears everything that the terminal is asked, in order, as it came.
    asked: Box<dyn Fn(&Value) + Send + Sync>,
    state: Mutex<State>,
    events: broadcast::Sender<Told>,
}

#[derive(Default)]
struct State {
    wrong: u32,
    app_state: u8,
    settings: Value,
    connections: u64,
    /// The connection of its administrator.
    administrator: Option<u64>,
}

/// What connections hear that they did not ask for.
#[derive(Clone)]
enum Told {
    /// An event.
    Event(Value),
    /// This one is the administrator now, and nobody else.
    Administrator(u64),
}

impl Terminal {
    /// One that this PIN makes an administrator of, or nothing where there is none.
    pub(crate) fn new(pin: Option<&str>, asked: impl Fn(&Value) + Send + Sync + 'static) -> Terminal {
        let state = State { app_state: 3, settings: json!({}), ..State::default() };
        let (pin, events) = (pin.map(str::to_owned), broadcast::channel(WAITING).0);
        Terminal(Arc::new(Known { pin, asked: Box::new(asked), state: Mutex::new(state), events }))
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, told: Told) {
        // Nobody may be there to hear it.
        self.0.events.send(told).ok();
    }

    /// Serves whoever connects, until it is dropped.
    pub(crate) async fn serve(self, listener: TcpListener) {
        // Those who are served go when the terminal goes.
        let mut served = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        served.spawn(connection(stream, self.clone()));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                },
                Some(_) = served.join_next() => {}
            }
        }
    }
}

/// One connection.
async fn connection(stream: TcpStream, terminal: Terminal) {
    let Ok(stream) = tokio_tungstenite::accept_async(stream).await else { return };
    let number = terminal.state(|state| {
        state.connections += 1;
        state.connections
    });
    let events = terminal.0.events.subscribe();
    Panel { terminal, number, stream, events, later: None }.run().await;
}

/// Whoever is on the other end of a connection.
struct Panel {
    terminal: Terminal,
    number: u64,
    stream: WebSocketStream<TcpStream>,
    events: broadcast::Receiver<Told>,
    /// An answer that waits for the next one.
    later: Option<Value>,
}

impl Panel {
    async fn run(mut self) {
        loop {
            let said = tokio::select! {
                told = self.events.recv() => match told {
                    Ok(Told::Event(event)) if self.is_administrator() => vec![event],
                    Ok(Told::Administrator(other)) if other != self.number => {
                        vec![json!({"method": "event", "event": "authorizationNeeded", "cause": 1})]
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => Vec::new(),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                message = self.stream.next() => match message {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                        Ok(request) => self.hear(&request),
                        Err(_) => vec![json!({"method": "", "requestId": "", "result": false, "error": "malformed request"})],
                    },
                    Some(Ok(_)) => Vec::new(),
                    Some(Err(_)) | None => return,
                },
            };
            for message in said {
                if self.stream.feed(Message::text(message.to_string())).await.is_err() {
                    return;
                }
            }
            if self.stream.flush().await.is_err() {
                return;
            }
        }
    }

    fn is_administrator(&self) -> bool {
        self.terminal.state(|state| state.administrator == Some(self.number))
    }

    /// What a request is answered, and what is told besides.
    fn hear(&mut self, request: &Value) -> Vec<Value> {
        (self.terminal.0.asked)(request);
        let answer = |more: Value| {
            let mut answer = json!({"method": request["method"], "requestId": request["requestId"]});
            if let (Some(answer), Value::Object(more)) = (answer.as_object_mut(), more) {
                answer.extend(more);
            }
            answer
        };
        let method = request["method"].as_str().unwrap_or_default();
        if method == "auth" {
            return vec![answer(self.authorise(request))];
        }
        if !self.is_administrator() {
            return vec![answer(json!({"result": false, "error": "not authorized"}))];
        }
        let number = |name: &str| usize::try_from(request[name].as_u64().unwrap_or_default()).unwrap_or_default();
        let answered = match method {
            "getAppState" => {
                let app_state = self.terminal.state(|state| state.app_state);
                answer(json!({"appState": app_state, "embeddedHttpPort": 9999, "result": true}))
            }
            "getSettings" => answer(json!({"settings": self.terminal.state(|state| state.settings.clone()), "result": true})),
            "setSettings" => {
                self.terminal.state(|state| state.settings = request["settings"].clone());
                answer(json!({"result": true}))
            }
            "getSystemInfo" => answer(json!({"authInfo": {}, "systemInfo": {"os": "none"}, "result": true})),
            "getMonitorsInfo" => answer(json!({"monitors": [{"index": 0}], "result": true})),
            "call" | "hangUp" => {
                let app_state = if method == "call" { 5 } else { 3 };
                self.terminal.state(|state| state.app_state = app_state);
                let event = json!({"method": "event", "event": "appStateChanged", "appState": app_state, "embeddedHttpPort": 9999});
                self.terminal.tell(Told::Event(event));
                answer(json!({"result": true}))
            }
            "changeCurrentMonitor" | "shutdown" | "connectToServer" | "logout" => answer(json!({"result": true})),
            "echo" => answer(json!({"what": request["what"], "result": true})),
            "pad" => answer(json!({"what": "x".repeat(number("bytes")), "result": true})),
            "flood" => {
                let event = |number| json!({"method": "event", "event": "tick", "number": number, "what": "x".repeat(200)});
                let answered = answer(json!({"result": true}));
                return (0..number("events")).map(event).chain([answered]).collect();
            }
            "never" => return Vec::new(),
            "later" => {
                self.later = Some(answer(json!({"result": true})));
                return Vec::new();
            }
            _ => answer(json!({"result": false, "error": "unknown method"})),
        };
        [answered].into_iter().chain(self.later.take()).collect()
    }

    fn authorise(&self, request: &Value) -> Value {
        let refused = |code: u8, error: &str| json!({"result": false, "resultCode": code, "error": error});
        let wrong = self.terminal.state(|state| state.wrong);
        match (request["type"].as_str(), &self.terminal.0.pin) {
            (Some("unsecured"), None) => {}
            (Some("secured"), None) | (Some("unsecured"), Some(_)) => return refused(4, "it does not fit the protection"),
            (Some("secured"), Some(_)) if wrong >= GUESSES => return refused(6, "too many"),
            (Some("secured"), Some(pin)) if request["credentials"] == **pin => {}
            (Some("secured"), Some(_)) => {
                self.terminal.state(|state| state.wrong += 1);
                return refused(8, "wrong");
            }
            _ => return refused(10, "type"),
        }
        self.terminal.state(|state| {
            state.wrong = 0;
            state.administrator = Some(self.number);
        });
        self.terminal.tell(Told::Administrator(self.number));
        let tokens = json!({"token": "1*device", "tokenForHttpServer": "4*device", "overlayHttpToken": "6*device"});
        let mut granted = json!({"previleges": 2, "result": true, "resultCode": 0});
        if let (Some(granted), Value::Object(tokens)) = (granted.as_object_mut(), tokens) {
            granted.extend(tokens);
        }
        granted
    }
}
