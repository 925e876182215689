//! Settings: wrong ones are refused all at once, and `--help` is enough to work from.

use anyhow::{Result, ensure};
use tests::launch::Launch;

/// The services as they are started.
const SERVICES: [(&str, &[&str]); 3] =
    [("gateway", &[]), ("worker", &["run"]), ("alerter", &["run"])];

#[tokio::test]
async fn wrong_settings_are_all_listed_at_once_with_exit_code_2() -> Result<()> {
    for (program, arguments) in SERVICES {
        let refused = Launch::bare(program, arguments)?
            .env("KAFKA_BROKERS", "127.0.0.1:9")
            .env("MYSQL_URL", "mysql://root@127.0.0.1:9/none")
            .env("REDIS_URL", "redis://127.0.0.1:9")
            .env("ADMIN_LISTEN", "nowhere")
            .env("TIME_ZONE", "Nowhere/Land")
            .env("TRACE_SAMPLE_RATIO", "much")
            .env("LOG_FORMAT", "loud")
            .finish()
            .await?;
        ensure!(
            refused.code == Some(2),
            "{program} ended with {:?}: {}",
            refused.code,
            refused.text
        );
        for setting in ["--admin-listen", "--time-zone", "--trace-sample-ratio", "--log-format"] {
            ensure!(
                refused.text.contains(setting),
                "{program} says nothing of {setting}: {}",
                refused.text
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn settings_that_would_lose_readings_are_refused_at_start() -> Result<()> {
    let refused = Launch::bare("gateway", &["--kafka-set", "acks=1"])?
        .env("KAFKA_BROKERS", "127.0.0.1:9")
        .env("ANSWER_TIMEOUT", "7s")
        .env("CONNECTIONS_MAX", "100000000")
        .env("MEMORY_LIMIT", "100000000")
        .env("MESSAGE_TIMEOUT", "6s")
        .env("BODY_BYTES_MAX", "99000000")
        .finish()
        .await?;
    ensure!(refused.code == Some(2), "ended with {:?}: {}", refused.code, refused.text);
    for setting in
        ["--answer-timeout", "acks", "--body-bytes-max", "--connections-max", "MiB of memory"]
    {
        ensure!(refused.text.contains(setting), "nothing of {setting}: {}", refused.text);
    }
    Ok(())
}

#[tokio::test]
async fn help_names_every_shared_variable() -> Result<()> {
    let common = [
        "KAFKA_BROKERS",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "ADMIN_LISTEN",
        "TIME_ZONE",
        "READINGS_TOPIC",
        "REJECTS_TOPIC",
        "TRACE_SAMPLE_RATIO",
        "LOG_FORMAT",
    ];
    let own: [&[&str]; 3] = [
        &["LISTEN"],
        &["MYSQL_URL", "REDIS_URL", "WORKER_GROUP"],
        &[
            "MYSQL_URL",
            "REDIS_URL",
            "ALERTER_GROUP",
            "WECHAT_API_URL",
            "WECHAT_APP_ID",
            "WECHAT_APP_SECRET",
            "RULES_FILE",
        ],
    ];
    for ((program, arguments), own) in SERVICES.into_iter().zip(own) {
        let help = Launch::bare(program, arguments)?.arg("--help").finish().await?;
        ensure!(help.code == Some(0), "{program} --help ended with {:?}", help.code);
        for variable in common.iter().chain(own) {
            ensure!(help.text.contains(variable), "{program} --help does not name {variable}");
        }
    }
    Ok(())
}
