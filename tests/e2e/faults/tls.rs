//! TLS to every server, on a stack that belongs to the test. The whole pipeline runs. A worker logs
//! a wrong login or certificate, waits until it is fixed, and retries only with pauses.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::fakes::tcp_proxy::Proxy;
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::tls_stack::TlsStack;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use crate::support::{RECOVERED_WITHIN, ensure_holds, letters, send, settled};

/// Bounds on the attempts to connect to one server, of all connections of a worker together: in a
/// second, and at the start. Both are far above the number that the pauses between attempts allow.
const ATTEMPTS_A_SECOND: usize = 10;
const ATTEMPTS_AT_FIRST: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_runs_by_tls_and_heals_from_restarts_and_bad_certificates() -> Result<()> {
    let (servers, world) = World::on_tls_stack("tls").await?;
    world.migrate().await?;
    let url = format!("{}{}", world.database.create_user().await?, servers.client());
    let user = world.database.user();
    world.database.execute(&format!("ALTER USER {user} REQUIRE X509")).await?;
    wrong_passwords_are_said_and_not_stormed(&world, &servers, &url).await?;
    wrong_names_are_said(&world, &url).await?;

    let wechat = FakeWechat::start().await?;
    let worker = world.worker().env("MYSQL_URL", &url);
    let alerter = world.alerter(&wechat).env("MYSQL_URL", &url);
    let (gateway, worker, alerter) =
        tokio::try_join!(world.gateway().start(), worker.start(), alerter.start())?;
    for service in [&gateway, &worker, &alerter] {
        for name in ["connection_plaintext", "connection_unverified"] {
            let page = http::get(&service.admin("/metrics")).await?.text;
            ensure!(page.contains(name), "{}: no {name}", service.name());
            ensure!(service.metric(name, "").await? == 0.0, "{}: {name}", service.name());
        }
    }
    let sent = sent_during_restarts(&world, &servers, &gateway).await?;
    settled(&world).await?;
    certificates_that_expired_are_said(&world, &servers, [&gateway, &worker]).await?;
    eventually(RECOVERED_WITHIN, "everything sent is stored, shown and evaluated", || async {
        let stored = world.database.count("t_user_health_data").await?;
        let shown = world.cache.newest_time(&world.device(0)).await?.is_some();
        let behind = world.alerter_lag().await?;
        ensure!(stored == sent as i64 + 1 && shown && behind == 0, "{stored} of {sent}, {behind}");
        Ok(Some(()))
    })
    .await?;
    ensure!(letters(&world).await?.is_empty(), "a dead letter");
    ensure_holds(&world, &[]).await?;
    if let Some(jaeger) = &world.stack.jaeger_url {
        eventually(RECOVERED_WITHIN, "spans came by TLS", || async {
            Ok(http::get(&format!("{jaeger}/api/services"))
                .await?
                .text
                .contains("worker")
                .then_some(()))
        })
        .await?;
    }
    for service in [gateway, worker, alerter] {
        service.terminate().await?;
    }
    world.finish().await?;
    servers.stop().await
}

