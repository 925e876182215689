//! Builds, starts and stops the parts of the gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use ljwx_service::heartbeat::Heartbeat;
use ljwx_service::http::admin::AdminServer;
use ljwx_service::http::{ConnectionMetrics, HttpServer, ServerStop};
use ljwx_service::kafka::producer::publisher::Publisher;
use ljwx_service::kafka::topic_safety::watch::TopicSafety;
use ljwx_service::lifecycle::{EssentialTasks, PROCESS_END, within};
use ljwx_service::link;
use ljwx_service::telemetry::Telemetry;
use metrics::{counter, gauge};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admission::kafka_gate::KafkaGate;
use crate::admission::limits::LARGE_BODIES_MAX;
use crate::admission::shared_bucket::SharedBucket;
use crate::config::{Config, FLUSH_RESERVE};
use crate::http::read_body::BodyReader;
use crate::http::{CLOCK_MIN, ROUTES, Routes};
use crate::ingest::Ingest;
use crate::metrics::{
    CONNECTIONS, CONNECTIONS_REFUSED, MEMORY_BOUND, PRODUCER_RESTARTS, REJECTS_BYTES_MAX, REQUESTS,
};
use crate::records::RecordPublisher;
use crate::request_span::{FORCED_PER_SECOND, TraceCallers};
use crate::topics;

/// Longest time for which the accept loop may stand still before `/livez` fails.
const ACCEPT_STUCK_AFTER: Duration = Duration::from_secs(10);

/// A gateway bound to its ports.
pub struct App {
    config: Config,
    server: HttpServer,
    routes: Routes,
    publisher: Publisher,
    not_ready: Arc<AtomicBool>,
    essential: EssentialTasks,
    admin_stop: CancellationToken,
}

impl App {
    /// Builds every part after the parts that it needs.
    pub async fn build(config: &Config, telemetry: &Telemetry) -> anyhow::Result<Self> {
        link::announce([Some(config.kafka.link()), config.telemetry.link()]);
        let publisher =
            Publisher::new(config.kafka.client_config("gateway"), &config.publisher_limits())
                .context("cannot create the producer; look at --kafka-set")?;
        let admin_stop = CancellationToken::new();
        let essential = EssentialTasks::new();
        let kafka = KafkaGate::new(publisher.clone(), config.stall.clone());
        let record_bytes = config.record_bytes_max();
        let topics = topics::watch(&config.kafka, record_bytes, &essential, &admin_stop)?;
        let routes = Routes {
            ingest: Ingest {
                records: RecordPublisher {
                    publisher: publisher.clone(),
                    readings_topic: config.kafka.readings_topic.clone(),
                    rejects_topic: config.kafka.rejects_topic.clone(),
                },
                rejects: config.protection.rejects(),
                large_bodies: Semaphore::new(LARGE_BODIES_MAX),
                zone: config.zone.zone.clone(),
            },
            kafka: kafka.clone(),
            topics: topics.clone(),
            bodies: BodyReader::new(&config.protection),
            answer_timeout: config.protection.answer_timeout,
            slots: Semaphore::new(config.protection.requests_max),
            trace_callers: TraceCallers::new(&config.protection.trace_callers),
            forced_spans: SharedBucket::new(FORCED_PER_SECOND, FORCED_PER_SECOND),
        };
        // The validation has checked that the hard limit has room for every connection.
        rlimit::increase_nofile_limit(u64::MAX).context("cannot raise the limit of open files")?;
        let bounds = config.protection.bounds();
        let names = ConnectionMetrics { connections: CONNECTIONS, refused: CONNECTIONS_REFUSED };
        let heartbeat = Heartbeat::with_limit(ACCEPT_STUCK_AFTER);
        let server = HttpServer::bind(config.listen, bounds, Some(names))
            .with_context(|| format!("--listen {}", config.listen))?
            .with_heartbeat(heartbeat.clone());
        let not_ready = Arc::new(AtomicBool::new(false));
        let producer = publisher.clone().keep_alive(PRODUCER_RESTARTS);
        essential.spawn("the producer", &admin_stop, producer);
        for (route, _) in ROUTES {
            counter!(REQUESTS, "route" => route, "status" => "503").increment(0);
        }
        let ready = ready(kafka, topics, Arc::clone(&not_ready));
        let admin = AdminServer::new(Arc::new(move || heartbeat.check()), ready, telemetry);
        telemetry.summarise(admin_stop.clone());
        let admin_address =
            admin.serve(&config.admin, axum::Router::new(), &essential, &admin_stop).await?;
        let memory_bound = config.memory_bound();
        gauge!(MEMORY_BOUND).set(memory_bound as f64);
        gauge!(REJECTS_BYTES_MAX).set(config.protection.rejects_bytes_per_s as f64);
        info!(
            version = ljwx_service::VERSION,
            listen = %server.local_addr()?,
            admin = %admin_address,
            connections_max = bounds.connections_max,
            memory_bound_mib = memory_bound / (1024 * 1024),
            "gateway started"
        );
        Ok(Self {
            config: config.clone(),
            server,
            routes,
            publisher,
            not_ready,
            essential,
            admin_stop,
        })
    }

    /// Serves until `stop` or the loss of a vital task, then drains: readiness first, the port
    /// next, the producer last. One deadline bounds the drain.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let essential = self.essential.clone();
        essential.during(&stop, self.serve(stop.clone())).await
    }

    async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { config, server, routes, publisher, not_ready, admin_stop, .. } = self;
        let closing = CancellationToken::new();
        let delayed = (stop.clone(), closing.clone(), config.drain_delay);
        tokio::spawn(async move {
            let (stop, closing, delay) = delayed;
            stop.cancelled().await;
            not_ready.store(true, Ordering::Relaxed);
            tokio::time::sleep(delay).await;
            closing.cancel();
        });
        let drain_timeout = config.lifecycle.drain_timeout;
        let too_late = async {
            stop.cancelled().await;
            let deadline = Instant::now() + drain_timeout;
            tokio::time::sleep_until(deadline - FLUSH_RESERVE).await;
        };
        tokio::select! {
            () = server.serve(routes.router(), ServerStop { leaving: stop.clone(), closing }) => {}
            () = too_late => warn!("requests still open near the end of --drain-timeout"),
        }
        // The rest of the reserve belongs to the spans and to the end of the process.
        let left = FLUSH_RESERVE - PROCESS_END;
        let flushed = tokio::task::spawn_blocking(move || publisher.flush(left));
        match within(left, flushed).await {
            Some(Ok(true)) => info!("gateway stopped, every record confirmed"),
            _ => warn!("gateway stopped with unconfirmed records, none was acknowledged"),
        }
        admin_stop.cancel();
        Ok(())
    }
}

fn ready(
    kafka: KafkaGate,
    topics: TopicSafety,
    not_ready: Arc<AtomicBool>,
) -> ljwx_service::http::admin::Probe {
    Arc::new(move || {
        if not_ready.load(Ordering::Relaxed) {
            return Err("draining".into());
        }
        if Timestamp::now() < CLOCK_MIN {
            return Err(format!("the clock of this host shows a time before {CLOCK_MIN}, set it"));
        }
        match topics.reason() {
            Some(reason) => Err(reason),
            None => kafka.ready(),
        }
    })
}
