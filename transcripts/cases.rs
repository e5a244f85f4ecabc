//! The list of cases: each is there, and each is shown by a transcript or a test that exists and runs.

use std::collections::BTreeMap;
use std::path::Path;

use super::Script;

/// Holds the text of a `CASES` against the scripts of its folder, and against the tests that it names under `root`.
pub fn check_cases(text: &str, root: &Path, scripts: &[Script]) -> Result<usize, String> {
    let mut wanted: Vec<&str> = Vec::new();
    let mut listed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (id, shown) = line.split_once(' ').unwrap_or((line, ""));
        if id == "ids:" {
            wanted.extend(shown.split_whitespace());
            continue;
        }
        let shown: Vec<&str> = match shown.strip_prefix("not yet:") {
            Some(reason) if !reason.trim().is_empty() => Vec::new(),
            _ => shown.split(',').map(str::trim).collect(),
        };
        for name in &shown {
            let holds = match name.strip_prefix("test:") {
                Some(test) => test_exists(root, test.trim()),
                None => scripts.iter().any(|script| script.name == *name && script.cases.iter().any(|case| case == id)),
            };
            if !holds {
                wrong.push(format!("case {id}: {name:?} does not show it"));
            }
        }
        if !wanted.contains(&id) {
            wrong.push(format!("case {id}: not among the ids above it"));
        }
        if listed.insert(id, shown).is_some() {
            wrong.push(format!("case {id}: listed twice"));
        }
    }
    wrong.extend(wanted.iter().filter(|id| !listed.contains_key(*id)).map(|id| format!("case {id}: missing")));
    for script in scripts {
        for case in &script.cases {
            if !listed.get(case.as_str()).is_some_and(|shown| shown.contains(&script.name.as_str())) {
                wrong.push(format!("{}: CASES does not list it for case {case}", script.name));
            }
        }
    }
    if wrong.is_empty() { Ok(listed.values().filter(|shown| !shown.is_empty()).count()) } else { Err(wrong.join("\n")) }
}

fn test_exists(root: &Path, test: &str) -> bool {
    let Some((path, name)) = test.rsplit_once("::") else { return false };
    std::fs::read_to_string(root.join(path)).is_ok_and(|text| has_test(&text, name))
}

/// Whether there is a function of that name in a text of Rust that is a test, and one that is run.
pub fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let begins = format!("fn {name}(");
    let is_it = |line: &str| line.strip_prefix("async ").unwrap_or(line).starts_with(&begins);
    lines.iter().enumerate().filter(|(_, line)| is_it(line)).any(|(at, _)| {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        let attributes: Vec<&&str> = above.filter(|line| line.starts_with("#[")).collect();
        attributes.iter().any(|line| **line == "#[test]" || line.starts_with("#[tokio::test"))
            && !attributes.iter().any(|line| line.contains("ignore"))
    })
}
