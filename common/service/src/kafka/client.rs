//! Configures the clients of Kafka: brokers, fixed settings, the settings of operators, security.
//!
//! Leaves further settings to `publisher` and `topic_reader`, and those of a consumer group's
//! member to the ledger crate.

use std::time::Duration;

use clap::ArgAction;
use rdkafka::ClientConfig;
use rdkafka::types::RDKafkaErrorCode;
use secrecy::{ExposeSecret, SecretString};

use crate::config::{Problems, flag};
use crate::link::ConnectionSecurity;

/// Settings of the connection to Kafka.
#[derive(Debug, Clone, clap::Args)]
pub struct KafkaArgs {
    /// Brokers for the first connection, as host:port,host:port.
    #[arg(long = "kafka-brokers", env = "KAFKA_BROKERS")]
    pub brokers: String,
    /// Topic of the readings.
    #[arg(long, env = "READINGS_TOPIC", default_value = "health.readings")]
    pub readings_topic: String,
    /// Topic of the rejects: items of devices that could not become readings.
    #[arg(long, env = "REJECTS_TOPIC", default_value = "health.readings.rejected")]
    pub rejects_topic: String,
    /// Any further setting of librdkafka (TLS, SASL, …), as key=value. May be given several times;
    /// in the variable or its file, one a line. Everything after the first = is the value.
    #[arg(long = "kafka-set", env = "KAFKA_SET", hide_env_values = true, value_parser = KafkaSettings::parse)]
    pub set: Vec<KafkaSettings>,
    /// Refuse topics whose replication, insync replicas or leader election may lose acknowledged
    /// readings, or whose settings cannot be seen. Without it such a topic is only warned of.
    #[arg(long, env = "REQUIRE_SAFE_TOPICS", action = ArgAction::SetTrue, value_parser = flag)]
    pub require_safe_topics: bool,
    /// Accept a cluster of fewer than three brokers: topics have one replica there, and a lost disk
    /// loses readings.
    #[arg(long, env = "DEVELOPMENT", action = ArgAction::SetTrue, value_parser = flag)]
    pub development: bool,
}

/// Settings of librdkafka. Each value may be a secret.
#[derive(Debug, Clone)]
pub struct KafkaSettings(Vec<(String, SecretString)>);

impl KafkaSettings {
    /// Parses key=value from each line that is not blank.
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

/// Settings of librdkafka, under all their names, that the promises of this system depend on.
/// `--kafka-set` must not change them.
const FIXED: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "group.id",
    "group.protocol",
    "linger.ms",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "queue.buffering.max.ms",
    "request.required.acks",
    "transactional.id",
];

/// The compression codecs that this build must be able to read.
const CODECS: &str = "gzip,snappy,lz4,zstd";

/// Longest time for one request to the brokers.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

