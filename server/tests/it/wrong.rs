//! What a server cannot begin with (X13): every setting wrong in turn, listeners in each other's way, secrets that are none or that
//! others can read, and a disk that can only be read. Each is one clear line, and nothing is changed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{CHEAP, Home, PASSWORD, Server, run};
use crate::mounts::{Mounts, own_mounts, read_only};

/// The keys that a document lists: each with the section that it stands in, as its heading has it.
fn documented(file: &str, first: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file);
    let text = std::fs::read_to_string(path).expect("a document");
    let (mut section, mut is_table, mut keys) = (first.to_owned(), false, Vec::new());
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix('#') {
            section = heading.trim_start_matches('#').trim().trim_matches('`').to_owned();
        } else if !line.starts_with('|') {
            is_table = false;
        } else if line.starts_with("| key |") {
            is_table = true;
        } else if let Some(cell) = line.strip_prefix("| `").and_then(|rest| rest.split('|').next()).filter(|_| is_table) {
            keys.extend(cell.split(',').map(|key| (section.clone(), key.trim().trim_matches('`').to_owned())));
        }
    }
    keys
}

/// What must stand before a section so that only the key in question is wrong.
fn before(section: &str) -> &'static str {
    match section {
        "[[servicestack.service]]" => "[servicestack]\nclient = 'app'\n",
        _ => "",
    }
}

/// What else a section must have.
fn besides(section: &str) -> &'static [(&'static str, &'static str)] {
    match section {
        "[[servicestack.service]]" => &[("path", "'/orders'"), ("upstream", "'http://127.0.0.1:9'")],
        "[tls]" => &[("certificate", "'certificate.pem'"), ("key", "'key.pem'")],
        "[[provider]]" => &[("name", "'odd'"), ("kind", "'local'")],
        "[zenith.upstream]" => &[("address", "'ws://127.0.0.1:9/'"), ("controllers", "[{ name = 'Market' }]")],
        _ => &[],
    }
}

#[test]
fn every_setting_that_is_wrong_is_named_with_its_line() {
    let mut keys = documented("settings.md", "");
    for (section, key) in &mut keys {
        // The whole document and its first chapter have what stands in no section.
        if ["Settings", "At the top"].contains(&section.as_str()) {
            section.clear();
        }
        assert!(section.is_empty() || section.starts_with('['), "{section}: {key}");
    }
    keys.extend(documented("protocols/zenith.md", "").into_iter().map(|(_, key)| ("[zenith]".to_owned(), key)));
    assert!(keys.len() > 80, "{keys:?}");
    let sections: Vec<String> = keys.iter().map(|(section, _)| section.clone()).collect();
    keys.extend(sections.into_iter().map(|section| (section, "nonsense".to_owned())));
    keys.dedup();
    let home = Home::new("");
    for (section, key) in &keys {
        // No setting may be less than nothing, and none is a table of this.
        for value in ["-1", "{ nonsense = [[1]] }", "[[1]]"] {
            let mut text = format!("# one line\n{}{section}\n", before(section));
            for (other, good) in besides(section).iter().filter(|(other, _)| other != key) {
                text += &format!("{other} = {good}\n");
            }
            text += &format!("{key} = {value}\n");
            std::fs::write(home.settings(), &text).expect("a file");
            let complaint = home.operator(&["check"], "").complaint();
            let place = format!("{}:{}: ", home.settings().display(), text.lines().count());
            assert!(complaint.starts_with(&place) && complaint.contains(key.as_str()), "{section} {key} = {value}: {complaint}");
            assert_eq!(complaint.lines().count(), 1, "{complaint}");
        }
    }
    // Each is a variable too, which then is what is named; but below [tls], where one alone is half of what must be there.
    std::fs::write(home.settings(), "").expect("a file");
    for (section, key) in keys.iter().filter(|(section, _)| !section.contains("[[") && !section.contains('.') && section != "[tls]")
    {
        let section = section.trim_matches(['[', ']']);
        let full = if section.is_empty() { key.clone() } else { format!("{section}_{key}") };
        let variable = format!("GATEPOST_{}", full.to_ascii_uppercase());
        let complaint = run(home.command().env(&variable, "{ nonsense = [[1]] }").arg("check"), "").complaint();
        assert!(complaint.starts_with(&format!("{variable}: ")) && complaint.lines().count() == 1, "{variable}: {complaint}");
    }
}

