//! Dependencies: their licences against the list in `deny.toml`, and what a package must not link.

use std::collections::{BTreeMap, BTreeSet};
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

fn metadata() -> Value {
    let output = Command::new(env!("CARGO")).args(["metadata", "--format-version", "1"]).output();
    serde_json::from_slice(&output.unwrap().stdout).unwrap()
}

/// The names of all packages that `package` links, itself included.
fn linked(metadata: &Value, package: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeMap<&str, &str> = packages
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let node = |id: &str| nodes.iter().find(|node| node["id"] == id).unwrap();
    let is_normal = |dependency: &&Value| {
        let kinds = dependency["dep_kinds"].as_array().unwrap();
        kinds.iter().any(|kind| kind["kind"].is_null())
    };
    let (start, _) = names.iter().find(|(_, name)| **name == package).expect(package);
    let (mut open, mut found) = (vec![*start], BTreeSet::new());
    while let Some(id) = open.pop() {
        if found.insert(names[id].to_owned()) {
            let dependencies = node(id)["deps"].as_array().unwrap().iter().filter(is_normal);
            open.extend(dependencies.map(|dependency| dependency["pkg"].as_str().unwrap()));
        }
    }
    found
}

#[test]
fn the_gateway_links_neither_mysql_nor_redis_and_the_reading_no_runtime() {
    let metadata = metadata();
    for (package, linked_all, never) in [
        ("ljwx-gateway", vec!["rdkafka", "axum"], vec!["sqlx", "sqlx-mysql", "fred"]),
        ("ljwx-service", vec!["rdkafka"], vec!["sqlx", "sqlx-mysql", "fred", "ljwx-reading"]),
        ("ljwx-reading", vec!["serde_json"], vec!["tokio", "rdkafka", "sqlx", "fred", "axum"]),
    ] {
        let linked = linked(&metadata, package);
        for name in linked_all {
            assert!(linked.contains(name), "{package} links {name}");
        }
        for name in never {
            assert!(!linked.contains(name), "{package} links {name}");
        }
    }
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let metadata = metadata();
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
