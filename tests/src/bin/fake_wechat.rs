//! `fake-wechat`: a fake of WeChat's official accounts and WeCom that prints every message.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use ljwx_tests::fakes::wechat::{APP_SECRET, CORP_SECRET, FakeWechat, Kind, TEMPLATE_ID};

/// Fake WeChat's official accounts and WeCom on one port, and print every message as its receiver
/// would see it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "printing is what this program is for")]
async fn main() -> anyhow::Result<()> {
    let Arguments { listen } = Arguments::parse();
    let wechat = FakeWechat::serve(listen).await?;
    println!(
        "WECHAT_API_URL={} WECHAT_APP_SECRET={APP_SECRET} WECHAT_TEMPLATE_ID={TEMPLATE_ID}",
        wechat.url()
    );
    println!("WeCom: the same address, any corp id that begins with ww, secret {CORP_SECRET}");
    let mut seen = 0;
    loop {
        let (messages, now) = wechat.messages_since(seen);
        seen = now;
        for message in messages {
            let by = match message.kind {
                Kind::Official => "",
                Kind::Wecom => " by WeCom",
            };
            println!("to {}{by}: {}", message.touser, message.text());
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = ljwx_tests::stack::wait::pass(Duration::from_millis(200)) => {}
        }
    }
}
