//! `--user`: from root to a user without rights, once everything is open that needs root.
//!
//! Owns the order, which is the whole matter: supplementary groups, group, user; and the check that there is no way
//! back (setresuid(2), capabilities(7)).

use std::{ffi::CString, io, path::Path};

use nix::unistd::{
    AccessFlags, Uid, User, access, chown, getresgid, getresuid, initgroups, setresgid, setresuid,
    setuid,
};

use super::exit::Failure;

/// Finds the user. Only root can become somebody else.
pub(super) fn find(name: &str) -> Result<User, Failure> {
    let wrong = |why| Failure::Arguments(format!("--user {name}: {why}"));
    let found = User::from_name(name)
        .map_err(|error| Failure::System("the users cannot be read", error.into()))?;
    let user = found.ok_or_else(|| wrong("there is no such user"))?;
    if user.uid.is_root() {
        return Err(wrong("that is root, whose rights are to be given up"));
    }
    if !Uid::effective().is_root() && Uid::effective() != user.uid {
        return Err(wrong("only root can become another user; leave it out"));
    }
    Ok(user)
}

/// Gives a directory that was made just now to the user who is to work in it.
pub(super) fn give(directory: &Path, user: &User) -> Result<(), Failure> {
    chown(directory, Some(user.uid), Some(user.gid))
        .map_err(|error| Failure::System("the state directory cannot be given away", error.into()))
}

/// Becomes the user, for good. All threads do (nptl(7)).
pub(super) fn give_up(user: &User, directory: &Path) -> Result<(), Failure> {
    if Uid::effective().is_root() {
        become_user(user)
            .map_err(|error| Failure::System("root's rights cannot be given up", error))?;
    }
    access(directory, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|error| {
        Failure::Arguments(format!(
            "--user {}: it cannot write to {}: {error}; give it that directory (chown)",
            user.name,
            directory.display()
        ))
    })
}

fn become_user(user: &User) -> io::Result<()> {
    let name = CString::new(user.name.as_str())?;
    initgroups(&name, user.gid)?;
    setresgid(user.gid, user.gid, user.gid)?;
    setresuid(user.uid, user.uid, user.uid)?;
    let (users, groups) = (getresuid()?, getresgid()?);
    let all = [users.real, users.effective, users.saved]
        .iter()
        .all(|id| *id == user.uid)
        && [groups.real, groups.effective, groups.saved]
            .iter()
            .all(|id| *id == user.gid);
    if all && setuid(Uid::from_raw(0)).is_err() {
        Ok(())
    } else {
        Err(io::Error::other("the system has kept some of them"))
    }
}
