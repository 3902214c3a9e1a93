// SPDX-License-Identifier: Apache-2.0
//! Where the bus is and who we are on it: command-line flags, their
//! environment variables, and contexts of the `nats` command line, merged into
//! one [`Settings`].
//!
//! Each setting comes from the first of: flag, environment, named context,
//! selected context, default. Credentials count as one setting: a flag never
//! mixes with the credentials of a context.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use crate::context::{self, Context};
use crate::error::Error;

/// Where NATS is when nobody says.
const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";

/// Connection settings, named as those of the `nats` command line.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// NATS server, several separated by commas [default: nats://127.0.0.1:4222].
    #[arg(short = 's', long, env = "NATS_URL", value_name = "URL", global = true)]
    pub server: Option<String>,
    /// Context of the nats command line to take settings from [default: the selected one].
    #[arg(long, env = "NATS_CONTEXT", value_name = "NAME", global = true)]
    pub context: Option<String>,
    /// Credentials file (JWT and seed).
    #[arg(long, env = "NATS_CREDS", value_name = "FILE", global = true)]
    pub creds: Option<PathBuf>,
    /// File with an nkey seed.
    #[arg(long, env = "NATS_NKEY", value_name = "FILE", global = true)]
    pub nkey: Option<PathBuf>,
    /// User name, or a token when no password is given.
    #[arg(long, env = "NATS_USER", value_name = "USER", global = true)]
    pub user: Option<String>,
    /// Password of --user.
    #[arg(
        long,
        env = "NATS_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        global = true
    )]
    pub password: Option<Secret>,
    /// Certificate authority that the server's certificate is checked against.
    #[arg(long, env = "NATS_CA", value_name = "FILE", global = true)]
    pub tlsca: Option<PathBuf>,
    /// Client certificate.
    #[arg(long, env = "NATS_CERT", value_name = "FILE", global = true)]
    pub tlscert: Option<PathBuf>,
    /// Key of the client certificate.
    #[arg(long, env = "NATS_KEY", value_name = "FILE", global = true)]
    pub tlskey: Option<PathBuf>,
}

/// Text that never shows itself in logs or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for the one place that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// How we prove who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Auth {
    /// Not at all; or by `nats://user:password@host`.
    Open,
    /// A credentials file with JWT and seed.
    Creds(PathBuf),
    /// A file with an nkey seed.
    Nkey(PathBuf),
    /// User and password.
    Password { user: String, password: Secret },
    /// A token.
    Token(Secret),
    /// JWT and seed as text, from a context.
    Jwt { jwt: String, seed: Secret },
}

/// The merged settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Servers, separated by commas.
    pub(crate) servers: String,
    pub(crate) auth: Auth,
    pub(crate) ca: Option<PathBuf>,
    /// Certificate and key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    pub(crate) tls_first: bool,
    /// Only a context can set it.
    pub(crate) inbox_prefix: Option<String>,
}

impl Settings {
    /// Merges flags and environment (clap has done so already) with contexts.
    pub(crate) fn resolve(args: &ConnectArgs) -> Result<Self, Error> {
        Self::resolve_in(args, context::contexts_dir().as_deref())
    }

    fn resolve_in(args: &ConnectArgs, contexts: Option<&Path>) -> Result<Self, Error> {
        let ConnectArgs {
            server,
            context,
            creds: _,
            nkey: _,
            user: _,
            password: _,
            tlsca,
            tlscert,
            tlskey,
        } = args;
        // An empty variable is how compose files and shells say "not set".
        let name = context.as_deref().filter(|name| !name.is_empty());
        let context = context::load(contexts, name)?.unwrap_or_default();
        let auth = match auth_from_args(args)? {
            Some(auth) => auth,
            None => auth_from_context(&context)?,
        };
        let cert = file(tlscert).or_else(|| path(&context.cert));
        let key = file(tlskey).or_else(|| path(&context.key));
        let client = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Error::Half {
                    given: "--tlscert",
                    missing: "--tlskey",
                });
            }
            (None, Some(_)) => {
                return Err(Error::Half {
                    given: "--tlskey",
                    missing: "--tlscert",
                });
            }
        };
        Ok(Self {
            servers: text(server)
                .or_else(|| set(&context.url))
                .unwrap_or_else(|| DEFAULT_SERVER.to_owned()),
            auth,
            ca: file(tlsca).or_else(|| path(&context.ca)),
            client,
            tls_first: context.tls_first,
            inbox_prefix: set(&context.inbox_prefix),
        })
    }

    /// The servers for people: without users and passwords.
    pub(crate) fn servers_shown(&self) -> String {
        let plain = |server: &str| match (server.split_once("://"), server.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            (None, Some((_, host))) => host.to_owned(),
            (Some(_) | None, None) => server.to_owned(),
        };
        self.servers
            .split(',')
            .map(|server| plain(server.trim()))
            .collect::<Vec<_>>()
            .join(",")
    }
}

