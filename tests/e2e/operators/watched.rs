//! The pipeline with a Prometheus that scrapes it, and a load on it. Faults belong to
//! [`super::scenarios`] and to the tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Result;
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::http;
use ljwx_tests::clients::prometheus::Prometheus;
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::launch::Launch;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{self, world};

/// The longest that a step without a time limit of its own may take.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// Devices of a load: enough to have some in every partition.
pub(super) const DEVICES: usize = 40;

/// The time between two readings of a load.
pub(super) const LOAD_INTERVAL: Duration = Duration::from_millis(30);

/// The pipeline and its Prometheus.
pub(super) struct Watched {
    pub(super) prometheus: Prometheus,
    pub(super) gateway: Service,
    pub(super) worker: Service,
    pub(super) alerter: Service,
    pub(super) wechat: FakeWechat,
    pub(super) world: World,
}

impl Watched {
    /// Starts one replica of each service in a new world. `adapt` may change how each service is
    /// started.
    pub(super) async fn start(name: &str, adapt: impl Fn(Launch) -> Launch) -> Result<Self> {
        let world = world(name).await?;
        Self::start_in(world, adapt).await
    }

    /// Starts the same in a world that has its tables and topics.
    pub(super) async fn start_in(world: World, adapt: impl Fn(Launch) -> Launch) -> Result<Self> {
        platform::seed(&world, &[HEART_RATE_HIGH]).await?;
        let wechat = FakeWechat::start().await?;
        let (gateway, worker, alerter) = tokio::try_join!(
            adapt(world.gateway()).start(),
            adapt(world.worker()).start(),
            adapt(world.alerter(&wechat)).start(),
        )?;
        let mut prometheus = Prometheus::start(&world.logs).await?;
        prometheus.add("gateway", &gateway)?;
        prometheus.add("worker", &worker)?;
        prometheus.add("alerter", &alerter)?;
        eventually(SOON, "Prometheus has looked at each", || async {
            let up = prometheus.query("count(up == 1)").await?;
            Ok(up.first().filter(|up| up.value >= 3.0).map(drop))
        })
        .await?;
        Ok(Self { prometheus, gateway, worker, alerter, wechat, world })
    }

    /// Sends readings of these heart rates, 15 s apart, the last one of now.
    pub(super) async fn measure(&self, device: usize, rates: &[i32]) -> Result<()> {
        let now = jiff::Timestamp::now().as_second();
        support::measure(&self.gateway, &self.world.device(device), now, rates).await
    }

    /// Makes the database reject heart rates above 127.
    pub(super) async fn narrow(&self) -> Result<()> {
        let narrow = "ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL";
        self.world.database.execute(narrow).await
    }

    /// Sends readings without a breach, without end.
    pub(super) fn load(&self) -> Load {
        Load::start(self.gateway.url("/upload_health_data"), self.world.serial_prefix())
    }

    pub(super) async fn end(self) -> Result<()> {
        drop(self.prometheus);
        support::finish(self.world, [self.gateway, self.worker, self.alerter]).await
    }
}

/// A load that runs until it is dropped.
pub(super) struct Load {
    sent: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Load {
    fn start(url: String, prefix: String) -> Self {
        let sent = Arc::new(AtomicI64::new(0));
        let count = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            for number in 0.. {
                let device = format!("{prefix}{:09}", number % DEVICES);
                // A device sends an unacknowledged reading again. This load sends the next reading
                // instead.
                if send(&url, &device, 70).await.is_ok_and(|status| status == 200) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                pass(LOAD_INTERVAL).await;
            }
        });
        Self { sent, task }
    }

    /// Returns the number of readings acknowledged so far.
    pub(super) fn acknowledged(&self) -> i64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends one reading of now and returns the answer's status.
pub(super) async fn send(url: &str, device: &str, heart_rate: i32) -> Result<u16> {
    let now = jiff::Timestamp::now();
    let data = json!({
        "deviceSn": device, "customerId": TENANT.to_string(),
        "timestamp": wall_time(now.as_second()), "heart_rate": heart_rate, "step": 10,
    });
    Ok(http::post(url, json!({ "data": data }).to_string()).await?.status)
}
