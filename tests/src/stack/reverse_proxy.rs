//! nginx or HAProxy at the old address, with the configuration of `deploy/proxy`. Only addresses
//! and switches are replaced, in the files that operators edit.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::stack::environment::root;
use crate::stack::launch::{free_address, program_folder};
use crate::stack::process::{Service, tail};
use crate::stack::wait::eventually;

/// The longest that the proxy may take to listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);

/// Folders of nginx's files, which are not writable for everyone where the package puts them.
const TEMPORARY: [&str; 5] = ["client_body", "fastcgi", "proxy", "scgi", "uwsgi"];

/// Public addresses of the gateways in the shipped files.
const GATEWAYS: [&str; 2] = ["10.0.0.11:8080", "10.0.0.12:8080"];

/// A program with a configuration in `deploy/proxy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
}

impl Program {
    /// Name of the command, and of its folder in `deploy/proxy`.
    const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// The files that operators edit.
    const fn edited(self) -> &'static [&'static str] {
        match self {
            Self::Nginx => &["upstreams.conf", "server.conf"],
            Self::Haproxy => &["20-servers.cfg"],
        }
    }

    /// Returns the command with the configuration in `folder`, and the arguments that follow the
    /// command's name.
    fn command(self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", self.name()]).args(arguments);
        match self {
            Self::Nginx => {
                let pid = folder.join("nginx.pid");
                let global = "daemon off; master_process off; error_log stderr;";
                command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
                command.arg("-g").arg(format!("{global} pid {};", pid.display()));
            }
            Self::Haproxy => {
                command.arg("-db").arg("-f").arg(folder);
            }
        }
        // Both programs are in folders that users may not have in their PATH.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin")).stdin(Stdio::null());
        command
    }
}

/// The servers behind the proxy.
#[derive(Debug, Clone, Copy)]
pub struct Servers {
    /// Public and admin address of each gateway.
    pub gateways: [(SocketAddr, SocketAddr); 2],
    /// The old server.
    pub old_server: SocketAddr,
    /// `ljwx-boot`.
    pub boot: SocketAddr,
}

/// A running proxy. It is killed when dropped.
#[derive(Debug)]
pub struct ReverseProxy {
    address: SocketAddr,
    folder: PathBuf,
    _child: Child,
}

impl ReverseProxy {
    /// Lets the program check its configuration, and starts it. Each of `edits` replaces a text of
    /// the files that operators edit.
    pub async fn start(
        program: Program,
        servers: &Servers,
        edits: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let programs = program_folder()?;
        let name = format!("{}-{}", program.name(), Uuid::new_v4().simple());
        let folder = programs.parent().unwrap_or(&programs).join("logs").join(name);
        configure(program, &folder, address, servers, edits)?;
        let check = if program == Program::Nginx { "-t" } else { "-c" };
        let checked = program.command(&folder, &[check]).output().await;
        let checked = checked.context("setpriv (of util-linux) could not be run")?;
        ensure!(
            checked.status.success(),
            "{} refuses its configuration, or `deploy/stack install` has not installed it: {}",
            program.name(),
            String::from_utf8_lossy(&checked.stderr)
        );
        let log = File::create(folder.join("log")).context("log of a proxy")?;
        let mut command = program.command(&folder, &[]);
        let child = command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn();
        let proxy = Self { address, folder, _child: child.context("the proxy")? };
        let listens = eventually(LISTENS_WITHIN, "the proxy listens", || async {
            TcpStream::connect(address).await?;
            Ok(Some(()))
        });
        listens.await.with_context(|| tail(&proxy.log()))?;
        Ok(proxy)
    }

    /// Starts the proxy before a gateway, which takes the place of both gateways. No other server
    /// is there.
    pub async fn before(program: Program, gateway: &Service) -> anyhow::Result<Self> {
        let public = gateway.listen.context("the gateway listens")?;
        let nobody = free_address()?;
        let gateways = [(public, gateway.admin); 2];
        Self::start(program, &Servers { gateways, old_server: nobody, boot: nobody }, &[]).await
    }

    /// The proxy's address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of a path at the proxy.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All output of the proxy so far.
    pub fn output(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Ends the proxy and removes its files. A failed test never calls this, so its files stay.
    pub fn end(self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.folder).context("folder of a proxy")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

/// Writes the program's files into `folder`, with these addresses.
fn configure(
    program: Program,
    folder: &Path,
    address: SocketAddr,
    servers: &Servers,
    edits: &[(&str, &str)],
) -> anyhow::Result<()> {
    fs::create_dir_all(folder).context("folder of a proxy")?;
    for entry in fs::read_dir(root().join("deploy/proxy").join(program.name()))? {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name())).context("a file of a proxy")?;
    }
    let mut replacements = addresses(program, address, servers);
    replacements.extend(edits.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())));
    let mut lost: Vec<_> = replacements.iter().map(|(from, _)| from.as_str()).collect();
    for name in program.edited() {
        let path = folder.join(name);
        let mut text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for (from, to) in &replacements {
            if text.contains(from) {
                lost.retain(|lost| lost != from);
                text = text.replace(from, to);
            }
        }
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    ensure!(lost.is_empty(), "{lost:?} stands in no file of {}", program.name());
    if program == Program::Nginx {
        let folders = TEMPORARY.map(|name| {
            let files = folder.join(name);
            format!("{name}_temp_path {};\n", files.display())
        });
        let path = folder.join("upstreams.conf");
        let text = fs::read_to_string(&path)? + &folders.concat() + "access_log off;\n";
        fs::write(&path, text)?;
    }
    Ok(())
}

/// Returns the addresses in the shipped files, each with the address in its place. A longer text
/// comes before its beginning.
fn addresses(program: Program, address: SocketAddr, servers: &Servers) -> Vec<(String, String)> {
    let mut replacements = vec![match program {
        Program::Nginx => ("listen 80;".to_owned(), format!("listen {address};")),
        Program::Haproxy => ("\":80\"".to_owned(), address.to_string()),
    }];
    for (shipped, (public, admin)) in GATEWAYS.into_iter().zip(servers.gateways) {
        if program == Program::Haproxy {
            let checked = format!("{public} port {}", admin.port());
            replacements.push((format!("{shipped} port 9090"), checked));
        }
        replacements.push((shipped.to_owned(), public.to_string()));
    }
    replacements.push(("10.0.0.21:8001".to_owned(), servers.old_server.to_string()));
    replacements.push(("10.0.0.22:8080".to_owned(), servers.boot.to_string()));
    replacements
}
