//! nginx and HAProxy at the old address, with the configurations of `deploy/proxy`: readings go to
//! the gateways, all else to the old server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use ljwx_tests::cases::{self, File};
use ljwx_tests::clients::http;
use ljwx_tests::fakes::recorder::{RETRY_AFTER, Recorder, Request};
use ljwx_tests::stack::reverse_proxy::{Program, ReverseProxy, Servers};
use ljwx_tests::stack::wait::eventually;

const PROGRAMS: [Program; 2] = [Program::Nginx, Program::Haproxy];

const CASES: [&str; 2] =
    [include_str!("../../cases/cases.json"), include_str!("../../cases/gateway_cases.json")];

const READINGS: &str = "/upload_health_data";

/// This machine counts as a network of the watches.
const WATCHES: (&str, &str) = ("10.0.0.0/8", "127.0.0.0/8");

/// Headers with which a stranger chooses an address and a trace.
const STRANGE: [(&str, &str); 3] = [
    ("x-forwarded-for", "192.0.2.1"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "vendor=1"),
];

/// The gateway's greatest body.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The longest that a condition may take to come true.
const SOON: Duration = Duration::from_secs(20);

/// A proxy before servers that record what they get.
struct Site {
    gateways: [Recorder; 2],
    old_server: Recorder,
    boot: Recorder,
    proxy: ReverseProxy,
}

impl Site {
    async fn start(program: Program, edits: &[(&str, &str)]) -> Result<Self> {
        let gateways = [Recorder::start().await?, Recorder::start().await?];
        let (old_server, boot) = (Recorder::start().await?, Recorder::start().await?);
        // The recorders answer `/readyz` on their only port.
        let servers = Servers {
            gateways: [0, 1].map(|number: usize| {
                let address = gateways[number].address();
                (address, address)
            }),
            old_server: old_server.address(),
            boot: boot.address(),
        };
        let proxy = ReverseProxy::start(program, &servers, edits).await?;
        Ok(Self { gateways, old_server, boot, proxy })
    }

    async fn post(&self, path: &str) -> Result<http::Answer> {
        http::post_with(&self.proxy.url(path), "{}", &STRANGE).await
    }

    fn gateways_take(&self) -> Vec<Request> {
        self.gateways.iter().flat_map(Recorder::take).collect()
    }

    /// Returns what each server got: gateways, old server, `ljwx-boot`.
    fn take(&self) -> [Vec<Request>; 3] {
        [self.gateways_take(), self.old_server.take(), self.boot.take()]
    }
}