/// Sends readings one after the other while privileges are flushed and the database and Redis
/// restart. Returns the number of readings. Errors if a device gets an error.
async fn sent_during_restarts(
    world: &World,
    servers: &TlsStack,
    gateway: &Service,
) -> Result<usize> {
    let (done, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let sending = async {
        while !done.load(Ordering::Relaxed) {
            let number = sent.fetch_add(1, Ordering::Relaxed);
            let (hour, minute) = (number / 60 % 24, number % 60);
            let at = format!("2025-09-02 {hour:02}:{minute:02}");
            send(gateway, &world.device(number / 1440), &at, &[80]).await?;
        }
        anyhow::Ok(())
    };
    let restarting = async {
        more_is_stored(world).await?;
        world.database.execute("FLUSH PRIVILEGES").await?;
        servers.restart(&[servers.database()?, "redis"]).await?;
        more_is_stored(world).await?;
        done.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    tokio::try_join!(sending, restarting)?;
    Ok(sent.into_inner())
}

async fn more_is_stored(world: &World) -> Result<()> {
    let before = world.database.count("t_user_health_data").await?;
    eventually(RECOVERED_WITHIN, "more is stored", || async {
        Ok((world.database.count("t_user_health_data").await? > before).then_some(()))
    })
    .await
}

/// Ensures that a worker whose logins are all rejected names each server in its log and retries
/// with pauses.
async fn wrong_passwords_are_said_and_not_stormed(
    world: &World,
    servers: &TlsStack,
    url: &str,
) -> Result<()> {
    let redis = &world.stack.redis_url;
    let redis = redis.replacen("?", "/?", 1);
    let (mysql_proxy, redis_proxy) = (Proxy::start(url).await?, Proxy::start(&redis).await?);
    let wrong = |url: String| {
        let (before, after) = url.split_once('@').context("a password")?;
        let user = before.rsplit_once(':').context("a password")?.0;
        anyhow::Ok(format!("{user}:wrong@{after}"))
    };
    let begin = Instant::now();
    let worker = world
        .worker()
        .env("MYSQL_URL", wrong(mysql_proxy.url(url)?)?)
        .env("REDIS_URL", wrong(redis_proxy.url(&redis)?)?)
        .spawn()?;
    says(&worker, &["Access denied", "WRONGPASS"]).await?;
    eventually(RECOVERED_WITHIN, "it tries again", || async {
        Ok((mysql_proxy.accepted() > 3 && redis_proxy.accepted() > 3).then_some(()))
    })
    .await?;
    let most = ATTEMPTS_AT_FIRST + ATTEMPTS_A_SECOND * begin.elapsed().as_secs() as usize;
    for (server, proxy) in [("the database", &mysql_proxy), ("Redis", &redis_proxy)] {
        let attempts = proxy.accepted();
        ensure!(attempts <= most, "{attempts} attempts at {server}, {most} at the most");
    }
    ensure!(
        worker.output().matches("WRONGPASS").count() <= 2,
        "the reason is said again and again"
    );
    ensure!(http::get(&worker.admin("/livez")).await?.status == 200, "it stays alive");
    drop(worker);
    for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
        let set = servers.kafka_set(mechanism, "wrong");
        let gateway = world.gateway().env("KAFKA_SET", set).spawn()?;
        says(&gateway, &["Authentication failed"]).await?;
        let lines = gateway.output().matches("Authentication failed").count();
        ensure!(lines <= ATTEMPTS_AT_FIRST, "{lines} lines of one reason");
        drop(gateway);
        let set = servers.kafka_set(mechanism, "native-stack");
        world.gateway().env("KAFKA_SET", set).start().await?.terminate().await?;
    }
    Ok(())
}

/// Each server's certificate is for 127.0.0.1 and for no name.
async fn wrong_names_are_said(world: &World, url: &str) -> Result<()> {
    let named = |url: &str| url.replacen("127.0.0.1", "localhost", 1);
    let worker = world
        .worker()
        .env("MYSQL_URL", named(url))
        .env("REDIS_URL", named(&world.stack.redis_url))
        .spawn()?;
    says(&worker, &["not valid for", "cannot reach Redis"]).await?;
    let redis = worker.output();
    let redis =
        redis.lines().find(|line| line.contains("cannot reach Redis")).context("no line")?;
    ensure!(redis.contains("NotValidForName"), "{redis}");
    drop(worker);
    let brokers = world.stack.environment.iter().find(|(name, _)| name == "KAFKA_BROKERS");
    let brokers = named(&brokers.context("brokers")?.1);
    let gateway = world.gateway().env("KAFKA_BROKERS", brokers).spawn()?;
    says(&gateway, &["certificate verify failed"]).await?;
    drop(gateway);
    if let Some(endpoint) = &world.stack.otlp_endpoint {
        let gateway = world.gateway().env("OTEL_EXPORTER_OTLP_ENDPOINT", named(endpoint));
        let gateway = gateway.start().await?;
        http::post(&gateway.url("/upload_health_data"), "[]".to_owned()).await?;
        says(&gateway, &["cannot export spans"]).await?;
        gateway.terminate().await?;
    }
    Ok(())
}

/// Ensures that a worker uses no server with an expired certificate, and continues by itself once
/// the certificate is valid.
async fn certificates_that_expired_are_said(
    world: &World,
    servers: &TlsStack,
    [gateway, worker]: [&Service; 2],
) -> Result<()> {
    let both = [servers.database()?, "redis"];
    servers.authority.sign_server(true)?;
    servers.restart(&both).await?;
    send(gateway, &world.device(9), "2025-09-02 16:09", &[81]).await?;
    says(worker, &["xpired"]).await?;
    eventually(RECOVERED_WITHIN, "the reason is said of Redis as well", || async {
        let output = worker.output();
        let mut lines = output.lines().filter(|line| line.contains("cannot reach Redis"));
        Ok(lines.any(|line| line.contains("xpired")).then_some(()))
    })
    .await?;
    servers.authority.sign_server(false)?;
    servers.restart(&both).await?;
    settled(world).await
}

async fn says(service: &Service, texts: &[&str]) -> Result<()> {
    for text in texts {
        eventually(RECOVERED_WITHIN, &format!("{} says {text}", service.name()), || async {
            Ok(service.output().contains(text).then_some(()))
        })
        .await?;
    }
    Ok(())
}
