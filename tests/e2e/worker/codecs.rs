//! Batches that other producers compressed with a codec.

use anyhow::{Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::kafka;
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::world::World;
use serde_json::json;

use crate::support::{delivered, finish, judged, settled};

/// Every codec that Kafka has.
const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_every_codec_are_stored_and_judged() -> Result<()> {
    let world = World::shared("codecs").await?;
    world.migrate().await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let wechat = FakeWechat::start().await?;
    let (alerter, worker) =
        tokio::try_join!(world.alerter(&wechat).start(), world.worker().start())?;
    let start = jiff::Timestamp::now().as_second() - 300;
    for (number, codec) in CODECS.into_iter().enumerate() {
        let device = world.device(number);
        let record = |step: i64| {
            let second = start + step * 15;
            let reading = json!({"device_sn": device, "customer_id": TENANT, "heart_rate": 140,
                "timestamp": wall_time(second), "epoch_ms": second * 1000,
                "received_at": second * 1000, "upload_method": "wifi"});
            (device.clone(), reading.to_string().into_bytes())
        };
        let records: Vec<_> = (0..10).map(record).collect();
        let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
        kafka::fill_compressed(brokers, topic, codec, &records).await?;
    }
    settled(&world).await?;
    delivered(&wechat, CODECS.len() as u64).await?;
    judged(&world).await?;
    let stored = world.database.count("t_user_health_data").await?;
    ensure!(stored == 10 * CODECS.len() as i64, "{stored} rows");
    let alerts = world.database.count("t_alert_info").await?;
    ensure!(alerts == CODECS.len() as i64, "{alerts} alerts");
    finish(world, [alerter, worker]).await
}
