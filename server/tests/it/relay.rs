//! What a client came for: a feed behind the gate, through the real binary and the feed of the examples.
//!
//! Who may hear what, and for how long, is the gate's to keep; these tests see it from the client's end of one socket.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::harness::{CHEAP, Home, PASSWORD, Server, until};
use crate::peer::{Peer, frame, owner};
use crate::published as keys;

#[path = "../../../examples/feed/service.rs"]
mod service;

/// How often the feed has a new price.
const EVERY: Duration = Duration::from_millis(40);

/// The feed, behind a server.
struct Fed {
    server: Server,
    address: SocketAddr,
    running: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl Fed {
    /// With `app` and ann, who hold Market and Trading, and bob, who holds Market alone.
    fn with(settings: &str) -> Fed {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("its address");
        let upstream = format!(
            "[zenith.upstream]\naddress = \"ws://{address}/\"\naudience = \"feed\"\ncontrollers = [\n\
             {{ name = \"Market\", right = \"Zenith/Market\" }},\n\
             {{ name = \"Trading\", right = \"Zenith/Trading\", topics = {{ PlaceOrder = \"Zenith/OrderPad\" }} }},\n]\n"
        );
        let home = Home::new(&format!("require_secure = false\n{settings}\n{CHEAP}{upstream}"));
        let all = ["--scope", "Zenith/Market", "--scope", "Zenith/Trading"];
        home.operator(&[&["client", "add", "app"], &all[..]].concat(), "").ok();
        home.operator(&[&["user", "add", "ann"], &all[..]].concat(), PASSWORD).ok();
        home.operator(&["user", "add", "bob", "--scope", "Zenith/Market"], PASSWORD).ok();
        let mut fed = Fed { server: Server::of(home), address, running: None, runtime };
        fed.serve(listener);
        fed
    }

    fn serve(&mut self, listener: TcpListener) {
        let feed = service::Feed { keys: self.server.http().to_string(), audience: "feed".to_owned(), every: EVERY };
        self.running = Some(self.runtime.spawn(service::serve(listener, feed)));
    }

    /// Ends the feed and whatever it serves.
    fn stop(&mut self) {
        let running = self.running.take().expect("it runs");
        running.abort();
        self.runtime.block_on(running).expect_err("it serves until it is ended");
    }

    /// Begins it again at the same address.
    fn begin_again(&mut self) {
        let listener = self.runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(self.address)?;
            socket.listen(64)
        });
        self.serve(listener.expect("the address is free again"));
    }

    /// A connection on which `name` is logged in.
    fn logged_in(&self, name: &str) -> Peer {
        let mut peer = self.server.connect();
        peer.login(name, PASSWORD).granted();
        peer
    }
}

fn sub(controller: &str, topic: &str) -> Value {
    json!({"Controller": controller, "Topic": topic, "Action": "Sub", "Confirm": true})
}

fn unsub(controller: &str, topic: &str) -> Value {
    json!({"Controller": controller, "Topic": topic, "Action": "Unsub", "Confirm": true})
}

fn run(controller: &str, topic: &str, transaction: u32, data: Value) -> Value {
    json!({"Controller": controller, "Topic": topic, "TransactionID": transaction, "Data": data})
}

fn is_quote(message: &Value) -> bool {
    message["Topic"] == "Quotes" && message.get("Action").is_none() && message.get("TransactionID").is_none()
}

/// The next message that is no price.
fn next_but_quotes(peer: &mut Peer) -> Value {
    loop {
        let message = peer.next();
        if !is_quote(&message) {
            return message;
        }
    }
}

#[track_caller]
fn expect(peer: &mut Peer, expected: Value) {
    assert_eq!(next_but_quotes(peer), expected);
}

/// Subscribes to prices and hears one.
fn hears_quotes(peer: &mut Peer) {
    peer.send(&sub("Market", "Quotes"));
    expect(peer, json!({"Controller": "Market", "Topic": "Quotes", "Action": "Sub", "Confirm": true}));
    let told = peer.next();
    assert!(is_quote(&told), "{told}");
}

/// Sees that no price comes for some ticks.
fn hears_nothing(peer: &mut Peer) {
    std::thread::sleep(EVERY * 8);
    peer.send(&json!({"Controller": "Auth", "Topic": "QueryConfigure", "TransactionID": 9999}));
    let next = peer.next();
    assert_eq!((&next["Topic"], &next["TransactionID"]), (&json!("QueryConfigure"), &json!(9999)), "{next}");
}

