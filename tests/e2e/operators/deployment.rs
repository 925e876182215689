//! The files in `deploy/` name settings that exist. A program does not see a misspelled variable, so the
//! default would silently stay.

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::prometheus::deploy_folder;
use ljwx_tests::stack::launch::Launch;

/// Each program with its command, and the files that start it.
const PROGRAMS: [(&str, &[&str], &[&str]); 4] = [
    ("gateway", &[], &["k8s/base/gateway.yaml", "systemd/ljwx-gateway.service"]),
    ("worker", &["run"], &["k8s/base/worker.yaml", "systemd/ljwx-worker@.service"]),
    ("worker", &["migrate"], &["k8s/base/migrate.yaml", "systemd/ljwx-migrate.service"]),
    (
        "alerter",
        &["run"],
        &[
            "k8s/base/alerter.yaml",
            "k8s/overlays/production/alerter.yaml",
            "systemd/ljwx-alerter.service",
        ],
    ),
];

/// Files whose settings are for all programs.
const SHARED: [&str; 3] =
    ["k8s/base/settings.env", "k8s/overlays/production/settings.env", "systemd/settings.env"];

/// Returns the variable that a line of a manifest, a unit or a file of settings sets.
fn variable(line: &str) -> Option<&str> {
    let line = line.trim();
    if let Some(entry) = line.strip_prefix("- {name: ") {
        return Some(entry.split_once(", value: ")?.0);
    }
    let (name, _) = line.strip_prefix("Environment=").unwrap_or(line).split_once('=')?;
    let is_name = |letter: char| letter.is_ascii_uppercase() || letter == '_';
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

fn variables(file: &str) -> Result<Vec<String>> {
    let path = deploy_folder().join(file);
    let text = std::fs::read_to_string(&path).with_context(|| file.to_owned())?;
    let names: Vec<String> = text.lines().filter_map(variable).map(str::to_owned).collect();
    ensure!(!names.is_empty(), "{file} sets nothing");
    Ok(names)
}

/// Whether a program's help, in one line, has a setting with this variable.
fn has(help: &str, name: &str) -> bool {
    let forms = [format!("[env: {name}="), format!("[env: {name}]"), format!("[file: {name}]")];
    forms.iter().any(|form| help.contains(form))
}

#[tokio::test]
async fn every_setting_that_a_deployment_file_names_exists() -> Result<()> {
    let mut helps = Vec::new();
    for (program, command, files) in PROGRAMS {
        let help = Launch::bare(program, command)?.arg("--help").finish().await?;
        ensure!(help.code == Some(0), "{program} --help ended with {:?}", help.code);
        let help = help.text.split_whitespace().collect::<Vec<_>>().join(" ");
        for file in files {
            for name in variables(file)? {
                ensure!(has(&help, &name), "{file}: {program} has no setting {name}");
            }
        }
        helps.push(help);
    }
    for file in SHARED {
        for name in variables(file)? {
            let known = helps.iter().any(|help| has(help, &name));
            ensure!(known, "{file}: no program has the setting {name}");
        }
    }
    Ok(())
}
