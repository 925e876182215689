//! Finds the fenced blocks of a document.

/// A fenced block of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The line at which the block begins, from 1.
    pub line: usize,
    /// The heading above the block; empty before the first heading.
    pub section: String,
    /// The words after the fence: the language, then marks.
    pub info: String,
    /// The lines of the block, without the indentation of its fence.
    pub text: String,
}

/// Returns the fenced blocks of a document, in their order.
pub fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut section = "";
    let mut open: Option<(usize, Block)> = None;
    for (number, line) in document.lines().enumerate() {
        let trimmed = line.trim();
        match &mut open {
            None => {
                if line.starts_with('#') {
                    section = line.trim_start_matches('#').trim();
                } else if let Some(info) = trimmed.strip_prefix("```") {
                    let indent = line.len() - line.trim_start().len();
                    let block = Block {
                        line: number + 1,
                        section: section.to_owned(),
                        info: info.to_owned(),
                        text: String::new(),
                    };
                    open = Some((indent, block));
                }
            }
            Some(_) if trimmed == "```" => blocks.extend(open.take().map(|(_, block)| block)),
            Some((indent, block)) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_section_their_words_their_lines_and_their_own_indentation() {
        let document =
            "a\n```sh runnable\nb\n\n# c\n```\n## D e\n- d\n  ```\n  e\n    f\n  ```\n```\n";
        let block = |line, section: &str, info: &str, text: &str| Block {
            line,
            section: section.to_owned(),
            info: info.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(
            blocks(document),
            [block(2, "", "sh runnable", "b\n\n# c\n"), block(9, "D e", "", "e\n  f\n")]
        );
    }
}
