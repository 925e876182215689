//! Installs the recorder of metrics and renders the metrics for `/metrics`.
//!
//! Leaves the declaration of metrics to the crates that set them.

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::process::ProcessMetrics;
use crate::metrics::{
    DECLARED, Metric, RECORDS_BUCKETS, SECONDS_BUCKETS, ZEROS, ZeroedCounter, describe,
    export_zeros,
};

/// The recorder of this process.
#[derive(Debug, Clone)]
pub struct MetricsHandle {
    prometheus: PrometheusHandle,
    process: ProcessMetrics,
}

impl MetricsHandle {
    /// Installs the recorder for these lists of metrics, the service's own list first.
    pub(super) fn install(
        lists: &[&[Metric]],
        zeros: &[ZeroedCounter],
        memory_limit: Option<u64>,
    ) -> anyhow::Result<Self> {
        let mut builder =
            PrometheusBuilder::new().set_buckets(&SECONDS_BUCKETS).context("histogram buckets")?;
        for metric in lists.iter().copied().flatten().filter(|metric| metric.counts_records()) {
            let name = Matcher::Full(metric.name.to_owned());
            builder =
                builder.set_buckets_for_metric(name, &RECORDS_BUCKETS).context(metric.name)?;
        }
        let prometheus = builder.install_recorder().context("metrics recorder")?;
        describe(DECLARED);
        lists.iter().for_each(|list| describe(list));
        // Only the service's own counters start at 0. A library's counter may follow a server's
        // count, and a 0 before that count would look like an increase.
        export_zeros(lists.first().copied().unwrap_or_default(), zeros);
        export_zeros(&[], ZEROS);
        Ok(Self { prometheus, process: ProcessMetrics::new(memory_limit) })
    }

    /// Renders the answer of `/metrics`.
    pub fn render(&self) -> String {
        self.process.collect();
        self.prometheus.render()
    }

    /// Aggregates the samples of histograms, which are kept until they are rendered or swept.
    pub fn sweep(&self) {
        self.prometheus.run_upkeep();
    }
}