#[test]
fn before_login_nothing_is_passed_on_and_after_it_what_the_rights_allow() {
    let fed = Fed::with("");
    let mut peer = fed.server.connect();
    let refused =
        |controller: &str, topic: &str| json!({"Controller": controller, "Topic": topic, "Action": "Error", "Data": "Authority"});
    peer.send(&sub("Market", "Quotes"));
    expect(&mut peer, refused("Market", "Quotes"));
    expect(&mut peer, json!({"Controller": "Market", "Topic": "Quotes", "Action": "Sub", "Data": "Authority"}));
    peer.send(&run("Market", "QuerySymbols", 1, Value::Null));
    let mut expected = refused("Market", "QuerySymbols");
    expected["TransactionID"] = json!(1);
    expect(&mut peer, expected);
    peer.send(&run("News", "Headlines", 2, Value::Null));
    expect(
        &mut peer,
        json!({"Controller": "News", "Topic": "Headlines", "Action": "Error", "TransactionID": 2, "Data": "Controller News"}),
    );
    peer.send(&run("Market", "Configure", 3, json!({"ActionTimeout": "00:00:07"})));
    expect(&mut peer, json!({"Controller": "Market", "Topic": "Configure", "TransactionID": 3}));

    peer.login("bob", PASSWORD).granted();
    peer.send(&run("Market", "QuerySymbols", 4, Value::Null));
    let symbols = json!(["ANN", "BHP", "CBA"]);
    expect(&mut peer, json!({"Controller": "Market", "Topic": "QuerySymbols", "TransactionID": 4, "Data": symbols}));
    for (topic, transaction) in [("Holdings", 5), ("PlaceOrder", 6)] {
        peer.send(&run("Trading", topic, transaction, json!({})));
        let mut expected = refused("Trading", topic);
        expected["TransactionID"] = json!(transaction);
        expect(&mut peer, expected);
    }
    let mut ann = fed.logged_in("ann");
    ann.send(&run("Trading", "PlaceOrder", 1, json!({})));
    assert_eq!(ann.next()["Data"], "Authority", "she may trade, but this topic needs more");
}

#[test]
fn the_service_learns_who_it_is_from_a_token_of_ours() {
    let fed = Fed::with("public_url = \"https://id.example.org\"");
    let mut peer = fed.logged_in("ann");
    peer.send(&run("Market", "WhoAmI", 1, Value::Null));
    let claims = peer.next()["Data"].clone();
    let said = ["iss", "aud", "sub", "client_id", "scope"].map(|name| claims[name].clone());
    assert_eq!(said, ["https://id.example.org", "feed", "ann", "app", "Zenith/Market Zenith/Trading"].map(|text| json!(text)));
    let (from, until) = (claims["iat"].as_i64().expect("iat"), claims["exp"].as_i64().expect("exp"));
    assert_eq!(until - from, 60, "{claims}");
}

#[test]
fn subscriptions_are_counted_and_a_second_one_doubles_nothing() {
    let fed = Fed::with("");
    let mut peer = fed.logged_in("ann");
    hears_quotes(&mut peer);
    peer.send(&sub("Market", "Quotes"));
    expect(&mut peer, json!({"Controller": "Market", "Topic": "Quotes", "Action": "Sub", "Confirm": true}));
    let prices: Vec<f64> = (0..5).map(|_| peer.next()["Data"]["Last"].as_f64().expect("a price")).collect();
    assert!(prices.windows(2).all(|pair| pair[0] < pair[1]), "each price comes once: {prices:?}");
    peer.send(&unsub("Market", "Quotes"));
    expect(&mut peer, json!({"Controller": "Market", "Topic": "Quotes", "Action": "Unsub"}));
    assert!(is_quote(&peer.next()), "one of two is left");
    peer.send(&unsub("Market", "Quotes"));
    expect(&mut peer, json!({"Controller": "Market", "Topic": "Quotes", "Action": "Unsub"}));
    hears_nothing(&mut peer);
}