fn auth_from_args(args: &ConnectArgs) -> Result<Option<Auth>, Error> {
    let password = args
        .password
        .clone()
        .filter(|secret| !secret.reveal().is_empty());
    Ok(
        match (
            file(&args.creds),
            file(&args.nkey),
            text(&args.user),
            password,
        ) {
            (Some(creds), _, _, _) => Some(Auth::Creds(creds)),
            (None, Some(nkey), _, _) => Some(Auth::Nkey(nkey)),
            (None, None, Some(user), Some(password)) => Some(Auth::Password { user, password }),
            (None, None, Some(token), None) => Some(Auth::Token(Secret(token))),
            (None, None, None, Some(_)) => {
                return Err(Error::Half {
                    given: "--password",
                    missing: "--user",
                });
            }
            (None, None, None, None) => None,
        },
    )
}

fn auth_from_context(context: &Context) -> Result<Auth, Error> {
    Ok(if let Some(creds) = path(&context.creds) {
        Auth::Creds(creds)
    } else if let (Some(jwt), Some(seed)) = (set(&context.user_jwt), set(&context.user_seed)) {
        Auth::Jwt {
            jwt,
            seed: Secret(seed),
        }
    } else if let Some(nkey) = path(&context.nkey) {
        Auth::Nkey(nkey)
    } else if let Some(user) = set(&context.user) {
        match set(&context.password) {
            Some(password) => Auth::Password {
                user,
                password: Secret(password),
            },
            None => Auth::Token(Secret(user)),
        }
    } else if let Some(token) = set(&context.token) {
        Auth::Token(Secret(token))
    } else {
        Auth::Open
    })
}

fn set(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn text(value: &Option<String>) -> Option<String> {
    value.as_deref().and_then(set)
}

fn file(value: &Option<PathBuf>) -> Option<PathBuf> {
    value.clone().filter(|path| !path.as_os_str().is_empty())
}

/// A path of a context, where `~/` stands for the home folder.
fn path(text: &str) -> Option<PathBuf> {
    let text = set(text)?;
    Some(match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        (Some(_) | None, _) => PathBuf::from(text),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn contexts() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("context")).unwrap();
        std::fs::write(dir.path().join("context.txt"), "site").unwrap();
        std::fs::write(
            dir.path().join("context/site.json"),
            r#"{"url":"nats://site:1","nkey":"/site.nk","ca":"/ca.pem","inbox_prefix":"_INBOX.me"}"#,
        )
        .unwrap();
        dir
    }

    #[test]
    fn nothing_set_is_the_local_server_without_credentials() {
        let settings = Settings::resolve_in(&ConnectArgs::default(), None).unwrap();
        let expected = Settings {
            servers: DEFAULT_SERVER.into(),
            auth: Auth::Open,
            ca: None,
            client: None,
            tls_first: false,
            inbox_prefix: None,
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn a_flag_beats_the_context_and_the_rest_stays() {
        let dir = contexts();
        let args = ConnectArgs {
            server: Some("nats://flag:1".into()),
            ..ConnectArgs::default()
        };
        let settings = Settings::resolve_in(&args, Some(dir.path())).unwrap();
        let expected = Settings {
            servers: "nats://flag:1".into(),
            auth: Auth::Nkey("/site.nk".into()),
            ca: Some("/ca.pem".into()),
            client: None,
            tls_first: false,
            inbox_prefix: Some("_INBOX.me".into()),
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn credentials_of_flag_and_context_never_mix() {
        let dir = contexts();
        let args = ConnectArgs {
            user: Some("u".into()),
            password: Some(Secret("p".into())),
            ..ConnectArgs::default()
        };
        let settings = Settings::resolve_in(&args, Some(dir.path())).unwrap();
        assert_eq!(
            settings.auth,
            Auth::Password {
                user: "u".into(),
                password: Secret("p".into())
            }
        );
    }

    #[test]
    fn empty_variables_count_as_not_set() {
        let args = ConnectArgs {
            server: Some(String::new()),
            context: Some(String::new()),
            nkey: Some(PathBuf::new()),
            user: Some(String::new()),
            ..ConnectArgs::default()
        };
        assert_eq!(Settings::resolve_in(&args, None).unwrap().auth, Auth::Open);
    }

    #[test]
    fn half_a_pair_is_refused() {
        let password = ConnectArgs {
            password: Some(Secret("p".into())),
            ..ConnectArgs::default()
        };
        let cert = ConnectArgs {
            tlscert: Some("/c".into()),
            ..ConnectArgs::default()
        };
        for args in [password, cert] {
            assert!(matches!(
                Settings::resolve_in(&args, None),
                Err(Error::Half { .. })
            ));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let args = ConnectArgs {
            server: Some("nats://u:hunter2@a:1, b:2".into()),
            user: Some("u".into()),
            password: Some(Secret("hunter2".into())),
            ..ConnectArgs::default()
        };
        let settings = Settings::resolve_in(&args, None).unwrap();
        assert!(!format!("{:?}", settings.auth).contains("hunter2"));
        assert_eq!(settings.servers_shown(), "nats://a:1,b:2");
    }
}
