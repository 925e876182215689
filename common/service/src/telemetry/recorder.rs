//! Installs the recorder of metrics and renders them for `/metrics`.
//!
//! Leaves the declaration of metrics to the crates that set them.

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::process::Process;
use crate::metrics::{
    DECLARED, Metric, RECORDS_BUCKETS, SECONDS_BUCKETS, ZEROS, Zeros, describe, show_zeros,
};

/// The metrics of this process.
#[derive(Debug, Clone)]
pub struct Metrics {
    prometheus: PrometheusHandle,
    process: Process,
}

impl Metrics {
    /// Installs the recorder of this process for these lists of metrics, the service's own first.
    pub(super) fn install(
        lists: &[&[Metric]],
        zeros: &[Zeros],
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
        // Libraries' counters may follow a server's count, which a 0 before it would turn into an increase.
        show_zeros(lists.first().copied().unwrap_or_default(), zeros);
        show_zeros(&[], ZEROS);
        Ok(Self { prometheus, process: Process::new(memory_limit) })
    }

    /// What `/metrics` answers.
    pub fn render(&self) -> String {
        self.process.collect();
        self.prometheus.render()
    }

    /// Sums up the histograms' samples, which are kept until this or a look at them.
    pub fn sweep(&self) {
        self.prometheus.run_upkeep();
    }
}
