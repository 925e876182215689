//! Checks that the links and paths in documents exist: moving a file must also change its mentions.

use std::fs;
use std::path::{Path, PathBuf};

use crate::stack::root;

/// Folders that hold documents, from the root of the repository.
const FOLDERS: [&str; 11] = [
    "",
    "common/ledger",
    "common/reading",
    "common/service",
    "deploy",
    "deploy/k8s",
    "deploy/proxy",
    "deploy/systemd",
    "docs",
    "migrations",
    "tests/conformance",
];

fn documents() -> Vec<PathBuf> {
    let entries = FOLDERS.iter().flat_map(|folder| fs::read_dir(root().join(folder)).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// Returns each text between `open` and `close`.
fn between<'a>(text: &'a str, open: &str, close: char) -> Vec<&'a str> {
    text.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0)).collect()
}

/// Returns the anchor of a heading in links.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | ' ');
    heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

fn leads_somewhere(document: &Path, text: &str, link: &str) -> bool {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = document.with_file_name(file);
    let target = if file.is_empty() { text.to_owned() } else { read(&target) };
    let headings = target.lines().filter(|line| line.starts_with('#'));
    let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#')));
    !target.is_empty() && (heading.is_empty() || anchors.any(|anchor| anchor == heading))
}

/// Returns a file's text, a word for a folder, and nothing for a missing path.
fn read(path: &Path) -> String {
    if path.is_dir() { "folder".into() } else { fs::read_to_string(path).unwrap_or_default() }
}

/// Whether `path` is a file or a folder. Rust files may be named without their ending.
fn exists(path: &str) -> bool {
    [path.to_owned(), format!("{path}.rs")].iter().any(|name| root().join(name).exists())
}

/// Whether a text is meant as a path of this repository: its first part is one of the folders.
fn is_path(span: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./".contains(letter);
    let first = span.split('/').next().unwrap_or_default();
    // Files that a user creates, such as deploy/.env, do not exist here.
    let made = span.contains("/.") || first == "target";
    span.contains('/')
        && span.chars().all(plain)
        && !made
        && root().join(first).is_dir()
        && !first.is_empty()
}

#[test]
fn every_link_and_every_path_in_a_document_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() > 10, "{documents:?}");
    let mut lost = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let links = between(&text, "](", ')').into_iter().filter(|link| !link.contains("://"));
        lost.extend(
            links
                .filter(|link| !leads_somewhere(&document, &text, link))
                .map(|link| format!("{}: {link}", document.display())),
        );
        // Every second part of a line is between backticks.
        let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        lost.extend(
            spans
                .filter(|span| is_path(span) && !exists(span.trim_end_matches('/')))
                .map(|span| format!("{}: `{span}`", document.display())),
        );
    }
    assert!(lost.is_empty(), "{lost:#?}");
}
