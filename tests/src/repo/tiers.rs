//! Compares the names in `tests/tiers.mk` with the end-to-end tests. A name without a test would
//! silently leave its tier.

use std::path::Path;

const TIERS: &str = include_str!("../../tiers.mk");

/// Returns the names of all lists.
fn names() -> Vec<&'static str> {
    let lines = TIERS.lines().filter(|line| !line.starts_with('#') && !line.contains(":="));
    lines.map(|line| line.trim_end_matches('\\').trim()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_name_of_the_tiers_is_an_end_to_end_test_or_a_module_of_them() {
    let names = names();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let (module, test) = name.rsplit_once("::").expect(name);
        let module = module.replace("::", "/");
        let file = format!("{}/e2e/{module}.rs", env!("CARGO_MANIFEST_DIR"));
        let source = std::fs::read_to_string(Path::new(&file)).expect(&file);
        let there = test.is_empty() || source.contains(&format!(" fn {test}()"));
        assert!(there, "{name} stands in tests/tiers.mk alone");
    }
}
