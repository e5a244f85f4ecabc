//! What is asked of the ServiceStack gate on the real binary and has no place in a transcript: secrets in files, tokens that end while
//! somebody waits, and bodies too large or too odd to be written down.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, PASSWORD, Server};
use crate::peer::{Response, http};

const OPEN: &str = "servicestack.client = \"app\"\n";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// What a login or a question of one megabyte may take, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(10);

fn get(server: &Server, target: &str, fields: &str) -> Response {
    http(server.http(), 0, &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
}

fn post(server: &Server, target: &str, fields: &str, body: &str) -> Response {
    let length = body.len();
    http(server.http(), 0, &format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{fields}\r\n{body}"))
}

fn ask(server: &Server, body: &Value) -> Response {
    post(server, "/json/reply/Authenticate", "", &body.to_string())
}

/// A cookie that an answer sets, as it is sent back.
fn cookie(response: &Response, name: &str) -> Option<String> {
    let start = format!("set-cookie: {name}=");
    let line = response.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&start))?;
    line[start.len() - name.len() - 1..].split(';').next().map(str::to_owned)
}

fn with_secret(home: &Home, text: &str, mode: u32) -> String {
    let file = home.file("authsecret");
    std::fs::write(&file, text).expect("a file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("its mode");
    format!(
        "{OPEN}{CHEAP}[[provider]]\nname = \"local\"\nkind = \"local\"\n\
         [[provider]]\nname = \"operator\"\nkind = \"secret\"\nfile = {file:?}\n"
    )
}

#[test]
fn the_operators_secret_acts_as_administrator_and_leaves_a_line_and_no_trace() {
    let home = Home::with_ann(OPEN);
    home.write_settings(&with_secret(&home, &format!("{SECRET}\n"), 0o600));
    let server = Server::of(home);
    let field = format!("authsecret: {SECRET}\r\n");
    let told = get(&server, "/auth.json", &field);
    assert_eq!(told.status, 200, "{told:?}");
    let dto: Value = serde_json::from_str(&told.body).expect("JSON");
    assert_eq!((&dto["UserId"], &dto["UserName"], &dto["Roles"]), (&json!("0"), &json!("Admin"), &json!(["Admin"])));
    let roles = json!({"UserName": "ann", "Roles": ["Editor"]}).to_string();
    let given = post(&server, "/api/AssignRoles", &field, &roles);
    assert_eq!((given.status, given.body.as_str()), (200, r#"{"AllRoles":["Editor"],"AllPermissions":[]}"#));
    let beside = get(&server, "/auth.json", &format!("{field}Authorization: Basic YW5uOm5v\r\n"));
    assert_eq!(beside.status, 200, "a wrong password beside it is not heard: {beside:?}");
    for (fields, target) in [
        ("authsecret: wrong\r\n".to_owned(), "/auth.json".to_owned()),
        (format!("authsecret: {}\r\n", &SECRET[1..]), "/auth.json".to_owned()),
        (String::new(), format!("/auth.json?authsecret={SECRET}")),
    ] {
        assert_eq!(get(&server, &target, &fields).status, 401, "{fields}{target}");
    }
    assert_eq!(post(&server, "/api/AssignRoles", "authsecret: wrong\r\n", &roles).status, 401);
    let lines = server.audit();
    assert_eq!(lines.iter().filter(|line| line["action"] == "operator_secret").count(), 3, "{lines:?}");
    let kept = server.files().into_iter().any(|(_, bytes)| bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
    assert!(!kept && !server.log().contains(SECRET) && !format!("{lines:?}").contains(SECRET));
}

#[test]
fn a_secret_that_others_can_read_or_guess_stops_the_start() {
    let home = Home::new(OPEN);
    for (text, mode, complaint) in [
        (SECRET, 0o644, "is open to others"),
        (&SECRET[1..], 0o600, "has 31 bytes; a secret that opens everything has 32 at least"),
        ("", 0o600, "has 0 bytes"),
    ] {
        home.write_settings(&with_secret(&home, text, mode));
        let said = home.operator(&["serve"], "").complaint();
        assert!(said.contains("provider[1].file") && said.contains(complaint), "{said}");
    }
}

#[test]
fn an_access_token_that_is_over_is_renewed_on_the_way() {
    let tokens = "servicestack.providers = [\"jwt\", \"credentials\"]\n";
    let server = Server::with_ann(&format!("{OPEN}{tokens}{CHEAP}[session]\naccess_life = \"1s\"\n"));
    let login = post(
        &server,
        "/auth/credentials.json",
        "Content-Type: application/json\r\n",
        &json!({"UserName": "ann", "Password": PASSWORD}).to_string(),
    );
    let (access, refresh) = (cookie(&login, "ss-tok").expect("a token"), cookie(&login, "ss-reftok").expect("another"));
    std::thread::sleep(Duration::from_millis(2100));
    let over = get(&server, "/auth.json", &format!("Cookie: {access}\r\n"));
    assert_eq!((over.status, over.body.contains("Token has expired")), (401, true), "{over:?}");
    let renewed = get(&server, "/auth.json", &format!("Cookie: {access}; {refresh}\r\n"));
    assert_eq!((renewed.status, renewed.body.contains("\"UserId\":\"ann\"")), (200, true), "{renewed:?}");
    let other = cookie(&renewed, "ss-tok").expect("a new one");
    assert_ne!(other, access);
    assert_eq!(get(&server, "/auth.json", &format!("Cookie: {other}\r\n")).status, 200);
}

#[test]
fn a_password_is_its_bytes_however_long_and_whatever_they_are() {
    let server = Server::with_ann(&format!("{OPEN}{CHEAP}"));
    let log_in = |name: &str, password: &str| ask(&server, &json!({"UserName": name, "Password": password})).status;
    // Longer than what some hashes look at, with a zero byte, and an é as one letter; the other é is two.
    let long = "x".repeat(72);
    let passwords = [format!("{long}a"), "zero\0byte".to_owned(), "caf\u{e9}".to_owned()];
    for (number, password) in passwords.iter().enumerate() {
        let name = format!("user{number}");
        server.operator(&["user", "add", &name], password).ok();
        assert_eq!(log_in(&name, password), 200, "{name}");
    }
    let others =
        [[long.clone(), format!("{long}b")], ["zero".to_owned(), "zero\0other".to_owned()], ["cafe".to_owned(), "caf".to_owned()]];
    for (number, words) in others.iter().enumerate() {
        for word in words {
            assert_eq!(log_in(&format!("user{number}"), word), 401, "user{number} {word:?}");
        }
    }
    let before = gatepost_identity::clock::system_instant();
    let most = 1024 * 1024;
    assert_eq!(log_in("ann", &"x".repeat(most - 1000)), 401);
    assert_eq!(log_in("ann", &"x".repeat(most)), 413);
    assert!(before.elapsed() < SOON, "{:?}", before.elapsed());
    assert_eq!(log_in("ann", PASSWORD), 200, "two failures lock nobody out");
}

#[test]
fn a_body_that_is_made_to_cost_much_is_refused_soon_and_quotes_nothing() {
    let server = Server::with_ann(&format!("{OPEN}{CHEAP}"));
    let keys: String = (0..100_000).map(|number| format!("\"{number:x}\":0,")).collect();
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(50_000), close.repeat(50_000));
    let laughs: String = (1..10).map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10))).collect();
    let rows = [
        ("application/json", format!("{{\"UserName\":\"ann\",\"Password\":\"s3cret\",\"Meta\":{{{keys}\"z\":0}}}}")),
        ("text/jsv", format!("{{UserName:ann,Password:s3cret,Meta:{{{}}}}}", keys.replace('"', ""))),
        ("application/json", format!("{{\"UserName\":\"ann\",\"Password\":\"s3cret\",\"Meta\":{}}}", deep("[", "]"))),
        ("text/jsv", format!("{{UserName:ann,Password:s3cret,Meta:{}}}", deep("[", "]"))),
        ("text/xml", format!("<Authenticate><Password>s3cret</Password>{}</Authenticate>", deep("<a>", "</a>"))),
        (
            "application/xml",
            format!("<!DOCTYPE l [<!ENTITY l0 \"s3cret\">{laughs}]><Authenticate><UserName>&l9;</UserName></Authenticate>"),
        ),
        ("application/x-www-form-urlencoded", format!("Password=s3cret&{}", "a=b&".repeat(100_000))),
        ("application/json", "{\"UserName\":{\"s3cret\":1},\"Password\":[\"s3cret\"]}".to_owned()),
        ("application/json", "UserName=ann&Password=s3cret".to_owned()),
        ("text/xml", "{\"UserName\":\"ann\",\"Password\":\"s3cret\"}".to_owned()),
        ("text/jsv", "<Authenticate><Password>s3cret</Password></Authenticate>".to_owned()),
        ("text/csv", "UserName,Password\r\nann,s3cret,more\r\n".to_owned()),
    ];
    for (content_type, body) in rows {
        let before = gatepost_identity::clock::system_instant();
        let told =
            post(&server, "/auth/credentials", &format!("Accept: application/json\r\nContent-Type: {content_type}\r\n"), &body);
        let what = format!("{content_type} {:?}", body.get(..60));
        assert_eq!(told.status, 400, "{what}: {told:?}");
        assert!(told.body.contains("SerializationException"), "{what}: {told:?}");
        assert!(!told.body.contains("s3cret") && !told.body.contains("StackTrace"), "{what}: {told:?}");
        assert!(before.elapsed() < SOON, "{what}: {:?}", before.elapsed());
    }
    assert!(!server.log().contains("s3cret"));
    // What is no text of any encoding.
    let body = b"POST /api/Authenticate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16\r\n\r\n{\"UserName\":\"\xff\"}";
    let mut peer = crate::peer::Peer::dial(server.http(), 0);
    peer.write(body);
    peer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let told = String::from_utf8(peer.hung_up()).expect("text");
    assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("the text is not UTF-8"), "{told}");
}
