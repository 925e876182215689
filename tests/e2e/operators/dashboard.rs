//! The dashboards show data: every query returns some while the pipeline works.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::prometheus::{Prometheus, deploy_folder};
use ljwx_tests::stack::wait::eventually;
use serde_json::Value;

use super::watched::{DEVICES, SOON, Watched};

/// Values of Grafana's own variables, for scrapes every second.
const VARIABLES: [(&str, &str); 4] = [
    ("$__rate_interval", "15s"),
    ("$__interval", "5s"),
    ("$__range", "60s"),
    ("${datasource}", "prometheus"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboards_returns_data() -> Result<()> {
    let watched = Watched::start("opboard", |launch| launch).await?;
    let load = watched.load();
    watched.measure(DEVICES + 1, &[130, 131, 132]).await?;
    let queries = queries()?;
    ensure!(queries.len() > 40, "only {} queries were found", queries.len());
    let mut left: BTreeMap<String, String> = queries;
    let found = eventually(SOON, "data for every query", || {
        let (asked, prometheus) = (left.clone(), &watched.prometheus);
        async move { Ok(Some(without_data(prometheus, asked).await?)) }
    });
    left = found.await?;
    // Some panels need a second sample, or the first notification.
    let last = eventually(SOON, "data for every query", || {
        let (asked, prometheus) = (left.clone(), &watched.prometheus);
        async move {
            let silent = without_data(prometheus, asked).await?;
            ensure!(silent.is_empty(), "no data: {silent:#?}");
            Ok(Some(()))
        }
    });
    last.await?;
    drop(load);
    watched.end().await
}

/// Returns those of these queries that have no data, by their panels.
async fn without_data(
    prometheus: &Prometheus,
    queries: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let mut silent = BTreeMap::new();
    for (panel, query) in queries {
        let samples = prometheus.query(&query).await.with_context(|| panel.clone())?;
        if !samples.iter().any(|sample| !sample.value.is_nan()) {
            silent.insert(panel, query);
        }
    }
    Ok(silent)
}

/// Returns the queries of all dashboards: panel, number, query.
fn queries() -> Result<BTreeMap<String, String>> {
    let mut queries = BTreeMap::new();
    for file in std::fs::read_dir(deploy_folder().join("grafana/dashboards"))? {
        let dashboard: Value = serde_json::from_slice(&std::fs::read(file?.path())?)?;
        let mut panels: Vec<&Value> = array(&dashboard["panels"]).collect();
        let inner: Vec<_> = panels.iter().flat_map(|panel| array(&panel["panels"])).collect();
        panels.extend(inner);
        for panel in panels {
            let title = panel["title"].as_str().unwrap_or_default();
            for (number, target) in array(&panel["targets"]).enumerate() {
                let query = target["expr"].as_str().context("a target without a query")?;
                let name = format!("{} {title} {number}", panel["id"]);
                queries.insert(name, filled(query)?);
            }
        }
    }
    Ok(queries)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn filled(query: &str) -> Result<String> {
    let fill = |query: String, (name, value): &(&str, &str)| query.replace(name, value);
    let filled = VARIABLES.iter().fold(query.to_owned(), fill);
    ensure!(!filled.contains('$'), "an unknown variable: {query}");
    Ok(filled)
}
