//! The walls between the crates and the habits that no lint knows, as one plain test of what is in the tree.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there, in its helpers too")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The names of everything that a crate is built from, itself left out.
fn dependencies(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}", "-p", package];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    tree.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn check(package: &str, never: &[&str]) {
    let found = dependencies(package);
    assert!(!found.is_empty(), "{package} is built from something");
    for name in never {
        assert!(!found.contains(*name), "{package} must not be built from {name}");
    }
}

#[test]
fn each_crate_is_built_from_what_it_may_know_only() {
    let world = ["hyper", "hyper-util", "axum", "tokio-tungstenite", "tungstenite", "rusqlite", "clap", "rustls"];
    // JSON is there for the claims of signed tokens, which are no wire of ours.
    let wire = ["http", "toml", "jiff", "quick-xml"];
    check("gatepost-identity", &["gatepost-store", "gatepost-protocols", "gatepost"]);
    check("gatepost-identity", &world);
    check("gatepost-identity", &wire);
    check("gatepost-store", &["gatepost-protocols", "gatepost", "http", "hyper", "tokio-tungstenite", "clap"]);
    check("gatepost-protocols", &["gatepost-store", "gatepost"]);
    check("gatepost-protocols", &world);
}

#[test]
fn of_tokio_the_core_uses_its_locks_and_channels_only() {
    for (folder, allowed) in [("identity/src", ["sync::", "select!", "join!"].as_slice()), ("protocols/src", &[])] {
        for (path, text) in sources(folder) {
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                for (index, _) in line.match_indices("tokio::") {
                    let used = &line[index + "tokio::".len()..];
                    assert!(allowed.iter().any(|allowed| used.starts_with(allowed)), "{}:{}: {line}", path.display(), number + 1);
                }
            }
        }
    }
}

#[test]
fn gates_are_never_handed_the_core_and_never_look_at_each_other() {
    let gates: Vec<PathBuf> = std::fs::read_dir(root().join("protocols/src"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert!(!gates.is_empty());
    for (path, text) in sources("protocols/src") {
        assert!(!text.contains("Identity"), "{} names the core's door", path.display());
        for other in &gates {
            let name = other.file_name().unwrap().to_str().unwrap();
            let outside = path.parent() != Some(other) && path.parent().and_then(Path::parent) != Some(other);
            let allowed = path.ends_with("protocols/src/lib.rs");
            assert!(!(outside && !allowed && text.contains(&format!("{name}::"))), "{} looks into {name}", path.display());
        }
    }
}

#[test]
fn only_the_server_opens_sockets_reads_the_environment_and_spawns() {
    for folder in ["identity/src", "store/src", "protocols/src"] {
        for (path, text) in sources(folder) {
            for forbidden in ["std::net::Tcp", "std::env::", "thread::spawn", "tokio::spawn", "std::process::Command"] {
                let product = text.split("#[cfg(test)]").next().unwrap_or_default();
                assert!(!product.contains(forbidden), "{} has {forbidden}", path.display());
            }
        }
    }
}

#[test]
fn every_file_opens_with_its_story_and_is_one_idea_long() {
    for folder in ["identity", "store", "protocols", "server", "bench", "transcripts", "examples", "clients", "fuzz"] {
        for (path, text) in sources(folder) {
            assert!(text.starts_with("//!"), "{} does not say what it is for", path.display());
            let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let most = if path.to_string_lossy().contains("/tests/") { 1000 } else { 650 };
            assert!(product.lines().count() <= most, "{} is more than one idea long", path.display());
        }
    }
}

#[test]
fn nothing_is_left_for_later_or_skipped() {
    let marks =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ign", "ore"), concat!("unimpl", "emented!"), concat!("to", "do!(")];
    let folders = [
        "identity",
        "store",
        "protocols",
        "server",
        "bench",
        "transcripts",
        "examples",
        "clients",
        "fuzz",
        "scripts",
        ".ci",
        "docs",
        "contrib",
    ];
    for folder in folders {
        for path in files(&root().join(folder)) {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            for mark in marks {
                assert!(!text.contains(mark), "{} holds {mark}", path.display());
            }
        }
    }
}

#[test]
fn every_fuzz_target_begins_with_seeds() {
    let targets = sources("fuzz/targets");
    assert!(!targets.is_empty());
    for (path, _) in targets {
        let seeds = root().join("fuzz/seeds").join(path.file_stem().unwrap());
        assert!(!files(&seeds).is_empty(), "{} has no seeds in {}", path.display(), seeds.display());
    }
}

/// The Rust files below a folder, with their text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let rust = files(&root().join(folder)).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    rust.map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "target" | ".git" | ".cache" | "corpus" | "artifacts" | "coverage") {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}
