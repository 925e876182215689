//! Compares `docs/states.md` with the sources: a state whose exit no test holds, and a constant or a
//! setting that nothing has.

use std::fs;
use std::path::{Path, PathBuf};

use crate::stack::root;

const STATES: &str = include_str!("../../../docs/states.md");

/// Folders of the sources, from the root of the repository.
const FOLDERS: [&str; 5] = ["common", "gateway", "worker", "alerter", "tests/e2e"];

/// A source file: its path and its text.
type Source = (PathBuf, String);

fn add_sources(folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add_sources(&path, sources);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            sources.push((path, text));
        }
    }
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    FOLDERS.iter().for_each(|folder| add_sources(&root().join(folder), &mut sources));
    sources
}

/// Returns the cells of each state's row.
fn rows() -> Vec<Vec<&'static str>> {
    let is_state = |line: &&str| line.starts_with("| ") && !line.starts_with("| state |");
    let lines = STATES.lines().filter(is_state);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// Returns the texts between backticks.
fn spans(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Whether a file at the end of this module path has this test.
fn is_test(name: &str, sources: &[Source]) -> bool {
    let Some((module, test)) = name.rsplit_once("::") else { return false };
    let module = module.replace("::", "/");
    let files = [format!("{module}.rs"), format!("{module}/mod.rs")];
    let function = format!("fn {test}()");
    let has = |(path, text): &Source| {
        files.iter().any(|file| path.ends_with(file)) && text.contains(&function)
    };
    sources.iter().any(has)
}

#[test]
fn every_state_has_an_exit_with_a_test_that_exists() {
    let (rows, sources) = (rows(), sources());
    assert!(rows.len() > 80 && sources.len() > 200, "{} {}", rows.len(), sources.len());
    for row in rows {
        assert!(row.len() == 4 && !row.contains(&""), "{row:?}");
        let (state, test) = (row[0], row[3]);
        assert!(spans(test).count() > 0, "{state} has no test");
        for name in spans(test) {
            assert!(is_test(name, &sources), "{state}: no test {name}");
        }
    }
}

#[test]
fn every_constant_and_setting_of_an_exit_exists() {
    let (rows, sources) = (rows(), sources());
    let is_constant =
        |span: &&str| span.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
    for cell in rows.iter().flat_map(|row| &row[1..3]) {
        for name in spans(cell).filter(is_constant) {
            // A constant has a type, and a setting stands in quotes.
            let declared = [format!("const {name}:"), format!("\"{name}\"")];
            let has = |text: &str| declared.iter().any(|form| text.contains(form));
            assert!(sources.iter().any(|(_, text)| has(text)), "{name} is nowhere");
        }
    }
}
