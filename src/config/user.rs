//! As whom a child runs.

use nix::unistd::{Gid, Group, Uid, User as Account, getgrouplist};

/// A user with everything that a child needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As it was written.
    pub text: String,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The supplementary groups' numbers.
    pub groups: Vec<u32>,
    /// The home directory, where the account is known.
    pub home: Option<String>,
    /// The account's name, where it is known.
    pub name: Option<String>,
}

impl User {
    /// Reads `name`, `uid`, `name:group` or `uid:gid`. The error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let account = match user.parse() {
            Ok(uid) => Account::from_uid(Uid::from_raw(uid)),
            Err(_) => Account::from_name(user),
        }
        .map_err(|error| format!("cannot look up the user \"{user}\": {error}"))?;
        let uid = match (&account, user.parse()) {
            (Some(account), _) => account.uid.as_raw(),
            (None, Ok(uid)) => uid,
            (None, Err(_)) => return Err(format!("there is no user \"{user}\"")),
        };
        let gid = match (group, &account) {
            (Some(group), _) => find_group(group)?,
            (None, Some(account)) => account.gid.as_raw(),
            (None, None) => uid,
        };
        Ok(Self {
            text: text.to_owned(),
            uid,
            gid,
            groups: supplementary(account.as_ref(), gid)?,
            home: account.as_ref().map(|a| a.dir.display().to_string()),
            name: account.map(|a| a.name),
        })
    }
}

fn find_group(group: &str) -> Result<u32, String> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    Group::from_name(group)
        .map_err(|error| format!("cannot look up the group \"{group}\": {error}"))?
        .map(|group| group.gid.as_raw())
        .ok_or_else(|| format!("there is no group \"{group}\""))
}

fn supplementary(account: Option<&Account>, gid: u32) -> Result<Vec<u32>, String> {
    let Some(account) = account else {
        return Ok(vec![gid]);
    };
    let name = std::ffi::CString::new(account.name.as_str()).map_err(|e| e.to_string())?;
    let groups = getgrouplist(&name, Gid::from_raw(gid))
        .map_err(|error| format!("cannot list the groups of \"{}\": {error}", account.name))?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}
