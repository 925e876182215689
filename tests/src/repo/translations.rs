//! Compares a document with its translation: the same sections, tables, codes and examples.

use std::fs;

use super::markdown;
use crate::stack::root;

/// The documents with a translation.
const PAIRS: [(&str, &str); 3] = [
    ("README.md", "README.zh.md"),
    ("docs/devices.md", "docs/devices.zh.md"),
    ("docs/migration.md", "docs/migration.zh.md"),
];

/// Language of the blocks that may differ: commands that no test runs.
const FREE: &str = "sh";

/// Returns the level and the number of each heading, the shape and the words of code of each row of
/// a table, and the blocks.
fn shape(path: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let mut shape = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            continue;
        } else if line.starts_with('#') {
            let mut words = line.split(' ');
            let marks = words.next().unwrap_or_default();
            let number = words.next().filter(|word| word.parse::<u32>().is_ok());
            shape.push(format!("{marks} {}", number.unwrap_or_default()));
        } else if line.starts_with('|') {
            let code: Vec<_> = line.split('`').skip(1).step_by(2).collect();
            shape.push(format!("{} cells: {code:?}", line.matches(" |").count()));
        }
    }
    let blocks = markdown::blocks(&text).into_iter().filter(|block| block.info != FREE);
    shape.extend(blocks.map(|block| format!("{}\n{}", block.info, block.text)));
    shape
}

#[test]
fn a_translation_has_the_sections_tables_codes_and_examples_of_its_document() {
    for (document, translation) in PAIRS {
        let (expected, found) = (shape(document), shape(translation));
        assert!(expected.len() > 20, "{document}: {expected:?}");
        for (expected, found) in expected.iter().zip(&found) {
            assert_eq!(expected, found, "{document} and {translation}");
        }
        assert_eq!(expected.len(), found.len(), "{document} and {translation}");
    }
}
