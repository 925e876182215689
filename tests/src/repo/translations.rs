//! Compares a document with its translation: the same sections, tables, codes and examples. Looks for
//! the Chinese titles of operator alerts.

use std::collections::BTreeSet;
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

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

/// Returns the level and the number of each heading, the shape and the words of code of each row of
/// a table, and the blocks.
fn shape(path: &str) -> Vec<String> {
    let text = read(path);
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

#[test]
fn a_document_and_its_translation_lead_to_each_other() {
    for (document, translation) in PAIRS {
        for (page, other) in [(document, translation), (translation, document)] {
            let name = other.rsplit('/').next().unwrap_or_default();
            assert!(read(page).contains(&format!("[{name}]({name})")), "{page} and {other}");
        }
    }
}

/// Whether a letter is a Chinese character.
fn is_chinese(letter: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&letter)
}

/// Returns the title on the first line below a heading that holds text.
fn title<'a>(document: &'a str, heading: &str) -> Option<&'a str> {
    let below = document.lines().skip_while(|line| *line != heading).skip(1);
    let first = below.map(str::trim).find(|line| !line.is_empty())?;
    first.strip_prefix("**")?.strip_suffix("**")
}

#[test]
fn every_operator_alert_has_a_chinese_title_of_its_own_in_the_runbook() {
    let (rules, runbook) = (read("deploy/prometheus/rules.yml"), read("deploy/runbook.md"));
    let alerts: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 20, "{alerts:?}");
    let mut titles = BTreeSet::new();
    for alert in alerts {
        let title = title(&runbook, &format!("### {alert}")).unwrap_or_default();
        assert!(title.chars().any(is_chinese), "{alert} has no Chinese title: {title:?}");
        assert!(titles.insert(title), "{alert} has the title of another alert: {title}");
    }
}
