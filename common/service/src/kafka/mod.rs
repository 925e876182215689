//! Connecting to Kafka, and the topics this system lives on.
//!
//! The services check at start that what they rely on is so; only `worker migrate` creates topics.

pub mod publisher;
pub mod topic_identity;
pub mod topic_reader;

use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;
use secrecy::{ExposeSecret, SecretString};

use crate::config::Problems;
use crate::link::Link;

/// Settings of the connection to Kafka.
#[derive(Debug, Clone, clap::Args)]
pub struct KafkaArgs {
    /// Brokers to start from, as host:port,host:port.
    #[arg(long = "kafka-brokers", env = "KAFKA_BROKERS")]
    pub brokers: String,
    /// Topic of the readings.
    #[arg(long, env = "READINGS_TOPIC", default_value = "health.readings")]
    pub readings_topic: String,
    /// Topic of what devices sent and no reading could be made of.
    #[arg(long, env = "REJECTS_TOPIC", default_value = "health.readings.rejected")]
    pub rejects_topic: String,
    /// Any further setting of librdkafka (TLS, SASL, …), as key=value; may be given several times, and in
    /// the variable or its file one a line. Everything after the first = is the value.
    #[arg(long = "kafka-set", env = "KAFKA_SET", hide_env_values = true, value_parser = KafkaSettings::parse)]
    pub set: Vec<KafkaSettings>,
}

/// Settings of librdkafka; each value may be a secret.
#[derive(Debug, Clone)]
pub struct KafkaSettings(Vec<(String, SecretString)>);

impl KafkaSettings {
    /// Reads key=value of each line that is not blank.
    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let parsed = lines.map(|line| {
            let (key, value) = line.split_once('=')?;
            Some((key.trim().to_owned(), SecretString::from(value)))
        });
        parsed.collect::<Option<_>>().map(Self).ok_or_else(|| {
            "write key=value, one a line, such as security.protocol=SASL_SSL".to_owned()
        })
    }
}

/// Settings of librdkafka that this system's promises rest on, by all their names; they are not for
/// `--kafka-set`.
const FIXED: &[&str] = &[
    "acks",
    "auto.commit.enable",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "group.id",
    "group.protocol",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
];

/// The codecs that batches may be written with.
const CODECS: &str = "gzip,snappy,lz4,zstd";

/// How long one question to the brokers may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

impl KafkaArgs {
    /// Notes what is wrong with the settings.
    pub fn validate(&self, problems: &mut Problems) {
        problems.require(!self.brokers.trim().is_empty(), || {
            "--kafka-brokers must name at least one host:port".into()
        });
        for (key, value) in self.settings() {
            problems.require(!FIXED.contains(&key), || match key {
                "bootstrap.servers" | "metadata.broker.list" => {
                    format!("--kafka-set {key}: the brokers are those of --kafka-brokers")
                }
                _ => format!("--kafka-set {key} would lose readings: it is fixed by this service"),
            });
            // The library's own message would show the value.
            problems.require(ClientConfig::new().set(key, value).create_native_config().is_ok(), || {
                format!("--kafka-set {key}: librdkafka has no such setting, or not with this value; \
                         KAFKA_SET has one key=value a line")
            });
            if let (true, Err(error)) = (key.ends_with(".location"), std::fs::metadata(value)) {
                problems.add(format!("--kafka-set {key}: {value} cannot be read: {error}"));
            }
        }
        problems.require(self.readings_topic != self.rejects_topic, || {
            "--readings-topic and --rejects-topic must differ".into()
        });
    }

    /// The settings every client shares.
    pub fn client_config(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", client_id)
            // Other producers may write with any of them, and a batch that cannot be read would hold
            // its partition for ever: a build without one is refused when its first client is made.
            .set("builtin.features", CODECS)
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true");
        for (key, value) in self.settings() {
            config.set(key, value);
        }
        config
    }

    fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.set.iter().flat_map(|settings| &settings.0);
        all.map(|(key, value)| (key.as_str(), value.expose_secret()))
    }

    /// How the connections are secured.
    pub fn link(&self) -> Link {
        let set =
            |key| self.settings().filter(|(set, _)| *set == key).last().map(|(_, value)| value);
        let protocol = set("security.protocol").unwrap_or_default().to_ascii_uppercase();
        let host = |broker: &str| {
            let address = broker.trim().rsplit("://").next().unwrap_or_default();
            address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned()
        };
        // librdkafka reads them without regard to case.
        let is = |key, words: &[&str]| {
            let value = set(key).unwrap_or_default().trim();
            words.iter().any(|word| value.eq_ignore_ascii_case(word))
        };
        Link {
            dependency: "kafka",
            hosts: self.brokers.split(',').map(host).collect(),
            encrypted: protocol.ends_with("SSL"),
            verified: !is("enable.ssl.certificate.verification", &["false", "f", "0"])
                && !is("ssl.endpoint.identification.algorithm", &["none"]),
        }
    }

    /// The dead-letter topic of a consumer group.
    pub fn dead_letter_topic(&self, group: &str) -> String {
        format!("{}.{group}.dlq", self.readings_topic)
    }

    /// How many partitions a topic has; `None` where there is no such topic. Blocks.
    pub fn partitions(&self, topic: &str) -> anyhow::Result<Option<usize>> {
        Ok(self.look(topic)?.partitions)
    }

    /// Asks for one topic only: whoever may not see the others may see this one. Blocks.
    fn look(&self, topic: &str) -> anyhow::Result<TopicLook> {
        let client: BaseConsumer = self.client_config("ljwx-check").create()?;
        let metadata = client
            .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
            .with_context(|| format!("Kafka at {} does not answer", self.brokers))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map(|found| found.partitions().len()).filter(|count| *count > 0);
        Ok(TopicLook { brokers: metadata.brokers().len(), partitions })
    }

    /// The largest record that each of `topics` takes, in bytes.
    pub async fn record_bytes_max(
        &self,
        client_id: &str,
        topics: &[&str],
    ) -> anyhow::Result<Vec<usize>> {
        let admin: AdminClient<DefaultClientContext> = self.client_config(client_id).create()?;
        let resources: Vec<_> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        let described = admin.describe_configs(&resources, &options).await?;
        described
            .into_iter()
            .map(|resource| {
                let resource =
                    resource.map_err(|code| anyhow::anyhow!("cannot describe a topic: {code}"))?;
                let limit = resource.get("max.message.bytes");
                let limit = limit.and_then(|entry| entry.value.as_deref()?.parse().ok());
                Ok(limit.unwrap_or(0))
            })
            .collect()
    }
}

/// What one question for a topic tells.
struct TopicLook {
    /// Brokers of the cluster.
    brokers: usize,
    /// Partitions of the topic, where there is one.
    partitions: Option<usize>,
}

/// A topic as `worker migrate` creates it.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// How long records are kept.
    pub retention: Duration,
    /// Largest record, in bytes.
    pub message_bytes_max: usize,
}

/// Readings are kept 7 days: time to repair what consumes them.
pub const READINGS_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Rejects and dead letters are kept 90 days: a person has to look at them.
pub const LETTERS_RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);

/// Largest record: above the largest body that the gateway takes, which may become one reject.
pub const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Largest dead letter: a record as it came, which may be as large as one can be, and the headers
/// that say where it came from.
pub const LETTER_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 64 * 1024;

/// Creates the topics that are missing, replicated three times where there are three brokers;
/// returns the names of those it created.
///
/// Topics that are there are left to whoever made them, and no right to create any is needed for them.
pub async fn create_missing(kafka: &KafkaArgs, specs: &[TopicSpec]) -> anyhow::Result<Vec<String>> {
    let admin: AdminClient<DefaultClientContext> = kafka.client_config("ljwx-migrate").create()?;
    let mut created = Vec::new();
    for spec in specs {
        let (asked, name) = (kafka.clone(), spec.name.clone());
        let found = tokio::task::spawn_blocking(move || asked.look(&name)).await??;
        if found.partitions.is_some() {
            continue;
        }
        let replicated = found.brokers >= 3;
        let retention = spec.retention.as_millis().to_string();
        let bytes = spec.message_bytes_max.to_string();
        let topic = NewTopic::new(
            &spec.name,
            spec.partitions,
            TopicReplication::Fixed(if replicated { 3 } else { 1 }),
        )
        .set("retention.ms", &retention)
        .set("max.message.bytes", &bytes)
        .set("min.insync.replicas", if replicated { "2" } else { "1" });
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
        for result in admin.create_topics([&topic], &options).await? {
            match result {
                Ok(name) => created.push(name),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => anyhow::bail!("cannot create topic {name}: {code}"),
            }
        }
    }
    Ok(created)
}

