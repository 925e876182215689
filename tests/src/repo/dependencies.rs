//! Licences of all dependencies against the list in `deny.toml`.

use std::process::Command;

use serde_json::Value;

const DENY: &str = include_str!("../../../deny.toml");

fn allowed() -> Vec<&'static str> {
    let list = DENY.split("allow = [").nth(1).unwrap().split(']').next().unwrap();
    list.split('"').skip(1).step_by(2).collect()
}

/// Whether an SPDX expression can be met by what is allowed. `WITH` only adds permissions.
fn met(expression: &str, allowed: &[&str]) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" AND ").all(|part| {
        part.split(" OR ").any(|licence| {
            let name = licence.split(" WITH ").next().unwrap_or_default().trim();
            allowed.contains(&name)
        })
    })
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let output = Command::new(env!("CARGO")).args(["metadata", "--format-version", "1"]).output();
    let metadata: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let allowed = allowed();
    assert!(allowed.len() > 5, "deny.toml lists what is allowed");
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "cargo metadata lists the dependencies");
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !met(package["license"].as_str().unwrap_or_default(), &allowed))
        .map(|package| format!("{} {}", package["name"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "not in deny.toml: {refused:#?}");
}

#[test]
fn an_expression_is_met_by_one_side_of_or_and_both_of_and() {
    let allowed = ["MIT", "Apache-2.0"];
    for (expression, expected) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0 OR MIT", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("(MIT OR GPL-2.0) AND GPL-3.0", false),
        ("", false),
    ] {
        assert_eq!(met(expression, &allowed), expected, "{expression}");
    }
}