#[test]
fn what_the_service_refuses_or_takes_away_is_told_as_the_wire_has_it() {
    let fed = Fed::with("");
    let mut peer = fed.logged_in("ann");
    for (topic, code) in [("Closed", "Session"), ("Nowhere", "Operation.Unknown")] {
        peer.send(&sub("Market", topic));
        expect(&mut peer, json!({"Controller": "Market", "Topic": topic, "Action": "Error", "Data": code}));
        expect(&mut peer, json!({"Controller": "Market", "Topic": topic, "Action": "Sub", "Data": code}));
    }
    let taken = sub("Market", "Taken");
    peer.write(&[frame(1, taken.to_string().as_bytes()), frame(1, taken.to_string().as_bytes())].concat());
    let confirmed = json!({"Controller": "Market", "Topic": "Taken", "Action": "Sub", "Confirm": true});
    let ended = json!({"Controller": "Market", "Topic": "Taken", "Action": "Unsub", "Confirm": true});
    expect(&mut peer, confirmed.clone());
    let told: Vec<Value> = (0..4).map(|_| peer.next()).collect();
    let times = |message: &Value| told.iter().filter(|one| *one == message).count();
    assert_eq!((times(&confirmed), times(&ended)), (1, 2), "an end for each of two: {told:?}");
}

#[test]
fn a_guarded_subscription_sent_in_one_write_with_the_login_succeeds() {
    let fed = Fed::with("");
    let token = fed.server.connect().login("ann", PASSWORD).token();
    let mut peer = fed.server.connect();
    let restore = json!({"Provider": "Paritech", "AccessToken": token});
    let login = json!({"Controller": "Auth", "Topic": "AuthToken", "TransactionID": 1, "Data": restore});
    peer.write(&[frame(1, login.to_string().as_bytes()), frame(1, sub("Market", "Quotes").to_string().as_bytes())].concat());
    assert_eq!(peer.next()["Data"]["Result"], "Success");
    expect(&mut peer, json!({"Controller": "Market", "Topic": "Quotes", "Action": "Sub", "Confirm": true}));
    assert!(is_quote(&peer.next()));
}

#[test]
fn deliveries_stop_at_expiry_resume_by_a_token_and_end_where_rights_end_all_on_one_socket() {
    let fed = Fed::with("[session]\nconnection_life = \"2s\"");
    let mut peer = fed.server.connect();
    let token = peer.login("ann", PASSWORD).token();
    peer.subscribe().granted();
    hears_quotes(&mut peer);
    peer.send(&sub("Trading", "Orders"));
    expect(&mut peer, json!({"Controller": "Trading", "Topic": "Orders", "Action": "Sub", "Confirm": true}));
    expect(&mut peer, json!({"Controller": "Trading", "Topic": "Orders", "Data": []}));
    peer.send(&sub("Trading", "Orders"));
    expect(&mut peer, json!({"Controller": "Trading", "Topic": "Orders", "Action": "Sub", "Confirm": true}));

    let told = next_but_quotes(&mut peer);
    assert_eq!((&told["Topic"], &told["Data"]), (&json!("Identify"), &json!({"Result": "Reject"})), "her time is over");
    hears_nothing(&mut peer);
    peer.send(&sub("Market", "Quotes"));
    assert_eq!(peer.next()["Data"], "Authority");
    assert_eq!(peer.next()["Data"], "Authority");

    let restore = json!({"Provider": "Paritech", "AccessToken": token});
    peer.send(&json!({"Controller": "Auth", "Topic": "AuthToken", "TransactionID": 50, "Data": restore}));
    let answer = peer.next();
    assert_eq!((&answer["TransactionID"], &answer["Data"]["Result"]), (&json!(50), &json!("Success")), "{answer}");
    peer.told().granted();
    let resumed: Vec<Value> = (0..2).map(|_| peer.next()).collect();
    assert!(resumed.iter().any(is_quote) && resumed.iter().any(|one| one["Topic"] == "Orders"), "{resumed:?}");

    let mut fewer = owner("ann", PASSWORD);
    fewer["Scope"] = json!(["Zenith/Market"]);
    peer.send(&json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 51, "Data": fewer}));
    let answer = next_but_quotes(&mut peer);
    assert_eq!((&answer["TransactionID"], &answer["Data"]["Scope"]), (&json!(51), &json!(["Zenith/Market"])), "{answer}");
    assert_eq!(next_but_quotes(&mut peer)["Topic"], "Identify");
    expect(&mut peer, json!({"Controller": "Trading", "Topic": "Orders", "Action": "Error", "Data": "Authority"}));
    for _ in 0..2 {
        expect(&mut peer, json!({"Controller": "Trading", "Topic": "Orders", "Action": "Unsub", "Confirm": true}));
    }
    assert!(is_quote(&peer.next()), "what is still allowed goes on");
}