/// Returns the names of the cases that do not hold.
async fn broken(text: &str, program: Option<Program>) -> Result<Vec<String>> {
    let mut file: File = serde_json::from_str(text)?;
    file.cases.retain(cases::Case::runs_anywhere);
    ensure!(file.cases.len() > 20, "{} cases", file.cases.len());
    let outcomes = match program {
        Some(program) => cases::run_through(program, &file).await?,
        None => cases::run(&file).await?,
    };
    let broken = outcomes.into_iter().filter(|outcome| !outcome.problems.is_empty());
    Ok(broken.map(|outcome| outcome.name).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_answers_and_publishes_is_the_same_through_each_proxy() -> Result<()> {
    for text in CASES {
        let without = broken(text, None).await?;
        for program in PROGRAMS {
            let through = broken(text, Some(program)).await?;
            ensure!(through == without, "through {program:?}: {through:?}, without: {without:?}");
        }
    }
    Ok(())
}

/// The server that gets a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Gateways,
    OldServer,
    Boot,
    Nobody,
}

const ROUTES: [(&str, &str, To); 21] = [
    ("POST", READINGS, To::Gateways),
    ("POST", "/v1/readings", To::Gateways),
    ("POST", "/v1/nothing", To::Gateways),
    ("POST", "/batch/upload_health_data", To::Boot),
    ("POST", "/api/health/upload", To::Boot),
    ("POST", "/upload_common_event", To::OldServer),
    ("POST", "/upload_common_event_v3", To::OldServer),
    ("POST", "/upload_device_info", To::OldServer),
    ("GET", "/fetch_health_data_config?customer_id=0&deviceSn=A", To::OldServer),
    ("GET", "/DeviceMessage/receive?deviceSn=A", To::OldServer),
    ("POST", "/DeviceMessage/send", To::OldServer),
    ("POST", "/upload_watch_log", To::OldServer),
    ("POST", "/upload_alerts", To::OldServer),
    ("POST", "/dealAlert", To::OldServer),
    ("GET", "/fetch_alerts", To::OldServer),
    ("GET", "/", To::OldServer),
    ("POST", "/upload_health_data/more", To::OldServer),
    ("GET", "/livez", To::Nobody),
    ("GET", "/readyz", To::Nobody),
    ("GET", "/metrics", To::Nobody),
    ("POST", "/loglevel", To::Nobody),
];

/// Ensures that a server knows the caller's real address, and no trace of the caller's.
fn ensure_clean(request: &Request) -> Result<()> {
    let values = request.headers.get_all("x-forwarded-for");
    let values: Vec<_> = values.iter().filter_map(|value| value.to_str().ok()).collect();
    ensure!(values == ["127.0.0.1"], "{}: {values:?}", request.line);
    for name in ["traceparent", "tracestate"] {
        ensure!(!request.headers.contains_key(name), "{} has the caller's {name}", request.line);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_path_reaches_its_server_with_the_callers_true_address_and_no_trace() -> Result<()> {
    for program in PROGRAMS {
        let site = Site::start(program, &[WATCHES]).await?;
        for (method, path, to) in ROUTES {
            let answer = match method {
                "GET" => http::get(&site.proxy.url(path)).await?,
                _ => site.post(path).await?,
            };
            let got = site.take();
            let status = if to == To::Nobody { 404 } else { 200 };
            ensure!(answer.status == status, "{program:?}: {path} got {}", answer.status);
            for (requests, server) in got.iter().zip([To::Gateways, To::OldServer, To::Boot]) {
                let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
                let expected = format!("{method} {path}");
                let expected = if to == server { vec![expected.as_str()] } else { Vec::new() };
                ensure!(lines == expected, "{program:?}: {server:?} got {lines:?} for {path}");
                requests.iter().try_for_each(ensure_clean)?;
            }
        }
        // This route answered 500 at the old server.
        site.post("/upload_health_data_optimized").await?;
        let got = site.gateways_take();
        ensure!(got.len() == 1 && got[0].line == format!("POST {READINGS}"), "{got:?}");
        site.proxy.end()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_watches_is_for_their_networks_only() -> Result<()> {
    for program in PROGRAMS {
        let site = Site::start(program, &[]).await?;
        let answer = http::get(&site.proxy.url("/fetch_health_data_config?deviceSn=A")).await?;
        ensure!(answer.status == 403, "{program:?}: {}", answer.status);
        ensure!(site.old_server.take().is_empty(), "{program:?}: the old server was asked");
        site.proxy.end()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_gets_what_the_first_one_does_not_take() -> Result<()> {
    for program in PROGRAMS {
        let site = Site::start(program, &[]).await?;
        // The first gateway in turn differs, so each case takes several requests.
        site.gateways[0].answer(StatusCode::SERVICE_UNAVAILABLE);
        for _ in 0..4 {
            let answer = site.post(READINGS).await?;
            ensure!(answer.status == 200, "{program:?}: {} of a 503", answer.status);
        }
        ensure!(site.gateways[0].take().len() >= 2, "{program:?}: the other one was not asked");
        site.gateways[0].down();
        for _ in 0..4 {
            let answer = site.post(READINGS).await?;
            ensure!(answer.status == 200, "{program:?}: {} of a lost gateway", answer.status);
        }
        site.proxy.end()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_are_all_unready_are_asked_all_the_same() -> Result<()> {
    for program in PROGRAMS {
        let site = Site::start(program, &[]).await?;
        for gateway in &site.gateways {
            gateway.answer(StatusCode::SERVICE_UNAVAILABLE);
            gateway.ready(false);
        }
        if program == Program::Haproxy {
            eventually(SOON, "HAProxy knows it", || async {
                Ok(site.proxy.output().contains("Running on backup").then_some(()))
            })
            .await?;
        }
        for _ in 0..10 {
            let answer = site.post(READINGS).await?;
            let after = answer.header("retry-after");
            let own = answer.status == 503 && after == Some(RETRY_AFTER);
            ensure!(own, "{program:?}: {} {after:?} is no gateway's answer", answer.status);
        }
        // The first request that is served heals the gateway. The proxy must let it through.
        for gateway in &site.gateways {
            gateway.answer(StatusCode::OK);
        }
        ensure!(site.post(READINGS).await?.status == 200, "{program:?}");
        site.proxy.end()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_and_device_information_are_sent_once() -> Result<()> {
    for program in PROGRAMS {
        let site = Site::start(program, &[]).await?;
        site.old_server.answer(StatusCode::SERVICE_UNAVAILABLE);
        for path in ["/upload_common_event", "/upload_device_info"] {
            let answer = site.post(path).await?;
            let sent = site.old_server.take().len();
            ensure!(answer.status == 503 && sent == 1, "{program:?}: {path} was sent {sent} times");
        }
        let large = "x".repeat(20_000);
        let answer = http::post(&site.proxy.url("/upload_device_info"), large).await?;
        ensure!(answer.status == 413, "{program:?}: {}", answer.status);
        ensure!(site.old_server.take().is_empty(), "{program:?}: the old server got it");
        site.proxy.end()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_body_that_is_too_large_is_the_gateways_to_refuse() -> Result<()> {
    for program in PROGRAMS {
        let site = Site::start(program, &[]).await?;
        let body = vec![b' '; BODY_BYTES_MAX + 1];
        http::post(&site.proxy.url(READINGS), body).await?;
        let got = site.gateways_take();
        let whole = got.len() == 1 && got[0].body.len() > BODY_BYTES_MAX;
        ensure!(whole, "{program:?}: {} requests", got.len());
        site.proxy.end()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_shadow_phase_the_old_server_answers_and_the_gateways_get_a_copy() -> Result<()> {
    let shadow = ("include gateways.conf;", "include shadow.conf;");
    let site = Site::start(Program::Nginx, &[shadow]).await?;
    // The fate of the copy is not the caller's.
    site.gateways.iter().for_each(|gateway| gateway.answer(StatusCode::SERVICE_UNAVAILABLE));
    ensure!(site.post(READINGS).await?.status == 200);
    let answered = site.old_server.take().pop().context("the old server got nothing")?;
    let copied =
        eventually(SOON, "the copy arrives", || async { Ok(site.gateways_take().pop()) }).await?;
    ensure!(copied.line == answered.line && copied.body == answered.body, "{copied:?}");
    ensure_clean(&copied)?;
    site.proxy.end()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_cut_over_the_gateways_answer_and_the_old_server_gets_a_copy() -> Result<()> {
    let cut_over = ("include gateways.conf;", "include cut_over.conf;");
    let site = Site::start(Program::Nginx, &[cut_over]).await?;
    site.old_server.answer(StatusCode::INTERNAL_SERVER_ERROR);
    ensure!(site.post(READINGS).await?.status == 200);
    let answered = site.gateways_take().pop().context("no gateway got it")?;
    let copied =
        eventually(SOON, "the copy arrives", || async { Ok(site.old_server.take().pop()) }).await?;
    ensure!(copied.line == answered.line && copied.body == answered.body, "{copied:?}");
    site.proxy.end()
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_gives_the_readings_back_to_the_old_server() -> Result<()> {
    let back = ("READINGS_TO gateways", "READINGS_TO old_server");
    let site = Site::start(Program::Haproxy, &[back]).await?;
    site.post(READINGS).await?;
    site.post("/v1/readings").await?;
    let [gateways, old_server, _] = site.take();
    ensure!(gateways.len() == 1 && gateways[0].line == "POST /v1/readings", "{gateways:?}");
    ensure!(old_server.len() == 1, "{old_server:?}");
    site.proxy.end()
}
