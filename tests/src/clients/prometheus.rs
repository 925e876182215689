//! A Prometheus that belongs to a test. It scrapes its targets every second and evaluates the
//! operator alert rules, with all times shortened.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::clients::http;
use crate::stack::launch::free_address;
use crate::stack::wait::eventually;

/// The factor by which the rules' times are shortened: five minutes become ten seconds.
pub const HASTE: u64 = 30;

/// The longest that the server may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A value of a query, with its labels.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// A running server. It is killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    url: String,
    folder: PathBuf,
    targets: BTreeMap<String, BTreeSet<SocketAddr>>,
    _child: Child,
}

/// The folder of the operators' files.
pub fn deploy_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

impl Prometheus {
    /// Starts a server without targets, with its files in `folder`.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join("prometheus");
        std::fs::create_dir_all(folder.join("targets"))?;
        let rules = std::fs::read_to_string(deploy_folder().join("prometheus/rules.yml"))?;
        std::fs::write(folder.join("rules.yml"), hasten(&rules)?)?;
        std::fs::write(folder.join("prometheus.yml"), CONFIG)?;
        let address = free_address()?;
        let log = std::fs::File::create(folder.join("log"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "prometheus"])
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("prometheus could not be run: `deploy/stack install` installs it")?;
        let server = Self {
            url: format!("http://{address}"),
            folder,
            targets: BTreeMap::new(),
            _child: child,
        };
        eventually(READY_WITHIN, "Prometheus is ready", || async {
            let answer = http::get(&format!("{}/-/ready", server.url)).await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await?;
        Ok(server)
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Scrapes a service from now on.
    pub fn add(
        &mut self,
        job: &str,
        service: &crate::stack::process::Service,
    ) -> anyhow::Result<()> {
        self.targets.entry(job.to_owned()).or_default().insert(service.admin);
        self.write(job)
    }

    /// Stops scraping a service that was stopped on purpose.
    pub fn remove(
        &mut self,
        job: &str,
        service: &crate::stack::process::Service,
    ) -> anyhow::Result<()> {
        self.targets.entry(job.to_owned()).or_default().remove(&service.admin);
        self.write(job)
    }

    fn write(&self, job: &str) -> anyhow::Result<()> {
        let targets: Vec<_> = self.targets[job].iter().map(ToString::to_string).collect();
        let path = self.folder.join(format!("targets/{job}.json"));
        // Write another file and rename it, so that Prometheus never reads half of it.
        let half = path.with_extension("half");
        std::fs::write(&half, json!([{ "targets": targets }]).to_string())?;
        Ok(std::fs::rename(half, path)?)
    }

    /// Returns the present result of a query.
    pub async fn query(&self, query: &str) -> anyhow::Result<Vec<Sample>> {
        let url = format!("{}/api/v1/query", self.url);
        let url = reqwest::Url::parse_with_params(&url, [("query", query)])?;
        let answer = http::get(url.as_str()).await?;
        ensure!(answer.json["status"] == "success", "{query}: {}", answer.text);
        let result = &answer.json["data"]["result"];
        let samples = result.as_array().into_iter().flatten();
        if answer.json["data"]["resultType"] == "scalar" {
            let value = number(&result[1]).context("no number")?;
            return Ok(vec![Sample { labels: BTreeMap::new(), value }]);
        }
        samples
            .map(|sample| {
                let labels = sample["metric"].as_object().into_iter().flatten();
                let labels = labels.map(|(name, value)| {
                    (name.clone(), value.as_str().unwrap_or_default().to_owned())
                });
                let value = number(&sample["value"][1]).context("no number")?;
                Ok(Sample { labels: labels.collect(), value })
            })
            .collect()
    }

    /// Returns the names of the alerts that fire now.
    pub async fn firing(&self) -> anyhow::Result<BTreeSet<String>> {
        let answer = http::get(&format!("{}/api/v1/alerts", self.url)).await?;
        let alerts = answer.json["data"]["alerts"].as_array().context("no list of alerts")?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        Ok(firing
            .filter_map(|alert| alert["labels"]["alertname"].as_str())
            .map(str::to_owned)
            .collect())
    }

    /// Waits until each of these alerts has fired, not necessarily at the same time.
    pub async fn fire(&self, names: &[&str], within: Duration) -> anyhow::Result<()> {
        self.each(names, within, "fires", true).await
    }

    /// Waits until none of these alerts fires.
    pub async fn clear(&self, names: &[&str], within: Duration) -> anyhow::Result<()> {
        self.each(names, within, "clears", false).await
    }

    async fn each(
        &self,
        names: &[&str],
        within: Duration,
        what: &str,
        wanted: bool,
    ) -> anyhow::Result<()> {
        let mut left: BTreeSet<&str> = names.iter().copied().collect();
        let deadline = tokio::time::Instant::now() + within;
        while !left.is_empty() {
            let firing = self.firing().await?;
            left.retain(|name| firing.contains(*name) != wanted);
            ensure!(
                tokio::time::Instant::now() < deadline,
                "not within {within:?}: {what} {left:?}; firing are {firing:?}"
            );
            crate::stack::wait::pass(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok()
}

/// Returns the rules' names in their order.
pub fn rule_names() -> anyhow::Result<Vec<String>> {
    let rules = std::fs::read_to_string(deploy_folder().join("prometheus/rules.yml"))?;
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    Ok(names.map(str::to_owned).collect())
}

const CONFIG: &str = "\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: [rules.yml]
scrape_configs:
  - job_name: gateway
    file_sd_configs: [{ files: [targets/gateway.json], refresh_interval: 1s }]
  - job_name: worker
    file_sd_configs: [{ files: [targets/worker.json], refresh_interval: 1s }]
  - job_name: alerter
    file_sd_configs: [{ files: [targets/alerter.json], refresh_interval: 1s }]
";

/// Returns the rules with every `for:` and every range shortened.
fn hasten(rules: &str) -> anyhow::Result<String> {
    let mut hastened = String::with_capacity(rules.len());
    for line in rules.lines() {
        let line = match line.split_once("for: ") {
            Some((indent, time)) if indent.trim().is_empty() => {
                format!("{indent}for: {}", shorter(time.trim())?)
            }
            _ => hasten_ranges(line)?,
        };
        hastened.push_str(&line);
        hastened.push('\n');
    }
    Ok(hastened)
}

fn hasten_ranges(line: &str) -> anyhow::Result<String> {
    let mut parts = line.split('[');
    let mut hastened = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        hastened.push('[');
        match part.split_once(']') {
            Some((range, rest)) if range.starts_with(|first: char| first.is_ascii_digit()) => {
                hastened.push_str(&shorter(range)?);
                hastened.push(']');
                hastened.push_str(rest);
            }
            _ => hastened.push_str(part),
        }
    }
    Ok(hastened)
}

/// Returns the shortened length of a time such as `5m`, in milliseconds.
fn shorter(time: &str) -> anyhow::Result<String> {
    let unit = time.len() - 1;
    let (number, unit) = (time.get(..unit), time.get(unit..));
    let seconds = match unit {
        Some("s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        _ => anyhow::bail!("{time} is no plain time"),
    };
    let number: u64 = number.context("no number")?.parse().context(time.to_owned())?;
    Ok(format!("{}ms", number * seconds * 1000 / HASTE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_of_the_rules_is_shortened_and_nothing_else() {
        let rules =
            "      - alert: A\n        expr: rate(a{b=\"[x]\"}[5m]) > 300\n        for: 30s\n";
        let hastened = "      - alert: A\n        expr: rate(a{b=\"[x]\"}[10000ms]) > 300\n        for: 1000ms\n";
        assert_eq!(hasten(rules).unwrap(), hastened);
        assert!(hasten("for: soon\n").is_err());
    }

    #[test]
    fn the_operators_rules_can_be_shortened() {
        let rules = std::fs::read_to_string(deploy_folder().join("prometheus/rules.yml")).unwrap();
        assert!(hasten(&rules).unwrap().contains("for: 10000ms"));
        assert!(rule_names().unwrap().len() >= 20);
    }
}
