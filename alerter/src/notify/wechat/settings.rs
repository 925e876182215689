//! Settings of WeChat's platforms, and of the accounts of a single-tenant installation.

use clap::Args;
use ljwx_service::config::Problems;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::account::{Account, AccountKind, Accounts};
use super::template::FieldMap;
use crate::notify::address;
use crate::rules::Channel;

/// Longest name, number or secret of an account, in bytes: the size of the platform's columns.
const SETTING_BYTES_MAX: usize = 255;

/// Settings of WeChat.
#[derive(Debug, Clone, Args)]
pub struct WechatArgs {
    /// Base address of the official-account platform; a stand-in server can replace it.
    #[arg(long, env = "WECHAT_API_URL", default_value = "https://api.weixin.qq.com", value_parser = base_url)]
    pub wechat_api_url: Url,
    /// Official account of a single-tenant installation; used while the platform's table of
    /// accounts is empty. The secret and the template are needed too.
    #[arg(long, env = "WECHAT_APP_ID")]
    pub wechat_app_id: Option<String>,
    /// Secret of the official account.
    #[arg(long, env = "WECHAT_APP_SECRET", hide_env_values = true)]
    pub wechat_app_secret: Option<SecretString>,
    /// Message template of the official account, with keyword1 to keyword4: patient, event, level,
    /// time.
    #[arg(long, env = "WECHAT_TEMPLATE_ID")]
    pub wechat_template_id: Option<String>,
    /// Openid that is notified if no recipient of a device is known.
    #[arg(long, env = "WECHAT_USER_OPENID")]
    pub wechat_default_openid: Option<String>,
    /// Base address of WeCom; a stand-in server can replace it.
    #[arg(long, env = "WECOM_API_URL", default_value = "https://qyapi.weixin.qq.com", value_parser = base_url)]
    pub wecom_api_url: Url,
    /// Company in WeCom of a single-tenant installation; used while the platform's table of
    /// accounts is empty. The secret and the number of the application are needed too.
    #[arg(long, env = "CORP_ID")]
    pub wecom_corp_id: Option<String>,
    /// Secret of the application.
    #[arg(long, env = "CORP_SECRET", hide_env_values = true)]
    pub wecom_corp_secret: Option<SecretString>,
    /// Number of the application in the company.
    #[arg(long, env = "CORP_AGENT_ID")]
    pub wecom_agent_id: Option<i64>,
    /// User id of the member who is notified if no recipient of a device is known; one member,
    /// never `@all`.
    #[arg(long, env = "CORP_WECHAT_TOUSER")]
    pub wecom_default_user: Option<String>,
}

impl WechatArgs {
    /// Returns the accounts of a single-tenant installation. An account is included if all its
    /// settings are set.
    pub fn accounts(&self) -> Accounts {
        self.official().into_iter().chain(self.wecom()).collect()
    }

    fn official(&self) -> Option<Account> {
        let template_id = self.wechat_template_id.clone()?;
        Some(Account::new(
            self.wechat_app_id.clone()?,
            self.wechat_app_secret.clone()?,
            AccountKind::Official { template_id, fields: FieldMap::default() },
            self.wechat_default_openid.clone(),
        ))
    }

    fn wecom(&self) -> Option<Account> {
        Some(Account::new(
            self.wecom_corp_id.clone()?,
            self.wecom_corp_secret.clone()?,
            AccountKind::Wecom { agent_id: self.wecom_agent_id?, is_markdown: false },
            self.wecom_default_user.clone(),
        ))
    }

    /// Adds what is wrong with the settings to `problems`.
    pub fn validate(&self, problems: &mut Problems) {
        let texts = [
            ("--wechat-app-id", self.wechat_app_id.as_deref()),
            ("--wechat-app-secret", exposed(&self.wechat_app_secret)),
            ("--wechat-template-id", self.wechat_template_id.as_deref()),
            ("--wecom-corp-id", self.wecom_corp_id.as_deref()),
            ("--wecom-corp-secret", exposed(&self.wecom_corp_secret)),
        ];
        let [app_id, app_secret, template_id, corp_id, corp_secret] =
            texts.map(|(_, text)| text.is_some());
        let official = "--wechat-app-id, --wechat-app-secret and --wechat-template-id";
        let wecom = "--wecom-corp-id, --wecom-corp-secret and --wecom-agent-id";
        for (flags, set) in [
            (official, [app_id, app_secret, template_id]),
            (wecom, [corp_id, corp_secret, self.wecom_agent_id.is_some()]),
        ] {
            problems.require(set.iter().all(|one| *one == set[0]), || {
                format!("{flags} belong together: set all of them or none")
            });
        }
        for (flag, value) in texts {
            let fits = value.is_none_or(|text| {
                (1..=SETTING_BYTES_MAX).contains(&text.len()) && text.trim() == text
            });
            problems.require(fits, || {
                format!("{flag} must have 1 to {SETTING_BYTES_MAX} bytes and no blanks around them")
            });
        }
        problems.require(self.wecom_agent_id.is_none_or(|id| id > 0), || {
            "--wecom-agent-id must be the application's number, such as 1000002".into()
        });
        for (flag, channel, name) in [
            ("--wechat-default-openid", Channel::Official, &self.wechat_default_openid),
            ("--wecom-default-user", Channel::Wecom, &self.wecom_default_user),
        ] {
            if let Some(Err(problem)) = name.as_ref().map(|name| address::check(channel, name)) {
                problems.add(format!("{flag}: {problem}"));
            }
        }
    }
}

