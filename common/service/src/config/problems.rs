//! Collects the problems of a configuration. The `validate` functions of the settings find them.

/// Longest name of a consumer group, as in the ledger's column.
const GROUP_BYTES_MAX: usize = 64;

/// The former variable for the groups of both workers and alerters. A shared environment put both
/// into one group, where each kind skipped readings that only the other had processed.
const FORMER_GROUP: &str = "CONSUMER_GROUP";

/// The problems of a configuration. Each entry names the setting and the remedy.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(pub(super) Vec<String>);

impl Problems {
    /// Adds a problem.
    pub fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Adds a problem if `holds` is false.
    pub fn require(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.0.push(problem());
        }
    }

    /// Adds the problems of a consumer group that `variable` names. Adds the problem of the former
    /// variable only once.
    pub fn check_group(&mut self, group: &str, variable: &str) {
        self.require(!group.trim().is_empty() && group.len() <= GROUP_BYTES_MAX, || {
            format!("--group must have 1 to {GROUP_BYTES_MAX} characters")
        });
        let former = format!(
            "{FORMER_GROUP} is set: one name for workers and alerters loses readings, so set {variable} \
             in its place"
        );
        if std::env::var_os(FORMER_GROUP).is_some() && !self.0.contains(&former) {
            self.add(former);
        }
    }

    /// Returns the problems so far.
    pub fn list(&self) -> &[String] {
        &self.0
    }
}

/// A configuration that can check more than single values.
pub trait Validate {
    /// Adds a problem for every combination that is unsafe or cannot work.
    fn validate(&self, problems: &mut Problems);
}
