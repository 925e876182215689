//! The services export exactly the metrics that `docs/metrics.md` lists.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::repo::metrics_page::{self, Row};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;

use super::watched::{DEVICES, SOON, Watched, send};

/// Metrics that only a fault brings about. Each is caused by another test.
const OF_FAULTS: [&str; 7] = [
    "alerter_notifications_postponed_total",
    "alerter_refused_rows_total",
    "consumer_commit_errors_total",
    "consumer_errors_total",
    "dead_letter_producer_restarts_total",
    "gateway_producer_restarts_total",
    "gateway_retry_after_seconds",
];

#[tokio::test(flavor = "multi_thread")]
async fn services_answer_the_documented_metrics_and_no_others() -> Result<()> {
    let watched = Watched::start("opmetrics", |launch| launch).await?;
    let load = watched.load();
    watched.measure(DEVICES + 1, &[130, 131, 132]).await?;
    // A reading with a dropped value, and a rejected item.
    let url = watched.gateway.url("/upload_health_data");
    send(&url, &watched.world.device(DEVICES + 2), 4000).await?;
    send(&url, "", 70).await?;
    let documented = metrics_page::documented()?;
    let services = [&watched.gateway, &watched.worker, &watched.alerter];
    eventually(SOON, "every documented metric is there", || {
        let documented = &documented;
        async move {
            let mut seen = BTreeSet::new();
            for service in services {
                seen.extend(compared(service, documented).await?);
            }
            let missing = documented
                .keys()
                .filter(|name| !seen.contains(*name) && !OF_FAULTS.contains(&name.as_str()));
            let missing: Vec<_> = missing.collect();
            ensure!(missing.is_empty(), "nobody answers {missing:?}");
            Ok(Some(()))
        }
    })
    .await?;
    drop(load);
    watched.end().await
}

/// Returns the names of the metrics that a service exports. Errors if a metric is not as
/// documented.
async fn compared(service: &Service, documented: &BTreeMap<String, Row>) -> Result<Vec<String>> {
    let page = http::get(&service.admin("/metrics")).await?.text;
    let mut names = Vec::new();
    for line in page.lines() {
        let Some(rest) = line.strip_prefix("# TYPE ") else { continue };
        let (name, kind) = rest.split_once(' ').context("a type without a name")?;
        let row = documented.get(name);
        let row = row.with_context(|| format!("{}: {name} is not documented", service.name()))?;
        ensure!(row.kind == kind, "{name} is a {kind}, documented as {}", row.kind);
        ensure!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
        names.push(name.to_owned());
    }
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels)) = line.split_once('{') else { continue };
        let name = base(name);
        let labels = labels.rsplit_once('}').map_or("", |(labels, _)| labels);
        // Label values may hold anything but quotes.
        let keys = labels.split('"').step_by(2).map(|key| key.trim_matches([',', '=']));
        let keys: BTreeSet<_> = keys.filter(|key| !key.is_empty() && *key != "le").collect();
        let row = documented.get(name).with_context(|| format!("{name} is not documented"))?;
        let expected = row.labels.iter().map(String::as_str).collect::<BTreeSet<_>>();
        ensure!(keys == expected, "labels of {name}: {keys:?}, documented {expected:?}");
    }
    Ok(names)
}

/// Returns the name of a histogram from the name of one of its series.
fn base(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}
