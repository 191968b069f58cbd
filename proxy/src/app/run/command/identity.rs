//! The user that CMD runs as.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User, getgrouplist};
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no user {0}")]
    Unknown(String),
    #[error("the users of this machine cannot be read: {0}")]
    Lookup(#[source] nix::Error),
}

/// The numbers that the kernel knows a user by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// A user other than the one that the proxy runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    ids: Ids,
    /// Missing for a number that has no name.
    account: Option<Account>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    name: String,
    home: PathBuf,
    shell: PathBuf,
}

/// What sudo(8) tells about its caller, and what it set to root's values.
const SUDO_VARIABLES: [&str; 5] = ["SUDO_COMMAND", "SUDO_USER", "SUDO_UID", "SUDO_GID", "MAIL"];

impl Identity {
    /// `--user` if given, else who called sudo, else nobody else.
    pub(in crate::app::run) fn choose(user: Option<&str>) -> Result<Option<Self>, Error> {
        let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
        Self::choose_from(user, number("SUDO_UID"), number("SUDO_GID"))
    }

    fn choose_from(
        user: Option<&str>,
        sudo_uid: Option<u32>,
        sudo_gid: Option<u32>,
    ) -> Result<Option<Self>, Error> {
        match (user, sudo_uid) {
            (Some(user), _) => Self::named(user).map(Some),
            (None, None | Some(0)) => Ok(None),
            (None, Some(uid)) => Self::numbered(uid, sudo_gid.unwrap_or(uid)).map(Some),
        }
    }

    fn named(user: &str) -> Result<Self, Error> {
        let found = match user.parse() {
            Ok(uid) => User::from_uid(Uid::from_raw(uid)),
            Err(_) => User::from_name(user),
        };
        let user = found
            .map_err(Error::Lookup)?
            .ok_or_else(|| Error::Unknown(user.to_owned()))?;
        Self::of(user)
    }

    fn numbered(uid: u32, gid: u32) -> Result<Self, Error> {
        match User::from_uid(Uid::from_raw(uid)).map_err(Error::Lookup)? {
            Some(user) => Self::of(User {
                gid: Gid::from_raw(gid),
                ..user
            }),
            None => Ok(Self {
                ids: Ids {
                    uid,
                    gid,
                    groups: vec![gid],
                },
                account: None,
            }),
        }
    }

    fn of(user: User) -> Result<Self, Error> {
        let name = CString::new(user.name.as_str()).map_err(|_nul| Error::Unknown(user.name.clone()))?;
        let groups = getgrouplist(&name, user.gid).map_err(Error::Lookup)?;
        let groups = groups.into_iter().map(Gid::as_raw).collect();
        let ids = Ids {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups,
        };
        Ok(Self {
            ids,
            account: Some(Account {
                name: user.name,
                home: user.dir,
                shell: user.shell,
            }),
        })
    }

    pub(in crate::app::run) fn ids(&self) -> Ids {
        self.ids.clone()
    }

    /// The variables that name a user, as login(1) sets them.
    pub(in crate::app::run) fn apply_environment(&self, command: &mut std::process::Command) {
        for name in SUDO_VARIABLES {
            command.env_remove(name);
        }
        if let Some(account) = &self.account {
            command.env("USER", &account.name).env("LOGNAME", &account.name);
            command.env("HOME", &account.home).env("SHELL", &account.shell);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_user_and_sudo_nothing_changes() {
        assert_eq!(Identity::choose_from(None, None, None).unwrap(), None);
        assert_eq!(Identity::choose_from(None, Some(0), Some(0)).unwrap(), None);
    }

    #[test]
    fn the_caller_of_sudo_is_taken_with_the_group_that_sudo_names() {
        let identity = Identity::choose_from(None, Some(54321), Some(54322))
            .unwrap()
            .unwrap();
        assert_eq!(
            identity.ids(),
            Ids {
                uid: 54321,
                gid: 54322,
                groups: vec![54322]
            }
        );
        assert_eq!(identity.account, None);
    }

    #[test]
    fn a_named_user_wins_over_the_caller_of_sudo() {
        let identity = Identity::choose_from(Some("root"), Some(54321), None)
            .unwrap()
            .unwrap();
        assert_eq!(identity.ids.uid, 0);
        assert_eq!(identity.account.unwrap().name, "root");
    }

    #[test]
    fn a_user_may_be_given_as_a_number() {
        assert_eq!(
            Identity::choose_from(Some("0"), None, None)
                .unwrap()
                .unwrap()
                .ids
                .uid,
            0
        );
    }

    #[test]
    fn an_unknown_user_is_an_error() {
        let error = Identity::choose_from(Some("nobody-of-that-name"), None, None).unwrap_err();
        assert_eq!(error.to_string(), "there is no user nobody-of-that-name");
    }
}
