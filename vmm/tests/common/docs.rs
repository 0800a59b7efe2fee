//! What a Markdown file shows a reader to type.

/// A block between fences.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// What it is in: the last heading before it.
    pub(crate) section: String,
    /// Its language, and what follows that and readers do not see.
    pub(crate) info: String,
    pub(crate) text: String,
    /// Of its fence, from 1.
    pub(crate) line: usize,
}

/// All blocks of a file in `docs/`.
pub(crate) fn blocks(name: &str) -> Vec<Block> {
    let text = text(name);
    let (mut blocks, mut section) = (Vec::new(), String::new());
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let inside = lines.by_ref().map(|(line, _)| line);
            let text: Vec<_> = inside.take_while(|line| *line != "```").collect();
            blocks.push(Block {
                section: section.clone(),
                info: info.to_owned(),
                text: text.join("\n") + "\n",
                line: number,
            });
        } else if line.starts_with('#') {
            section = line.trim_start_matches(['#', ' ']).to_owned();
        }
    }
    assert!(!blocks.is_empty(), "{name}");
    blocks
}

/// A file in `docs/`.
pub(crate) fn text(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    std::fs::read_to_string(std::path::Path::new(path).join(name)).unwrap()
}
