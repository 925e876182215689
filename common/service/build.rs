//! Puts a commit behind the version of all programs. The build sets it as `GIT_COMMIT`: asking git
//! here would compile everything anew after each commit.

use std::env;

/// Digits of a commit that are shown.
const COMMIT_DIGITS: usize = 12;

fn main() {
    println!("cargo:rerun-if-env-changed=GIT_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let commit = env::var("GIT_COMMIT").unwrap_or_default();
    let commit: String = commit.trim().chars().take(COMMIT_DIGITS).collect();
    let shown = if commit.is_empty() { version } else { format!("{version} ({commit})") };
    println!("cargo:rustc-env=LJWX_VERSION={shown}");
}
