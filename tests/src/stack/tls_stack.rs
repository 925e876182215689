//! A stack that belongs to a test: its servers speak TLS, with certificates that belong to the
//! test.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::stack::certificates::Authority;
use crate::stack::environment::{Stack, stack_command};
use crate::stack::launch::program_folder;
use crate::stack::process::{send_signal, tail};

/// The longest that the servers may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// The longest that the servers may take to stop.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// The line that the stack prints after its variables, once it is up.
const UP: &str = "the stack is up";

/// The user of Kafka as which services log in.
pub const KAFKA_USER: &str = "ingest";

/// Running servers. They are killed when dropped.
pub struct TlsStack {
    /// The authority that signed their certificates.
    pub authority: Authority,
    child: Child,
    folder: PathBuf,
    variables: HashMap<String, String>,
}

impl TlsStack {
    /// Starts the kinds of servers that the tests' stack has.
    pub async fn start() -> anyhow::Result<Self> {
        let programs = program_folder()?;
        let name = format!("tls-{}", Uuid::new_v4().simple());
        let folder = programs.parent().unwrap_or(&programs).join("logs").join(name);
        let authority = Authority::new(folder.join("tls"))?;
        let log = File::create(folder.join("log")).context("log of the servers")?;
        let without = Stack::from_env()?.jaeger_url.map_or("prometheus jaeger", |_| "prometheus");
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(stack_command())
            .args(["run", "--", "sh", "-c", &format!("env; echo {UP}; exec sleep infinity")])
            .env("STACK_TLS", authority.folder())
            .env("STACK_DIR", folder.join("none"))
            .env("STACK_WITHOUT", without)
            .env_remove("KAFKA_BROKERS")
            .env_remove("MYSQL_URL")
            .env_remove("REDIS_URL")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .env_remove("JAEGER_URL")
            // With `CI` set, the stack would insist on Jaeger.
            .env_remove("CI")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("setpriv (of util-linux) could not be run")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let read = async {
            let mut variables = HashMap::new();
            while let Some(line) = lines.next_line().await? {
                if line == UP {
                    return Ok(variables);
                }
                if let Some((name, value)) = line.split_once('=') {
                    variables.insert(name.to_owned(), value.to_owned());
                }
            }
            anyhow::bail!("the servers did not start; {}", tail(&folder.join("log")))
        };
        let read = tokio::time::timeout(READY_WITHIN, read).await;
        let variables = read.context("the servers did not answer in time")??;
        Ok(Self { authority, child, folder, variables })
    }

    /// Returns a variable that the stack exports.
    pub fn variable(&self, name: &str) -> anyhow::Result<&str> {
        self.variables.get(name).map(String::as_str).with_context(|| format!("no {name}"))
    }

    /// Returns the addresses of the servers, and the settings that services need to speak TLS to
    /// Kafka and the collector.
    pub fn stack(&self) -> anyhow::Result<Stack> {
        let optional = |name| self.variable(name).ok().map(str::to_owned);
        let mut environment = vec![
            ("KAFKA_BROKERS".to_owned(), self.variable("KAFKA_TLS_BROKERS")?.to_owned()),
            ("KAFKA_SET".to_owned(), self.kafka_set("SCRAM-SHA-512", "native-stack")),
        ];
        let collector = "OTEL_EXPORTER_OTLP_CERTIFICATE";
        environment.extend(optional(collector).map(|path| (collector.to_owned(), path)));
        Ok(Stack {
            kafka_brokers: self.variable("KAFKA_BROKERS")?.to_owned(),
            mysql_url: self.variable("MYSQL_URL")?.to_owned(),
            redis_url: self.redis_url()?,
            otlp_endpoint: optional("OTEL_EXPORTER_OTLP_ENDPOINT"),
            jaeger_url: optional("JAEGER_URL"),
            prometheus_url: None,
            prometheus_targets: None,
            environment,
        })
    }

    /// Returns the value of `KAFKA_SET` for a login.
    pub fn kafka_set(&self, mechanism: &str, password: &str) -> String {
        format!(
            "security.protocol=SASL_SSL\nssl.ca.location={}\nsasl.mechanism={mechanism}\n\
             sasl.username={KAFKA_USER}\nsasl.password={password}\n",
            self.authority.path("ca.pem")
        )
    }

    /// Returns the URL of Redis with the client's certificate.
    fn redis_url(&self) -> anyhow::Result<String> {
        Ok(format!("{}{}", self.variable("REDIS_URL")?, self.client()))
    }

    /// Returns the client's certificate as further parameters of a URL that has parameters.
    pub fn client(&self) -> String {
        let path = |file| self.authority.path(file);
        format!("&ssl-cert={}&ssl-key={}", path("client.pem"), path("client.key"))
    }

    /// Stops servers and starts them again. They then have the certificate that was signed last.
    pub async fn restart(&self, servers: &[&str]) -> anyhow::Result<()> {
        for (command, server) in
            servers.iter().flat_map(|server| [("stop", server), ("start", server)])
        {
            let mut again = Command::new(stack_command());
            again.args([command, server]).env("STACK_DIR", self.variable("STACK_DIR")?);
            again.env("STACK_TLS", self.authority.folder());
            let done = again.output().await.context("deploy/stack could not be run")?;
            let said = String::from_utf8_lossy(&done.stderr);
            ensure!(done.status.success(), "deploy/stack {command} {server}: {said}");
        }
        Ok(())
    }

    /// Returns the stack's name of its database.
    pub fn database(&self) -> anyhow::Result<&str> {
        self.variable("STACK_DATABASE")
    }

    /// Stops the servers and removes their files.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        send_signal(self.child.id().context("the servers are gone")?, "TERM").await?;
        tokio::time::timeout(STOPPED_WITHIN, self.child.wait())
            .await
            .with_context(|| format!("still there: {}", tail(&self.folder.join("log"))))??;
        std::fs::remove_dir_all(&self.folder).context("folder of the servers")
    }
}