impl KafkaArgs {
    /// Adds the problems of these settings.
    pub fn validate(&self, problems: &mut Problems) {
        problems.require(!self.brokers.trim().is_empty(), || {
            "--kafka-brokers must name at least one host:port".into()
        });
        for (key, value) in self.settings() {
            // librdkafka ignores this prefix of a setting of topics.
            let name = key.strip_prefix("topic.").unwrap_or(key);
            problems.require(!FIXED.contains(&name), || match name {
                "bootstrap.servers" | "metadata.broker.list" => {
                    format!("--kafka-set {key}: the brokers are those of --kafka-brokers")
                }
                "allow.auto.create.topics" => {
                    format!("--kafka-set {key}: only `worker migrate` creates topics")
                }
                _ => format!(
                    "--kafka-set {key} would lose or delay readings: it is fixed by this service"
                ),
            });
            // librdkafka's own message would contain the value.
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

    /// Returns the settings that all clients share.
    pub fn client_config(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", client_id)
            // A broker would create a topic with one replica and few partitions. The default of
            // producers is true.
            .set("allow.auto.create.topics", "false")
            // Other producers may use any codec, and a batch that cannot be read would block its
            // partition for ever. A build without one of the codecs fails when its first client is
            // created.
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

    /// Returns how the connections are secured.
    pub fn link(&self) -> ConnectionSecurity {
        let set =
            |key| self.settings().filter(|(set, _)| *set == key).last().map(|(_, value)| value);
        let protocol = set("security.protocol").unwrap_or_default().to_ascii_uppercase();
        let host = |broker: &str| {
            let address = broker.trim().rsplit("://").next().unwrap_or_default();
            address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned()
        };
        // librdkafka ignores the case of these values.
        let is = |key, words: &[&str]| {
            let value = set(key).unwrap_or_default().trim();
            words.iter().any(|word| value.eq_ignore_ascii_case(word))
        };
        ConnectionSecurity {
            dependency: "kafka",
            hosts: self.brokers.split(',').map(host).collect(),
            encrypted: protocol.ends_with("SSL"),
            verified: !is("enable.ssl.certificate.verification", &["false", "f", "0"])
                && !is("ssl.endpoint.identification.algorithm", &["none"]),
        }
    }
}

/// Returns the label of an error in metrics: librdkafka's name of its code.
pub fn error_label(code: Option<RDKafkaErrorCode>) -> String {
    code.map_or_else(|| "unknown".to_owned(), |code| format!("{code:?}"))
}

#[cfg(test)]
mod tests {
    use clap::builder::Resettable;
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn args(set: &[&str]) -> KafkaArgs {
        KafkaArgs {
            brokers: "b1.example.com:9092, 127.0.0.1:9092".into(),
            readings_topic: "r".into(),
            rejects_topic: "j".into(),
            set: set.iter().map(|text| KafkaSettings::parse(text).unwrap()).collect(),
            require_safe_topics: false,
            development: false,
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
    fn no_client_lets_a_broker_make_a_topic() {
        let config = args(&["client.rack=z"]).client_config("test");
        assert_eq!(config.get("allow.auto.create.topics"), Some("false"));
    }

    /// Returns the flag `--development` with this value of its variable.
    fn development(variable: &'static str, flags: &[&str]) -> Result<bool, clap::Error> {
        // A default is parsed as a variable is, and needs no change of the environment.
        let command = KafkaArgs::augment_args(Command::new("test"));
        let command = command
            .mut_arg("development", |flag| flag.env(Resettable::Reset).default_value(variable));
        let mut given = vec!["test", "--kafka-brokers", "b:9092"];
        given.extend(flags);
        let matches = command.try_get_matches_from(given)?;
        Ok(KafkaArgs::from_arg_matches(&matches)?.development)
    }

    #[test]
    fn a_flag_of_the_environment_has_the_usual_words_and_is_false_if_empty() {
        for (variable, expected) in [
            ("1", Some(true)),
            ("True", Some(true)),
            ("yes", Some(true)),
            ("on", Some(true)),
            ("", Some(false)),
            ("0", Some(false)),
            ("false", Some(false)),
            ("NO", Some(false)),
            ("off", Some(false)),
            ("flase", None),
        ] {
            assert_eq!(development(variable, &[]).ok(), expected, "{variable:?}");
        }
        assert_eq!(development("false", &["--development"]).ok(), Some(true));
    }

    #[test]
    fn a_setting_that_cannot_be_is_named_without_its_value() {
        let mut problems = Problems::default();
        // The last entry is a line that was meant as two settings.
        let wrong = [
            "acks=1",
            "allow.auto.create.topics=true",
            "request.required.acks=1",
            "topic.message.timeout.ms=0",
            "queue.buffering.max.ms=9000",
            "delivery.report.only.error=true",
            "bootstrap.servers=hush:9092",
            "no.such.thing=hush",
            "ssl.ca.location=/none",
            "security.protocol=SSL sasl.password=hush",
        ];
        args(&wrong).validate(&mut problems);
        let found = problems.list();
        assert_eq!(found.len(), 10, "{found:?}");
        for named in [
            "--kafka-set acks",
            "only `worker migrate` creates topics",
            "request.required.acks",
            "topic.message.timeout.ms",
            "queue.buffering.max.ms",
            "delivery.report.only.error",
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
