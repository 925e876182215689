//! Adds the demo's services to the stack's Prometheus while they run.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;

use crate::stack::process::Service;

/// Files that name the targets. They are removed when dropped.
#[derive(Debug)]
pub(super) struct Targets(Vec<PathBuf>);

impl Targets {
    /// Writes one file per service to the folder that Prometheus reads.
    pub(super) fn write<'a>(
        folder: &Path,
        services: impl Iterator<Item = &'a Service>,
    ) -> anyhow::Result<Self> {
        let mut targets = Self(Vec::new());
        for (number, service) in services.enumerate() {
            let job = service.name().split('-').next().unwrap_or_default();
            let file = folder.join(format!("{job}-demo{number}.json"));
            let address = service.admin("").trim_start_matches("http://").to_owned();
            std::fs::write(&file, json!([{ "targets": [address] }]).to_string())
                .with_context(|| file.display().to_string())?;
            targets.0.push(file);
        }
        Ok(targets)
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        for file in &self.0 {
            // A file that is already gone needs no removal.
            let _ = std::fs::remove_file(file);
        }
    }
}
