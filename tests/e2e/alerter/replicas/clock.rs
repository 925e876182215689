//! The clock of an alerter jumps by an hour, and is set right later: what is owed and what waits is
//! notified once, and nobody is missed. The clock of a gateway is ahead: no alert is late for it.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::{Effect, Endpoint, FakeWechat, Fault};
use ljwx_tests::stack::moved_clock::MovedClock;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;

use crate::alerter::no_data::device_in;
use crate::support::{SOON, delivered, finish, measure, now, operators_get, report, rows};

/// The length of a jump, in seconds.
const HOUR: i64 = 3_600;

/// The age of a reading that is late, in seconds.
const LATE: i64 = 2_400;

/// The window of missing data. It is shorter than a jump, and longer than a test.
const WINDOW: Duration = Duration::from_secs(900);

/// A window of missing data that ends within a test.
const SHORT_WINDOW: Duration = Duration::from_secs(6);

/// How far the clock of a gateway is ahead, in seconds: longer than a test. Kafka allows an hour.
const GATEWAY_AHEAD: i64 = 600;

/// How far two times may differ that mean the same, in seconds.
const SAME: f64 = 600.0;

/// The pause between two readings of the device that is always heard.
const PAUSE: Duration = Duration::from_millis(300);

/// Three breaches, which open an episode.
const BREACH: [i32; 3] = [130, 131, 132];

/// Lets a device send readings without end.
async fn keep_sending(gateway: &Service, device: &str) -> Result<Infallible> {
    loop {
        report(gateway, device, now(), json!({ "heart_rate": 70 })).await?;
        pass(PAUSE).await;
    }
}

/// An alerter with a clock of its own.
struct Here {
    world: World,
    wechat: FakeWechat,
    clock: MovedClock,
    gateway: Service,
    alerter: Service,
    /// They are in one partition.
    devices: [String; 3],
}

impl Here {
    async fn start(name: &str) -> Result<Self> {
        let world = World::shared(name).await?.with_partitions(2);
        world.migrate().await?;
        platform::seed(&world, &[HEART_RATE_HIGH]).await?;
        platform::add_absence_rule(&world, WINDOW).await?;
        let wechat = FakeWechat::start().await?;
        let clock = MovedClock::create(&world.logs.join("clock")).await?;
        let alerter = clock.of(world.alerter(&wechat));
        let (gateway, alerter) = tokio::try_join!(world.gateway().start(), alerter.start())?;
        let device = |nth| device_in(&world, nth, 1, 2).map(|number| world.device(number));
        let devices = [device(0)?, device(1)?, device(2)?];
        Ok(Self { world, wechat, clock, gateway, alerter, devices })
    }

    /// Moves the alerter's clock, and waits until the alerter has checked the topic by the new time.
    async fn set_clock(&self, seconds: i64) -> Result<()> {
        self.clock.set(seconds)?;
        eventually(SOON, "a check by the new time", || async {
            let last = self.alerter.metric("alerter_last_record_timestamp_seconds", "").await?;
            let ahead = last - now() as f64;
            ensure!((ahead - seconds as f64).abs() < SAME, "ahead by {ahead} s");
            Ok(Some(()))
        })
        .await
    }

    /// Moves the clock while one notification is owed and another waits, opens an alert by the wrong
    /// clock, sets the clock right, and ends all alerts.
    async fn jump(&self, seconds: i64) -> Result<()> {
        let [owed, waiting, third] = &self.devices;
        let busy = self.wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(-1)));
        measure(&self.gateway, owed, now() - LATE, &BREACH).await?;
        measure(&self.gateway, waiting, now() - 60, &BREACH).await?;
        rows(&self.world, "t_alert_info", 2).await?;
        rows(&self.world, "t_alert_outbox", 1).await?;

        self.set_clock(seconds).await?;
        rows(&self.world, "t_alert_outbox", 2).await?;
        busy.end();
        let due = "UPDATE t_alert_outbox SET next_attempt_at = 0 WHERE state = 'pending'";
        self.world.database.execute(due).await?;
        delivered(&self.wechat, 2).await?;
        measure(&self.gateway, third, now() - 60, &BREACH).await?;
        rows(&self.world, "t_alert_info", 3).await?;

        self.set_clock(0).await?;
        delivered(&self.wechat, 3).await?;
        for device in &self.devices {
            measure(&self.gateway, device, now(), &[80]).await?;
        }
        delivered(&self.wechat, 6).await
    }

    /// Ensures that each device had one alert, of which both the beginning and the end were
    /// notified once, and ends the services.
    async fn end(self) -> Result<()> {
        let alerts = self.world.database.count("t_alert_info").await?;
        ensure!(alerts == 3, "{alerts} alerts of three devices");
        let messages = self.wechat.messages();
        for device in &self.devices {
            let texts = messages.iter().map(|message| message.text());
            let texts: Vec<_> = texts.filter(|text| text.contains(device)).collect();
            let ends: Vec<_> = texts.iter().map(|text| text.contains("已恢复")).collect();
            ensure!(ends == [false, true], "{texts:?}");
        }
        ensure!(messages.len() == 6, "{messages:#?}");
        finish(self.world, [self.gateway, self.alerter]).await
    }
}

async fn jump(name: &str, seconds: i64) -> Result<()> {
    let here = Here::start(name).await?;
    // It is heard in the other partition, so that wall time counts for missing data.
    let heard = here.world.device(device_in(&here.world, 0, 0, 2)?);
    tokio::select! {
        ended = keep_sending(&here.gateway, &heard) => match ended? {},
        done = here.jump(seconds) => done?,
    }
    here.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_an_hour_ahead_forgets_repeats_and_misses_nobody() -> Result<()> {
    jump("ahead", HOUR).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_an_hour_back_forgets_repeats_and_misses_nobody() -> Result<()> {
    jump("back", -HOUR).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_clock_is_ahead_delays_no_alert_about_a_missing_device() -> Result<()> {
    let world = World::shared("gatewayclock").await?.with_partitions(1);
    world.migrate().await?;
    platform::seed(&world, &[]).await?;
    platform::add_absence_rule(&world, SHORT_WINDOW).await?;
    let wechat = FakeWechat::start().await?;
    let clock = MovedClock::create(&world.logs.join("clock")).await?;
    clock.set(GATEWAY_AHEAD)?;
    let (gateway, ahead, alerter) = tokio::try_join!(
        world.gateway().start(),
        clock.of(world.gateway()).start(),
        world.alerter(&wechat).start()
    )?;
    let (silent, other) = (world.device(1), world.device(2));
    report(&gateway, &silent, now(), json!({ "heart_rate": 70 })).await?;
    report(&ahead, &other, now(), json!({ "heart_rate": 70 })).await?;
    operators_get(&alerter, "gateway_clock", SOON).await?;
    tokio::select! {
        ended = keep_sending(&gateway, &other) => match ended? {},
        missed = delivered(&wechat, 1) => missed?,
    }
    let text = wechat.messages()[0].text();
    ensure!(text.contains(&silent) && text.contains("设备失联"), "{text}");
    finish(world, [gateway, ahead, alerter]).await
}