#[test]
fn listeners_in_each_others_way_are_refused_with_the_line_of_the_second() {
    let home = Home::new("");
    let check = |text: &str, line: usize, what: &str| {
        std::fs::write(home.settings(), text).expect("a file");
        for command in ["check", "serve"] {
            let complaint = home.operator(&[command], "").complaint();
            let place = format!("{}:{line}: {what}", home.settings().display());
            assert!(complaint.starts_with(&place), "{text}: {complaint}");
        }
    };
    let terminal = "terminals = [{ name = 'default', control = '127.0.0.1:8012' }]\n";
    check(&format!("http = '127.0.0.1:8012'\n[trueconf]\n{terminal}"), 3, "trueconf.");
    check(&format!("http = '127.0.0.1:8011'\n[trueconf]\nweb = '127.0.0.1:8011'\n{terminal}"), 3, "trueconf.web");
    check(&format!("http = '127.0.0.1:0'\n[trueconf]\nweb = '127.0.0.1:8012'\n{terminal}"), 4, "trueconf.");
}

/// X12: a secret that opens everything is drawn by chance and its owner's alone, or the server does not begin; and there is none
/// unless somebody has set it.
#[test]
fn the_operators_secret_is_no_example_and_is_its_owners_alone() {
    let home = Home::new("[[provider]]\nname = 'operator'\nkind = 'secret'\nfile = 'secret'\n");
    let file = home.file("secret");
    let check = |text: &str, mode: u32, what: &str| {
        std::fs::write(&file, text).expect("a file");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("it is ours");
        let complaint = home.operator(&["serve"], "").complaint();
        let place = format!("{}:6: ", home.settings().display());
        assert!(complaint.starts_with(&place) && complaint.contains(what), "{complaint}");
        let secret = text.trim_end();
        assert!(secret.is_empty() || !complaint.contains(secret), "{complaint}");
    };
    check("changeme\n", 0o600, "has 8 bytes");
    check("", 0o600, "has 0 bytes");
    check(&"changeme".repeat(4), 0o600, "as an example does");
    check("0f9b1c7e55d24a68b3e0c4d19a7f2683", 0o644, "others");
}

/// X12: nobody who comes by the network is the first administrator.
#[test]
fn a_server_without_anybody_in_it_is_claimed_by_nobody() {
    let server = Server::start(&format!("{CHEAP}{}", crate::held::APP));
    server.operator(&["client", "add", "app", "--scope", "Zenith/Market"], "").ok();
    for name in ["admin", "root", "administrator", "operator"] {
        for password in ["", "admin", "password", "changeme", PASSWORD] {
            assert_ne!(server.connect().login(name, password).outcome(), "Success");
        }
        let body = serde_json::json!({ "UserName": name, "Password": PASSWORD, "ConfirmPassword": PASSWORD, "Roles": ["Admin"] });
        for line in ["POST /register.json", "POST /assignroles.json", "POST /api/Register", "POST /api/AssignRoles"] {
            let status = crate::refresh::ask(server.http(), line, "", Some(&body)).expect("an answer").status;
            assert!((400..500).contains(&status), "{line}: {status}");
        }
    }
    assert_eq!(server.operator(&["user", "list"], "").ok(), "none\n");
}

#[test]
fn a_data_directory_on_a_disk_that_can_only_be_read_is_told_so_and_left_as_it_is() {
    let test = "wrong::a_data_directory_on_a_disk_that_can_only_be_read_is_told_so_and_left_as_it_is";
    match own_mounts(test) {
        // There is nothing to see where nobody may mount: the rights of a directory do not bind root, nor hold for what is in it.
        Mounts::Done | Mounts::Denied => {}
        Mounts::Own => {
            let (home, empty) = (Home::with_ann(CHEAP), Home::new(CHEAP));
            let copy = home.file("backup.db");
            home.operator(&["backup", copy.to_str().expect("UTF-8")], "").ok();
            let before = home.files();
            read_only(&home.data());
            read_only(&empty.data());
            for home in [&home, &empty] {
                for arguments in [
                    &["serve"][..],
                    &["user", "list"],
                    &["user", "add", "bob"],
                    &["restore", "../backup.db"],
                    &["restore", "backup.db"],
                ] {
                    let complaint = home.operator(arguments, "secret password").complaint();
                    let clear = complaint.contains("Read-only file system") || complaint.contains("backup.db: No such file");
                    assert!(clear && complaint.lines().count() == 1, "{arguments:?}: {complaint}");
                }
            }
            assert_eq!(home.files(), before);
            // What only looks goes on, and says what is wrong.
            let found = home.operator(&["doctor"], "").out;
            assert!(found.contains("can only be read"), "{found}");
            home.operator(&["verify-backup", copy.to_str().expect("UTF-8")], "").ok();
        }
    }
}
