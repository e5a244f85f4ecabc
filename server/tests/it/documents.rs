//! The documents, as far as a machine can hold them to what they say.
use std::path::{Path, PathBuf};

/// Where the documents are.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The text of a file of the repository.
pub(crate) fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A fenced block of a document.
#[derive(Debug)]
pub(crate) struct Block {
    /// The number of the line that its fence is on, from 1.
    pub(crate) line: usize,
    /// What stands behind the fence, such as `sh`.
    pub(crate) language: String,
    pub(crate) text: String,
}

/// The fenced blocks of a text.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let (mut found, mut open) = (Vec::new(), None::<Block>);
    for (line, content) in (1..).zip(text.lines()) {
        let fence = content.trim_start().strip_prefix("```");
        match (open.take(), fence) {
            (None, Some(language)) => open = Some(Block { line, language: language.trim().to_owned(), text: String::new() }),
            (None, None) => {}
            (Some(block), Some(_)) => found.push(block),
            (Some(mut block), None) => {
                block.text += content;
                block.text.push('\n');
                open = Some(block);
            }
        }
    }
    assert!(open.is_none(), "a fence is not closed: {open:?}");
    found
}

/// The blocks of this language below a heading, up to the next heading of the same level or above.
pub(crate) fn fenced_below(path: &str, heading: &str, language: &str) -> Vec<String> {
    let text = text_of(path);
    let level = heading.chars().take_while(|letter| *letter == '#').count();
    let mut lines = text.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "{path} has no {heading:?}");
    let mut fenced = false;
    let below = lines.take_while(|line| {
        fenced ^= line.starts_with("```");
        let hashes = line.chars().take_while(|letter| *letter == '#').count();
        fenced || hashes == 0 || hashes > level
    });
    let below: String = below.flat_map(|line| [line, "\n"]).collect();
    blocks(&below).into_iter().filter(|block| block.language == language).map(|block| block.text).collect()
}
