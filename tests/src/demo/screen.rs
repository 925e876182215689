//! The demo's screen: a table that refreshes itself on a terminal, and a line now and then
//! elsewhere.
#![expect(clippy::print_stdout, reason = "showing is what this file is for")]

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

use crate::fakes::wechat::FakeWechat;

use super::figures::Figures;
use super::stage::Stage;

/// Time between two refreshes: on a terminal, and elsewhere.
const REFRESH: Duration = Duration::from_secs(1);
const REFRESH_LOG: Duration = Duration::from_secs(5);

/// The screen, which prints the table.
pub(super) struct Screen {
    terminal: bool,
    begin: Instant,
    lines: usize,
    seen: u64,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), begin: Instant::now(), lines: 0, seen: 0 }
    }

    /// Returns the time until the next refresh.
    pub(super) const fn refresh(&self) -> Duration {
        if self.terminal { REFRESH } else { REFRESH_LOG }
    }

    /// Prints the figures in place of the last ones, and new messages above them.
    pub(super) fn show(&mut self, figures: &Figures, wechat: &FakeWechat) {
        self.clear();
        self.messages(wechat);
        let text = if self.terminal { self.table(figures) } else { self.line(figures) };
        println!("{text}");
        self.lines = if self.terminal { text.lines().count() } else { 0 };
        // Without a flush, a reader of piped output would see the figures late.
        let _ignored = std::io::stdout().flush();
    }

    /// Prints the messages that have arrived since the last call, as their receiver sees them.
    pub(super) fn messages(&mut self, wechat: &FakeWechat) {
        let (messages, seen) = wechat.messages_since(self.seen);
        self.seen = seen;
        for message in messages {
            println!("  \u{1f4f1} {} receives: {}", message.touser, message.text());
        }
    }

    fn clear(&mut self) {
        if self.lines > 0 {
            print!("\x1b[{}A\x1b[J", self.lines);
            self.lines = 0;
        }
    }

    fn table(&self, figures: &Figures) -> String {
        let clock = self.clock();
        let row = |name: &str, cells: &[(&str, String)]| {
            let cells = cells.iter().map(|(label, value)| format!("  {label} {value:<7}"));
            format!("  {name:<10}{}", cells.collect::<String>())
        };
        let alerts = [
            ("alerts open", count(figures.alerts_open)),
            ("messages sent", figures.sent.to_string()),
            ("lag", count(figures.alerts_lag)),
        ];
        let workers = [
            ("stored", count(figures.stored)),
            ("merged", count(figures.merged)),
            ("dead-lettered", count(figures.dead_lettered)),
            ("lag", count(figures.lag)),
        ];
        // The table is narrower than any terminal: a wrapped line could not be replaced.
        let gateway =
            [("accepted", count(figures.accepted)), ("rejected", count(figures.rejected))];
        [
            format!("  ── {clock} {}", "─".repeat(66)),
            row("gateway", &gateway),
            row("workers", &workers),
            row("end to end", &[("P50", time(figures.p50)), ("P95", time(figures.p95))]),
            row("alerter", &alerts),
        ]
        .join("\n")
    }

    fn line(&self, figures: &Figures) -> String {
        format!(
            "{} accepted {} stored {} merged {} rejected {} dead-lettered {} lag {} | end to end \
             P50 {} P95 {} | alerts open {} messages sent {} lag {}",
            self.clock(),
            count(figures.accepted),
            count(figures.stored),
            count(figures.merged),
            count(figures.rejected),
            count(figures.dead_lettered),
            count(figures.lag),
            time(figures.p50),
            time(figures.p95),
            count(figures.alerts_open),
            figures.sent,
            count(figures.alerts_lag),
        )
    }

    fn clock(&self) -> String {
        let seconds = self.begin.elapsed().as_secs();
        format!("{:02}:{:02}", seconds / 60, seconds % 60)
    }
}

fn count(value: Option<i64>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| value.to_string())
}

fn time(value: Option<Duration>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{} ms", value.as_millis()))
}

/// Prints a line of the demo itself.
pub(super) fn say(text: &str) {
    println!("demo: {text}");
}

/// Prints addresses to open and commands to try.
pub(super) fn hints(stage: &Stage) {
    println!();
    if let Some(jaeger) = &stage.world.stack.jaeger_url {
        println!("  traces   {jaeger}/search?service=gateway");
    }
    if let Some(prometheus) = &stage.world.stack.prometheus_url {
        println!("  alerts   {prometheus}/alerts   (what each means: deploy/runbook.md)");
        println!("  metrics  {prometheus}/graph?g0.expr=rate(readings_total[1m])&g0.tab=0");
    }
    for service in stage.services() {
        println!(
            "  {:<10} {}   {}",
            service.name(),
            service.admin("/metrics"),
            service.admin("/readyz")
        );
    }
    let worker = stage.workers[0].admin("/api/batch_processor/health");
    println!("  health     {worker}");
    println!("  logs       {}", stage.world.logs.display());
    println!("\n  to try in another terminal:\n");
    let device = stage.world.device(1);
    let post = stage.gateway.url("/upload_health_data");
    println!(
        "    curl -s {post} -H 'content-type: application/json' \\\n      \
         -d '{{\"data\":{{\"deviceSn\":\"TRYIT00000000001\",\"heart_rate\":84,\"blood_oxygen\":97}}}}'"
    );
    let (server, database) = (&stage.world.stack.mysql_url, stage.world.database.name());
    println!(
        "    {} {database} -e \\\n      'SELECT topic, `partition`, next_offset, `stored`, merged, \
         dead_lettered FROM ingest_progress'",
        mariadb(server)
    );
    println!("    redis-cli -u {} HGETALL health_data:{device}\n", stage.world.stack.redis_url);
}

/// Returns the client's command line for a server's URL.
fn mariadb(url: &str) -> String {
    let rest = url.trim_start_matches("mysql://").split('/').next().unwrap_or_default();
    let (user, address) = rest.split_once('@').unwrap_or(("root", rest));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (host, port) = address.split_once(':').unwrap_or((address, "3306"));
    format!("MYSQL_PWD={password} mariadb --no-defaults -h {host} -P {port} -u {user}")
}
