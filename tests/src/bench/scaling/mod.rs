//! Drills the scaling of workers by lag without a cluster: worker processes stand for pods, and the
//! policy of the `ScaledObject` in `deploy/k8s` decides how many there are.
//!
//! ```text
//! load ── sender ──► readings topic ──► workers ──► MySQL, Redis
//!                        │ offsets         ▲ started, ended
//!                        ▼                 │
//!                    lag_metric ──────► autoscaler ◄── policy ◄── scaled-object.yaml
//! ```

mod autoscaler;
mod costs;
mod drill;
mod lag_metric;
mod load;
mod offsets;
mod policy;
mod replicas;
mod report;
mod sender;
mod settings;
mod timeline;

pub(super) use drill::measure;
pub(super) use settings::Settings;