/// Gives `topic` as many partitions as `count` where it has fewer; `true` where it had.
pub async fn extend(kafka: &KafkaArgs, topic: &str, count: usize) -> anyhow::Result<bool> {
    let (asked, name) = (kafka.clone(), topic.to_owned());
    let found = tokio::task::spawn_blocking(move || asked.partitions(&name)).await??;
    if found.is_none_or(|found| found >= count) {
        return Ok(false);
    }
    let admin: AdminClient<DefaultClientContext> = kafka.client_config("ljwx-migrate").create()?;
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    for result in admin.create_partitions([&NewPartitions::new(topic, count)], &options).await? {
        result.map_err(|(topic, code)| {
            anyhow::anyhow!("cannot give topic {topic} {count} partitions: {code}")
        })?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(set: &[&str]) -> KafkaArgs {
        KafkaArgs {
            brokers: "b1.example.com:9092, 127.0.0.1:9092".into(),
            readings_topic: "r".into(),
            rejects_topic: "j".into(),
            set: set.iter().map(|text| KafkaSettings::parse(text).unwrap()).collect(),
        }
    }

    #[test]
    fn a_value_may_hold_blanks_and_equals_signs_and_is_shown_nowhere() {
        let args = args(&["\nsasl.username=a b\n\nsasl.password= p=q r \r\n", "client.rack=z"]);
        let config = args.client_config("test");
        for (key, value) in
            [("sasl.username", "a b"), ("sasl.password", " p=q r "), ("client.rack", "z")]
        {
            assert_eq!(config.get(key), Some(value));
        }
        assert!(!format!("{args:?}").contains("p=q"), "{args:?}");
        assert!(KafkaSettings::parse("security.protocol").is_err());
    }

    #[test]
    fn a_setting_that_cannot_be_is_named_without_its_value() {
        let mut problems = Problems::default();
        // The last is what used to be two settings.
        let wrong = [
            "acks=1",
            "request.required.acks=1",
            "bootstrap.servers=hush:9092",
            "no.such.thing=hush",
            "ssl.ca.location=/none",
            "security.protocol=SSL sasl.password=hush",
        ];
        args(&wrong).validate(&mut problems);
        let found = problems.list();
        assert_eq!(found.len(), 6, "{found:?}");
        for named in [
            "--kafka-set acks",
            "request.required.acks",
            "--kafka-brokers",
            "no.such.thing",
            "/none",
            "one key=value a line",
        ] {
            assert!(found.iter().any(|problem| problem.contains(named)), "{named}: {found:?}");
        }
        assert!(!found.concat().contains("hush"), "{found:?}");
    }

    #[test]
    fn the_link_is_as_the_settings_secure_it() {
        for (set, encrypted, verified) in [
            (&[][..], false, true),
            (&["security.protocol=sasl_plaintext"], false, true),
            (&["security.protocol=sasl_ssl"], true, true),
            (&["security.protocol=SSL\nenable.ssl.certificate.verification=false"], true, false),
            (&["security.protocol=SSL\nenable.ssl.certificate.verification=F"], true, false),
            (&["security.protocol=SSL\nenable.ssl.certificate.verification=0"], true, false),
            (&["security.protocol=SSL\nenable.ssl.certificate.verification=True"], true, true),
            (&["security.protocol=SSL\nssl.endpoint.identification.algorithm=None"], true, false),
            (&["security.protocol=SSL\nssl.endpoint.identification.algorithm=https"], true, true),
        ] {
            let link = args(set).link();
            assert_eq!((link.encrypted, link.verified), (encrypted, verified), "{set:?}");
            assert_eq!(link.hosts, ["b1.example.com", "127.0.0.1"]);
        }
    }
}
