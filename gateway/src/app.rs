//! The gateway's parts and how they start and stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use common::admin::Admin;
use common::lifecycle::{Vital, within};
use common::publisher::Publisher;
use common::telemetry::Telemetry;
use metrics::counter;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;
use crate::ingest::Ingest;
use crate::metrics::REQUESTS;
use crate::records::Records;
use crate::routes::{API_ROUTE, DEVICE_ROUTE, Routes};
use crate::topics;

/// A gateway that is bound to its ports.
pub struct App {
    config: Config,
    listener: TcpListener,
    routes: Routes,
    publisher: Publisher,
    not_ready: Arc<AtomicBool>,
    vital: Vital,
    admin_stop: CancellationToken,
}

impl App {
    /// Builds every part in the order of its needs.
    pub async fn build(config: &Config, telemetry: &Telemetry) -> anyhow::Result<Self> {
        let publisher =
            Publisher::new(config.kafka.client_config("gateway"), &config.publisher_limits())
                .context("cannot create the producer; look at --kafka-set")?;
        let topics = topics::check(config.kafka.clone(), config.record_bytes_max());
        let routes = Routes {
            ingest: Ingest {
                records: Records {
                    publisher: publisher.clone(),
                    readings_topic: config.kafka.readings_topic.clone(),
                    rejects_topic: config.kafka.rejects_topic.clone(),
                },
                zone: config.zone.zone.clone(),
            },
            body_bytes_max: config.body_bytes_max,
            request_timeout: config.request_timeout,
            message_timeout: config.message_timeout,
            slots: Arc::new(Semaphore::new(config.requests_max)),
            draining: Arc::default(),
        };
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("--listen {}", config.listen))?;
        let not_ready = Arc::new(AtomicBool::new(false));
        let (vital, admin_stop) = (Vital::new(), CancellationToken::new());
        vital.spawn("the producer", &admin_stop, publisher.clone().failed());
        for route in [DEVICE_ROUTE, API_ROUTE] {
            counter!(REQUESTS, "route" => route, "status" => "503").increment(0);
        }
        let ready = ready(config, publisher.clone(), topics, Arc::clone(&not_ready));
        let admin = Admin::new(Arc::new(|| Ok(())), ready, telemetry);
        telemetry.summarise(admin_stop.clone());
        let admin_address =
            admin.serve(&config.admin, axum::Router::new(), &vital, &admin_stop).await?;
        let version = env!("CARGO_PKG_VERSION");
        info!(version, listen = %listener.local_addr()?, admin = %admin_address, "gateway started");
        Ok(Self {
            config: config.clone(),
            listener,
            routes,
            publisher,
            not_ready,
            vital,
            admin_stop,
        })
    }

    /// Serves until `stop`, or until a part of it is lost, then drains: readiness first, the port next,
    /// the producer last.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let vital = self.vital.clone();
        vital.during(&stop, self.serve(stop.clone())).await
    }

    async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let draining = Arc::clone(&self.routes.draining);
        let not_ready = Arc::clone(&self.not_ready);
        let closing = CancellationToken::new();
        let closed = closing.clone();
        let drain_delay = self.config.drain_delay;
        tokio::spawn(async move {
            stop.cancelled().await;
            not_ready.store(true, Ordering::Relaxed);
            tokio::time::sleep(drain_delay).await;
            draining.store(true, Ordering::Relaxed);
            closing.cancel();
        });
        let served = axum::serve(self.listener, self.routes.router())
            .with_graceful_shutdown(closed.clone().cancelled_owned())
            .into_future();
        let deadline = self.config.lifecycle.drain_timeout;
        tokio::pin!(served);
        tokio::select! {
            result = &mut served => result.context("the public port stopped")?,
            () = async { closed.cancelled().await; tokio::time::sleep(deadline).await } => {
                warn!("requests were still open at the end of --drain-timeout");
            }
        }
        let publisher = self.publisher;
        let message_timeout = self.config.message_timeout;
        let flushed = tokio::task::spawn_blocking(move || publisher.flush(message_timeout));
        match within(message_timeout * 2, flushed).await {
            Some(Ok(true)) => info!("gateway stopped, every record confirmed"),
            _ => warn!("gateway stopped with records unconfirmed; none of them was acknowledged"),
        }
        self.admin_stop.cancel();
        Ok(())
    }
}

fn ready(
    config: &Config,
    publisher: Publisher,
    topics: topics::TopicsChecked,
    not_ready: Arc<AtomicBool>,
) -> common::admin::Check {
    let grace = config.ready_grace;
    Arc::new(move || {
        if not_ready.load(Ordering::Relaxed) {
            return Err("draining".into());
        }
        if let Some(problem) = topics.problem() {
            return Err(problem);
        }
        let unreachable = publisher.unreachable_for();
        if unreachable > grace {
            return Err(format!("no broker reachable for {} s", unreachable.as_secs()));
        }
        Ok(())
    })
}
