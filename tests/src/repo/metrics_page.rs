//! The metrics that `docs/metrics.md` lists, and the metrics that the services declare.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};

/// One metric of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The type: counter, gauge or histogram.
    pub kind: String,
    /// The names of the labels.
    pub labels: Vec<String>,
}

/// Metrics of the process that a library declares.
#[cfg(test)]
const OF_LIBRARY: &str = "process_";

/// The crates that declare metrics.
#[cfg(test)]
const CRATES: [&str; 5] = ["common/service", "common/ledger", "gateway", "worker", "alerter"];

fn read(path: &str) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Returns the metrics that the documentation lists.
pub fn documented() -> anyhow::Result<BTreeMap<String, Row>> {
    let mut rows = BTreeMap::new();
    for line in read("docs/metrics.md")?.lines() {
        let Some(rest) = line.strip_prefix("| `") else { continue };
        let (name, rest) = rest.split_once('`').context("a name without an end")?;
        let cells: Vec<_> = rest.split('|').map(str::trim).collect();
        // The text before the first bar, the four cells, and the text after the last bar.
        ensure!(cells.len() == 6, "{name}: {} columns", cells.len());
        ensure!(!cells[3].is_empty(), "{name} has no meaning");
        let labels = cells[2].split(',').map(str::trim).filter(|label| !label.is_empty());
        let row = Row { kind: cells[1].to_owned(), labels: labels.map(str::to_owned).collect() };
        ensure!(rows.insert(name.to_owned(), row).is_none(), "{name} stands twice");
    }
    Ok(rows)
}

/// Returns the metrics that the services' sources declare.
#[cfg(test)]
fn declared() -> anyhow::Result<BTreeMap<String, Row>> {
    let mut rows = BTreeMap::new();
    for crate_name in CRATES {
        for line in read(&format!("{crate_name}/src/metrics.rs"))?.lines() {
            // A line such as `Counter READINGS = "readings_total" by "outcome";`
            let words: Vec<_> = line.split_whitespace().collect();
            let [kind @ ("Counter" | "Gauge" | "Histogram"), _, "=", ..] = words[..] else {
                continue;
            };
            let mut quoted = line.split('"').skip(1).step_by(2).map(str::to_owned);
            let name = quoted.next().context("a metric without a name")?;
            rows.insert(name, Row { kind: kind.to_lowercase(), labels: quoted.collect() });
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_table_of_metrics_is_what_the_services_declare() {
        let mut documented = documented().unwrap();
        let declared = declared().unwrap();
        documented.retain(|name, _| !name.starts_with(OF_LIBRARY) || declared.contains_key(name));
        assert_eq!(documented, declared);
        assert!(declared.len() > 60, "only {} were found", declared.len());
    }

    #[test]
    fn metrics_are_named_by_their_declarations_alone() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let found = Command::new("grep")
            .args(["-rnE", "(counter|gauge|histogram)!\\(\"", "--include=*.rs"])
            .args(["common", "gateway", "worker", "alerter"])
            .current_dir(root)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "names that no declaration knows");
    }
}
