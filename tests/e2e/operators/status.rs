//! `worker status`: tells whether all is well, and what is not.

use anyhow::{Context, Result, ensure};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use serde_json::Value;

use crate::support::{SOON, evaluated, finish, json_of, letters, pipeline, send, settled};

fn address(service: &Service) -> String {
    service.admin("").trim_start_matches("http://").to_owned()
}

/// Ensures that a finding names all of this.
fn ensure_finds(report: &Value, parts: &[&str]) -> Result<()> {
    let findings = report["findings"].as_array().into_iter().flatten();
    let mut texts = findings.filter_map(Value::as_str);
    ensure!(texts.any(|text| parts.iter().all(|part| text.contains(part))), "{report:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_whether_all_is_well_and_names_what_is_not() -> Result<()> {
    let (world, gateway, worker) = pipeline("status").await?;
    let wechat = FakeWechat::start().await?;
    let alerter = world.alerter(&wechat).start().await?;
    for number in 1..=6 {
        send(&gateway, &world.device(number), "2025-09-02 16:09", &[80, 81]).await?;
    }
    settled(&world).await?;
    evaluated(&world).await?;
    let replicas = [&gateway, &worker, &alerter].map(address).join(",");
    let report = eventually(SOON, "all is well", || async {
        let (code, report) = json_of(&world, "status", &["--admin", &replicas]).await?;
        ensure!(code == Some(0) && report["well"] == true, "{code:?}: {report:#}");
        Ok(Some(report))
    })
    .await?;
    for group in [0_usize, 1] {
        let group = &report["groups"][group];
        let partitions = group["partitions"]["known"].as_array().context("partitions")?;
        ensure!(partitions.len() == world.partitions(), "{group:#}");
        ensure!(partitions.iter().all(|one| one["owner"].is_string()), "{group:#}");
        ensure!(group["members"]["known"].as_array().is_some_and(|all| all.len() == 1));
    }
    for (replica, service) in ["gateway", "worker", "alerter"].into_iter().enumerate() {
        let answer = &report["replicas"][replica]["answer"]["known"];
        ensure!(answer["service"] == service, "{report:#}");
        ensure!(answer["version"].as_str().is_some_and(|version| version.starts_with("0.")));
    }

    // Dead letters are counted, and are no reason: they stay until they are purged.
    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL").await?;
    send(&gateway, &world.device(1), "2025-09-02 17:00", &[200]).await?;
    settled(&world).await?;
    ensure!(letters(&world).await?.len() == 1, "one dead letter");
    let (code, report) = json_of(&world, "status", &[]).await?;
    ensure!(report["groups"][0]["dead_letters"]["known"]["classes"]["data"] == 1, "{report:#}");
    ensure!(code == Some(0) && report["replicas"].as_array().is_some_and(Vec::is_empty));

    let away = ["--mysql-url", "mysql://u:p@127.0.0.1:1/d", "--timeout", "8s"];
    let (code, report) = json_of(&world, "status", &away).await?;
    ensure!(code == Some(3) && report["well"].is_null(), "{code:?}: {report:#}");

    let pause = world.launch("worker", &["pause", "--reason", "a test"]).finish().await?;
    ensure!(pause.code == Some(0), "{}", pause.text);
    let gone = address(&worker);
    ensure!(worker.terminate().await?.success(), "the worker failed");
    let (code, report) = json_of(&world, "status", &["--admin", &gone]).await?;
    ensure!(code == Some(1) && report["well"] == false, "{code:?}: {report:#}");
    ensure_finds(&report, &["paused by command: a test"])?;
    ensure_finds(&report, &["has no members"])?;
    ensure_finds(&report, &["does not answer", &gone])?;
    let text = world.launch("worker", &["status"]).finish().await?.text;
    ensure!(text.contains("NOT WELL") && text.contains("not well"), "{text}");
    finish(world, [gateway, alerter]).await
}