#[test]
fn a_login_as_another_user_is_another_connection_to_the_service_and_the_same_user_is_not() {
    let fed = Fed::with("");
    let mut peer = fed.logged_in("ann");
    let order = json!({"Symbol": "BHP"});
    let orders = |peer: &mut Peer| {
        peer.send(&sub("Trading", "Orders"));
        assert_eq!(peer.next()["Confirm"], true);
        peer.next()["Data"].clone()
    };
    assert_eq!(orders(&mut peer), json!([]));
    peer.send(&run("Market", "Echo", 1, order.clone()));
    assert_eq!(peer.next()["Data"], order);
    let who = |peer: &mut Peer| {
        peer.send(&run("Market", "WhoAmI", 2, Value::Null));
        let claims = next_but_quotes(peer)["Data"].clone();
        (claims["sub"].clone(), claims["sid"].clone())
    };
    let first = who(&mut peer);
    peer.login("ann", PASSWORD).granted();
    assert_eq!(who(&mut peer), first, "the connection to the service is kept, with the token that it was opened with");
    peer.login("bob", PASSWORD).granted();
    assert_eq!(peer.next()["Data"], "Authority", "he may not see orders");
    assert_eq!(peer.next()["Action"], "Unsub");
    assert_eq!(who(&mut peer).0, "bob");
}

#[test]
fn an_end_by_an_operator_stops_deliveries_and_keeps_the_connection() {
    let fed = Fed::with("");
    let mut peer = fed.logged_in("ann");
    peer.subscribe().granted();
    hears_quotes(&mut peer);
    fed.server.operator(&["user", "disable", "ann"], "").ok();
    let told = next_but_quotes(&mut peer);
    assert_eq!((&told["Topic"], &told["Data"]), (&json!("Identify"), &json!({"Result": "Reject"})));
    hears_nothing(&mut peer);
}

#[test]
fn a_service_that_goes_costs_nobody_the_connection_and_is_found_again() {
    let mut fed = Fed::with("");
    let mut peer = fed.logged_in("ann");
    hears_quotes(&mut peer);
    peer.send(&run("Market", "Never", 7, Value::Null));
    // Its answer would come after, so that the request before it is on its way.
    peer.send(&run("Market", "Echo", 8, json!("x")));
    assert_eq!(next_but_quotes(&mut peer)["TransactionID"], 8);
    fed.stop();
    expect(
        &mut peer,
        json!({"Controller": "Market", "Topic": "Never", "Action": "Error", "TransactionID": 7, "Data": "Operation.Abort"}),
    );
    peer.send(&run("Market", "Echo", 9, json!("x")));
    expect(&mut peer, json!({"Controller": "Market", "Topic": "Echo", "Action": "Error", "TransactionID": 9, "Data": "Fault"}));
    peer.query().granted();
    let mut newcomer = fed.logged_in("bob");
    newcomer.send(&run("Market", "Echo", 1, json!("x")));
    assert_eq!(newcomer.next()["Data"], "Fault", "whoever comes now is told the same");
    fed.begin_again();
    let again = peer.next();
    assert!(is_quote(&again), "it goes on without a new subscription: {again}");
    peer.send(&run("Market", "Echo", 10, json!("x")));
    assert_eq!(next_but_quotes(&mut peer)["Data"], "x");
    until("the newcomer is served too", || {
        newcomer.send(&run("Market", "Echo", 2, json!("x")));
        let answer = newcomer.next();
        answer["Data"] == "x" && answer["TransactionID"] == 2
    });
}

#[test]
fn an_action_without_an_answer_times_out_by_what_its_controller_was_configured() {
    let fed = Fed::with("");
    let mut peer = fed.logged_in("ann");
    peer.send(&run("Market", "Configure", 1, json!({"ActionTimeout": "00:00:01"})));
    assert_eq!(peer.next()["TransactionID"], 1);
    peer.send(&run("Market", "Never", 2, Value::Null));
    expect(
        &mut peer,
        json!({"Controller": "Market", "Topic": "Never", "Action": "Error", "TransactionID": 2, "Data": "Operation.Timeout"}),
    );
}