fn exposed(secret: &Option<SecretString>) -> Option<&str> {
    secret.as_ref().map(ExposeSecret::expose_secret)
}

/// Parses a platform's base address. Also accepts the older form of the setting: the address of a
/// whole call with a placeholder for the token.
pub fn base_url(text: &str) -> Result<Url, String> {
    let base = text.split("/cgi-bin").next().unwrap_or(text);
    let url: Url = base.parse().map_err(|_| "write https://host or http://host:port".to_owned())?;
    let plain = url.query().is_none() && url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !plain {
        return Err(
            "write https://host or http://host:port, without user, password or query".into()
        );
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Example {
        #[command(flatten)]
        wechat: WechatArgs,
    }

    fn settings(arguments: &[&str]) -> (WechatArgs, Vec<String>) {
        let arguments = [&["example"], arguments].concat();
        let wechat = <Example as clap::Parser>::parse_from(arguments).wechat;
        let mut problems = Problems::default();
        wechat.validate(&mut problems);
        (wechat, problems.list().to_vec())
    }

    const OFFICIAL: [&str; 6] =
        ["--wechat-app-id", "wx7", "--wechat-app-secret", "hush", "--wechat-template-id", "t1"];

    const WECOM: [&str; 6] =
        ["--wecom-corp-id", "ww7", "--wecom-corp-secret", "hush", "--wecom-agent-id", "1000002"];

    #[test]
    fn each_account_is_there_where_all_of_it_is_set() {
        let has = |arguments: &[&str]| {
            let (wechat, problems) = settings(arguments);
            let accounts = wechat.accounts();
            let [official, wecom] =
                [Channel::Official, Channel::Wecom].map(|channel| accounts.of(channel).is_some());
            (official, wecom, problems.len())
        };
        assert_eq!(has(&[]), (false, false, 0));
        assert_eq!(has(&OFFICIAL), (true, false, 0));
        assert_eq!(has(&WECOM), (false, true, 0));
        assert_eq!(has(&[OFFICIAL, WECOM].concat()), (true, true, 0));
        assert_eq!(has(&OFFICIAL[..4]), (false, false, 1));
        assert_eq!(has(&[&OFFICIAL[..2], &WECOM[..2]].concat()), (false, false, 2));
    }

    #[test]
    fn an_address_that_means_many_people_is_refused_and_so_is_a_blank_setting() {
        for (arguments, start) in [
            (&["--wecom-default-user", "@all"][..], "--wecom-default-user: @all would"),
            (&["--wecom-default-user", "a|b"][..], "--wecom-default-user: must be one"),
            (&["--wechat-default-openid", "a b"][..], "--wechat-default-openid: must be"),
        ] {
            let (_, found) = settings(arguments);
            assert!(found.len() == 1 && found[0].starts_with(start), "{found:?}");
        }
        let (_, found) = settings(&[&WECOM[..], &["--wechat-app-id="]].concat());
        assert_eq!(found.len(), 2, "{found:?}");
        let (_, found) = settings(&[&WECOM[..5], &["0"]].concat());
        assert!(found[0].contains("1000002"), "{found:?}");
    }

    #[test]
    fn the_base_address_is_read_in_both_forms() {
        for (old, base) in [
            (
                "https://api.weixin.qq.com/cgi-bin/message/template/send?access_token={ACCESS_TOKEN}",
                "https://api.weixin.qq.com/",
            ),
            (
                "https://qyapi.weixin.qq.com/cgi-bin/message/send?access_token=",
                "https://qyapi.weixin.qq.com/",
            ),
            ("https://qyapi.weixin.qq.com/cgi-bin", "https://qyapi.weixin.qq.com/"),
        ] {
            assert_eq!(base_url(old).unwrap().as_str(), base);
        }
        assert!(base_url("http://127.0.0.1:8080").is_ok());
        for wrong in ["api.weixin.qq.com", "ftp://x", "https://u:p@x", "https://x/?token=1"] {
            assert!(base_url(wrong).is_err(), "{wrong}");
        }
    }
}
