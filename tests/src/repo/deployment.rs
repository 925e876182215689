//! Compares the files in `deploy/` with what they repeat: of each other, of the sources, of the release.

use std::fs;

use crate::stack::root;

/// The services, as manifests name them.
const SERVICES: [&str; 3] = ["gateway", "worker", "alerter"];

/// The units of the services.
const UNITS: [&str; 3] = ["ljwx-gateway", "ljwx-worker@", "ljwx-alerter"];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

fn manifest(service: &str) -> String {
    read(&format!("deploy/k8s/base/{service}.yaml"))
}

fn unit(name: &str) -> String {
    read(&format!("deploy/systemd/{name}.service"))
}

/// Returns the word that follows `name` in `text`.
fn word<'a>(text: &'a str, name: &str) -> &'a str {
    let rest = text.split_once(name).expect(name).1;
    rest.split([' ', ',', '"', '}', '\n']).next().unwrap_or_default()
}

/// Returns the number at the start of the word that follows `name` in `text`, and the rest of the word.
fn number<'a>(text: &'a str, name: &str) -> (u64, &'a str) {
    let word = word(text, name);
    let end = word.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(word.len());
    (word[..end].parse().expect(name), &word[end..])
}

fn seconds(text: &str, name: &str) -> u64 {
    number(text, name).0
}

#[test]
fn a_supervisor_waits_longer_than_a_service_may_take_to_stop() {
    for service in SERVICES {
        let text = manifest(service);
        let grace = seconds(&text, "terminationGracePeriodSeconds: ");
        assert!(grace > seconds(&text, "DRAIN_TIMEOUT, value: "), "{service}");
    }
    let compose = read("deploy/compose.yaml");
    assert!(seconds(&compose, "stop_grace_period: ") > seconds(&compose, "DRAIN_TIMEOUT: "));
    let lifecycle = read("common/service/src/lifecycle.rs");
    let default = seconds(&lifecycle, "env = \"DRAIN_TIMEOUT\", default_value = \"");
    assert!(!read("deploy/systemd/settings.env").contains("DRAIN_TIMEOUT="));
    for name in UNITS {
        let text = unit(name);
        assert!(!text.contains("DRAIN_TIMEOUT="), "{name}");
        assert!(seconds(&text, "TimeoutStopSec=") > default, "{name}");
    }
}

#[test]
fn a_unit_tells_its_process_the_memory_limit() {
    for name in UNITS {
        let text = unit(name);
        let factor = |rest| match rest {
            "M" => 1024 * 1024,
            "G" => 1024 * 1024 * 1024,
            other => panic!("{name}: {other}"),
        };
        let (limit, rest) = number(&text, "MemoryMax=");
        assert_eq!(seconds(&text, "MEMORY_LIMIT="), limit * factor(rest), "{name}");
    }
}

#[test]
fn the_manifests_run_this_release_as_the_user_of_its_image() {
    let overlay = read("deploy/k8s/overlays/production/kustomization.yaml");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(word(&overlay, "newTag: "), version);
    assert_eq!(word(&read("deploy/k8s/README.md"), "job/migrate-"), version);
    let image = read("deploy/Dockerfile");
    assert_eq!(word(&image, "--build-arg VERSION="), version);
    let user = word(&read("deploy/k8s/base/pod.yaml"), "runAsUser: ").to_owned();
    assert_eq!(word(&image, "USER "), format!("{user}:{user}"));
}

#[test]
fn the_image_is_built_by_the_compiler_of_the_tests() {
    let toolchain = read("rust-toolchain.toml");
    let version = word(&toolchain, "channel = \"");
    assert_eq!(word(&read("deploy/Dockerfile"), "ARG RUST_VERSION="), version);
    assert!(read("deploy/compose.yaml").contains(&format!("${{RUST_VERSION:-{version}}}")));
}
