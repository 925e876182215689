//! Uploads breaches beside the fleet. Each is of a new device, which belongs to no patient, and
//! opens an alert that notifies. The time to the messages belongs to
//! [`crate::bench::alerter::messages`].

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::accounting::history::{Answered, History};
use crate::accounting::verdict::wall_time;
use crate::bench::alerter::messages::{self, NOTIFYING_HEART_RATE};
use crate::clients::http;
use crate::fakes::wechat::FakeWechat;
use crate::fleet::TENANT;
use crate::stack::process::Service;
use crate::stack::world::World;

/// Number of the first device. The probes have higher numbers.
const DEVICE: usize = 800_000_000;

/// Organisation of the devices. Their users have the numbers after it.
const ORG: i64 = TENANT + 1;

/// Time between two breaches.
const PERIOD: Duration = Duration::from_millis(100);

/// A device, the time of its reading in epoch seconds, when its upload began by the fake WeChat's
/// clock, and what the answer was.
type Upload = (String, i64, Duration, Answered);

/// The uploads, the last of which may be under way.
pub(super) struct Breaches(JoinSet<Upload>);

impl Breaches {
    /// Uploads a breach at every period of `time`.
    pub(super) async fn upload(
        world: &World,
        gateway: &Service,
        wechat: &FakeWechat,
        time: Duration,
    ) -> Self {
        let (mut tick, mut uploads) = (interval(PERIOD), JoinSet::new());
        for number in 0..(time.as_millis() / PERIOD.as_millis()) as usize {
            tick.tick().await;
            let (device, at) = (world.device(DEVICE + number), jiff::Timestamp::now().as_second());
            let tenant = messages::tenant(number);
            let data = json!({
                "deviceSn": device, "customerId": tenant.to_string(), "orgId": ORG.to_string(),
                "userId": (ORG + 1 + number as i64).to_string(),
                "heart_rate": NOTIFYING_HEART_RATE, "timestamp": wall_time(at),
            });
            let body = json!({ "data": data }).to_string();
            let (url, sent) = (gateway.url("/upload_health_data"), wechat.now());
            uploads.spawn(async move {
                let answer = http::post(&url, body).await;
                let acknowledged = answer.is_ok_and(|answer| answer.status == 200);
                (
                    device,
                    at,
                    sent,
                    if acknowledged { Answered::Acknowledged } else { Answered::Unknown },
                )
            });
        }
        tick.tick().await;
        Self(uploads)
    }

    /// Waits for the last answers and messages. Returns the seconds from each upload to its message
    /// at WeChat, in ascending order, and the answers.
    pub(super) async fn finish(
        self,
        world: &World,
        wechat: &FakeWechat,
    ) -> anyhow::Result<(Vec<f64>, History)> {
        let (mut sent, mut history) = (HashMap::new(), History::default());
        for (device, at, begun, answered) in self.0.join_all().await {
            history.note(&device, at, answered);
            if answered == Answered::Acknowledged {
                sent.insert(device, begun);
            }
        }
        Ok((messages::delays(world, wechat, &sent).await?, history))
    }
}
