//! A small feed to put behind the Zenith gate: it knows who is there by the token that Gatepost sends along, and keeps no accounts.
//!
//! Whoever connects must show a token that the gate has signed, for this service, within the last minute. From then on the
//! connection is that user's; the gate has checked the rights that its settings name, and keeps the table of what the user has
//! subscribed to, so there is little left to do here:
//!
//! ```text
//! Market:Quotes        a price now, and one at every tick     Market:QuerySymbols  which symbols there are
//! Trading:Orders       the orders placed on this connection   Market:Echo          what was sent
//! Market:Taken         one price, then taken away again       Market:WhoAmI        what the token says
//! Market:Closed        refused                                Market:Never         nothing
//!                                                             Trading:PlaceOrder   takes an order
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};

use super::keys::Keys;

/// How the service is set up.
pub(crate) struct Feed {
    /// Where the gate publishes its keys: `host:port` of its HTTP listener.
    pub(crate) keys: String,
    /// What a token must be meant for.
    pub(crate) audience: String,
    /// How often there is a new price.
    pub(crate) every: Duration,
}

/// Serves whoever connects, until it is dropped.
pub(crate) async fn serve(listener: TcpListener, feed: Feed) {
    let keys = Arc::new(Keys::new(feed.keys, feed.audience));
    // Those who are served go when the service goes.
    let mut served = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    served.spawn(connection(stream, Arc::clone(&keys), feed.every));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = served.join_next() => {}
        }
    }
}

/// One connection of one user.
async fn connection(stream: TcpStream, keys: Arc<Keys>, every: Duration) {
    let mut token = None;
    let Ok(mut stream) = tokio_tungstenite::accept_hdr_async(stream, Shake(&mut token)).await else { return };
    // Over a WebSocket there is no status to refuse with once it is open; a close says the same.
    let Some(claims) = keys.verify(&token.unwrap_or_default()).await else {
        stream.close(None).await.ok();
        return;
    };
    let mut user = User { claims, subscribed: BTreeSet::new(), orders: Vec::new(), price: 4500 };
    let mut tick = tokio::time::interval(every);
    loop {
        let said = tokio::select! {
            _ = tick.tick() => user.tick(),
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => serde_json::from_str(&text).map(|message| user.hear(&message)).unwrap_or_default(),
                Some(Ok(_)) => Vec::new(),
                Some(Err(_)) | None => return,
            },
        };
        for message in said {
            if stream.feed(Message::text(message.to_string())).await.is_err() {
                return;
            }
        }
        if stream.flush().await.is_err() {
            return;
        }
    }
}

/// Takes the token out of the handshake, and agrees on the wire.
struct Shake<'a>(&'a mut Option<String>);

impl Callback for Shake<'_> {
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let header = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        *self.0 = header.strip_prefix("Bearer ").map(str::to_owned);
        response.headers_mut().insert("sec-websocket-protocol", http::HeaderValue::from_static("ZenithJson"));
        Ok(response)
    }
}

/// Who is connected, and what they have asked for.
struct User {
    claims: Value,
    subscribed: BTreeSet<(String, String)>,
    orders: Vec<Value>,
    price: u32,
}

impl User {
    /// What a message is answered.
    fn hear(&mut self, message: &Value) -> Vec<Value> {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let (controller, topic, action) = (text("Controller"), text("Topic"), text("Action"));
        match &*action {
            "Sub" => self.subscribe(&controller, &topic),
            "Unsub" => {
                self.subscribed.remove(&(controller, topic));
                Vec::new()
            }
            "" | "Publish" => self.run(&controller, &topic, message),
            _ => Vec::new(),
        }
    }

    fn subscribe(&mut self, controller: &str, topic: &str) -> Vec<Value> {
        let refused = |code: &str| {
            let error = json!({"Controller": controller, "Topic": topic, "Action": "Error", "Data": code});
            vec![error, json!({"Controller": controller, "Topic": topic, "Action": "Sub", "Data": code})]
        };
        let confirmed = json!({"Controller": controller, "Topic": topic, "Action": "Sub", "Confirm": true});
        let first = match (controller, topic) {
            ("Market", "Quotes" | "Taken") => self.quote(),
            ("Trading", "Orders") => json!(self.orders),
            ("Market", "Closed") => return refused("Session"),
            _ => return refused("Operation.Unknown"),
        };
        let mut said = vec![confirmed, tell(controller, topic, first)];
        if topic == "Taken" {
            said.push(json!({"Controller": controller, "Topic": topic, "Action": "Unsub", "Confirm": true}));
        } else {
            self.subscribed.insert((controller.to_owned(), topic.to_owned()));
        }
        said
    }

    fn run(&mut self, controller: &str, topic: &str, message: &Value) -> Vec<Value> {
        let mut orders = None;
        let mut answer = match (controller, topic) {
            ("Market", "QuerySymbols") => tell(controller, topic, json!(["ANN", "BHP", "CBA"])),
            ("Market", "Echo") => tell(controller, topic, message["Data"].clone()),
            ("Market", "WhoAmI") => tell(controller, topic, self.claims.clone()),
            ("Market", "Never") => return Vec::new(),
            ("Trading", "PlaceOrder") => {
                self.orders.push(message["Data"].clone());
                orders = Some(tell("Trading", "Orders", json!(self.orders)));
                tell(controller, topic, json!({"Result": "Accepted", "Order": self.orders.len()}))
            }
            _ => json!({"Controller": controller, "Topic": topic, "Action": "Error", "Data": "Operation.Unknown"}),
        };
        if !message["TransactionID"].is_null() {
            answer["TransactionID"] = message["TransactionID"].clone();
        }
        let told = orders.filter(|_| self.subscribed.contains(&("Trading".to_owned(), "Orders".to_owned())));
        [answer].into_iter().chain(told).collect()
    }

    /// What there is to tell at a tick.
    fn tick(&mut self) -> Vec<Value> {
        if !self.subscribed.contains(&("Market".to_owned(), "Quotes".to_owned())) {
            return Vec::new();
        }
        vec![tell("Market", "Quotes", self.quote())]
    }

    fn quote(&mut self) -> Value {
        self.price += 1;
        json!({"Symbol": "BHP", "Last": f64::from(self.price) / 100.0})
    }
}

/// What a subscription tells, or an answer before its TransactionID.
fn tell(controller: &str, topic: &str, data: Value) -> Value {
    json!({"Controller": controller, "Topic": topic, "Data": data})
}
