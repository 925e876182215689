//! Collects the problems of a configuration; the settings' own `validate` functions find them.

/// Longest name of a consumer group; as long as the ledger's column.
const GROUP_BYTES_MAX: usize = 64;

/// What named the group of workers and alerters alike. A shared environment then put both into one
/// group, where each kind passed what only the other had dealt with.
const FORMER_GROUP: &str = "CONSUMER_GROUP";

/// What is wrong with a configuration; each entry names the setting and the remedy.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(pub(super) Vec<String>);

impl Problems {
    /// Notes a problem.
    pub fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Notes a problem where `holds` is false.
    pub fn require(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.0.push(problem());
        }
    }

    /// Notes what is wrong with a consumer group, which `variable` sets; a problem that is known is not
    /// noted twice.
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

    /// The problems so far.
    pub fn list(&self) -> &[String] {
        &self.0
    }
}

/// A configuration that can say what is wrong with itself beyond single values.
pub trait Validate {
    /// Notes every combination that is unsafe or cannot work.
    fn validate(&self, problems: &mut Problems);
}
