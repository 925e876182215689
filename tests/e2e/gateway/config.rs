//! Settings: a start lists all wrong settings at once, and `--help` names every setting.

use anyhow::{Result, ensure};
use ljwx_tests::stack::launch::Launch;

/// The services and the arguments that start them.
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
async fn limits_of_time_that_would_be_none_are_refused_by_name() -> Result<()> {
    let of_databases = &["--mysql-acquire-timeout", "--redis-timeout"][..];
    let limits = [&["--message-timeout"][..], of_databases, of_databases];
    for ((program, arguments), limits) in SERVICES.into_iter().zip(limits) {
        let refused = Launch::bare(program, arguments)?
            .env("KAFKA_BROKERS", "127.0.0.1:9")
            .env("MYSQL_URL", "mysql://root@127.0.0.1:9/none")
            .env("REDIS_URL", "redis://127.0.0.1:9")
            .env("LINGER", "0s")
            .env("MESSAGE_TIMEOUT", "0s")
            .env("MYSQL_ACQUIRE_TIMEOUT", "0s")
            .env("REDIS_TIMEOUT", "0s")
            .finish()
            .await?;
        ensure!(refused.code == Some(2), "{program}: {:?}: {}", refused.code, refused.text);
        for limit in limits {
            let named = refused.text.contains(&format!("{limit} must be"));
            ensure!(named, "{program} says nothing of {limit}: {}", refused.text);
        }
    }
    Ok(())
}

#[tokio::test]
async fn help_names_every_shared_variable() -> Result<()> {
    let common = [
        "KAFKA_BROKERS",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "ADMIN_LISTEN",
        "ADMIN_TOKEN",
        "TIME_ZONE",
        "READINGS_TOPIC",
        "REJECTS_TOPIC",
        "REQUIRE_SAFE_TOPICS",
        "DEVELOPMENT",
        "TRACE_SAMPLE_RATIO",
        "LOG_FORMAT",
    ];
    let own: [&[&str]; 3] = [
        &["LISTEN"],
        &["MYSQL_URL", "MAINTENANCE_MYSQL_URL", "REDIS_URL", "WORKER_GROUP"],
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

/// A file that belongs to one test and is deleted when dropped.
struct SecretFile(std::path::PathBuf);

impl SecretFile {
    fn new(text: &str) -> Result<Self> {
        let name = format!("secret-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text)?;
        Ok(Self(path))
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[tokio::test]
async fn secrets_come_from_files_and_are_shown_nowhere() -> Result<()> {
    let set = SecretFile::new("security.protocol=SASL_SSL\nsasl.password=hush me\n")?;
    let url = SecretFile::new("mysql://root:hush@127.0.0.1:9/none\n")?;
    let bare = |arguments: &[&str]| {
        let launch = Launch::bare("worker", arguments)?;
        let launch = launch.env("KAFKA_BROKERS", "127.0.0.1:9").env("MYSQL_URL", "");
        anyhow::Ok(launch.env("REDIS_URL", "redis://127.0.0.1:9"))
    };
    // One setting is wrong, so that the program ends: the settings in the files are right.
    let read = bare(&["run"])?
        .env("MYSQL_URL_FILE", url.path())
        .env("KAFKA_SET_FILE", set.path())
        .env("REDIS_URL", "redis-cluster://127.0.0.1:9")
        .finish()
        .await?;
    ensure!(read.code == Some(2) && read.text.contains("1 problem(s)"), "{}", read.text);
    ensure!(read.text.contains("Redis Cluster"), "{}", read.text);

    let refused = bare(&["run"])?
        .env("MYSQL_URL", "mysql://root:hush@127.0.0.1:9/none")
        .env("MYSQL_URL_FILE", url.path())
        .env("KAFKA_SET_FILE", "/no/such/file")
        .finish()
        .await?;
    ensure!(refused.code == Some(2) && refused.text.contains("2 problem(s)"), "{}", refused.text);
    for named in ["MYSQL_URL_FILE and MYSQL_URL", "KAFKA_SET_FILE: /no/such/file"] {
        ensure!(refused.text.contains(named), "nothing of {named}: {}", refused.text);
    }
    let help = bare(&["run", "--help"])?
        .env("KAFKA_SET", "sasl.password=hush")
        .env("MYSQL_URL_FILE", url.path())
        .finish()
        .await?;
    ensure!(help.code == Some(0) && help.text.contains("KAFKA_SET_FILE"), "{}", help.text);
    // Two settings in one line, as an older form allowed, and a line that is no setting.
    let old = bare(&["run"])?
        .env("MYSQL_URL_FILE", url.path())
        .env("KAFKA_SET", "security.protocol=SASL_SSL sasl.password=hush")
        .finish()
        .await?;
    ensure!(old.code == Some(2) && old.text.contains("one key=value a line"), "{}", old.text);
    let none = bare(&["run"])?
        .env("MYSQL_URL_FILE", url.path())
        .env("KAFKA_SET", "client.rack=a\nhush")
        .finish()
        .await?;
    ensure!(none.code == Some(2) && none.text.contains("write key=value"), "{}", none.text);
    for text in [read.text, refused.text, help.text, old.text, none.text] {
        ensure!(!text.contains("hush"), "a secret is shown: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_link_that_cannot_be_as_it_is_set_is_refused_by_name() -> Result<()> {
    let refused = Launch::bare("worker", &["run"])?
        .env("KAFKA_BROKERS", "127.0.0.1:9")
        .env("KAFKA_SET", "ssl.ca.location=/no/kafka.pem")
        .env("MYSQL_URL", "mysql://u:hush@127.0.0.1:9/none?ssl-mode=REQUIRED&ssl-ca=/no/mysql.pem")
        .env("REDIS_URL", "redis-cluster://u:hush@127.0.0.1:9")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:9")
        .env("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/otlp.pem")
        .finish()
        .await?;
    ensure!(refused.code == Some(2), "{}", refused.text);
    for named in
        ["/no/kafka.pem", "/no/mysql.pem", "Redis Cluster is not supported", "/no/otlp.pem"]
    {
        ensure!(refused.text.contains(named), "nothing of {named}: {}", refused.text);
    }
    ensure!(!refused.text.contains("hush"), "a secret is shown: {}", refused.text);
    Ok(())
}
