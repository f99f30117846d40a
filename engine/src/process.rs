//! A process of a container, the first one or one of `exec`, as the OCI configuration has it.

use std::os::fd::BorrowedFd;

use oci_spec::runtime::{
    PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, ProcessBuilder, UserBuilder,
};

use crate::user::{self, User};
use crate::{Container, Error, ExecRequest, Ulimit, caps, config, env, options};

/// What differs between processes of a container.
struct Differs<'a> {
    args: Vec<String>,
    /// Over the container's environment.
    env: &'a [String],
    cwd: &'a str,
    tty: bool,
    user: User,
    privileged: bool,
}

/// The container's own process: `args`, as the user that the image's files below `root` say.
///
/// # Errors
/// The user is not there or no proper one; see [`user::resolve`].
pub(crate) fn first(
    container: &Container,
    args: Vec<String>,
    root: BorrowedFd<'_>,
) -> Result<Process, Error> {
    let config = &container.config;
    let user = user_of(container, root, &config.user)?;
    let differs = Differs {
        args,
        env: &[],
        cwd: &config.working_dir,
        tty: config.tty,
        user,
        privileged: false,
    };
    let mut process = build(container, differs)?;
    let adjustment = container.host_config.oom_score_adj;
    process.set_oom_score_adj(Some(adjustment).filter(|adjustment| *adjustment != 0));
    Ok(process)
}

/// A process of `exec` in the container whose root is `root`: by Docker's rules it has the
/// container's environment, user, working directory and capabilities, as far as the request does not
/// say otherwise; a terminal of its own, if any.
///
/// # Errors
/// There is no command, a value breaks a rule ([`Error::Invalid`]), or the user is no proper one;
/// see [`user::resolve`].
pub(crate) fn exec(
    container: &Container,
    request: &ExecRequest,
    root: BorrowedFd<'_>,
) -> Result<Process, Error> {
    if request.command.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("command", "", "it is empty; write a command behind the name"));
    }
    if let Some(word) = request.command.iter().find(|word| word.contains('\0')) {
        return Err(Error::invalid("command", word, "it has a NUL byte in it"));
    }
    let env = env::typed(&request.env, |name| std::env::var_os(name))?;
    let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    let cwd = match given(&request.workdir) {
        Some(path) => config::workdir(&path)?,
        None => container.config.working_dir.clone(),
    };
    let user = given(&request.user).unwrap_or_else(|| container.config.user.clone());
    let user = user_of(container, root, &user)?;
    let args = request.command.clone();
    let (tty, privileged) = (request.tty, request.privileged);
    build(container, Differs { args, env: &env, cwd: &cwd, tty, user, privileged })
}

/// A user of the container, who is in the groups of `--group-add` too.
fn user_of(container: &Container, root: BorrowedFd<'_>, text: &str) -> Result<User, Error> {
    let mut user = user::resolve(root, text)?;
    for group in container.host_config.group_add.iter().flatten() {
        let gid = user::group(root, group)?;
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
}

/// Limits as the OCI configuration has them, where -1 is the largest number.
fn rlimits(ulimits: &[Ulimit]) -> Result<Option<Vec<PosixRlimit>>, Error> {
    let value = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let mut limits = Vec::new();
    for Ulimit { name, soft, hard } in ulimits {
        let kind = format!("RLIMIT_{}", name.to_uppercase());
        let kind: PosixRlimitType = serde_json::from_value(kind.into())
            .map_err(|_| Error::option("--ulimit", name, "there is no such limit"))?;
        let limit = PosixRlimitBuilder::default().typ(kind).soft(value(*soft)).hard(value(*hard));
        limits.push(limit.build()?);
    }
    Ok(Some(limits).filter(|limits| !limits.is_empty()))
}

fn build(container: &Container, differs: Differs<'_>) -> Result<Process, Error> {
    let Differs { args, env, cwd, tty, user, privileged } = differs;
    let host = &container.host_config;
    let list = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
    let (mut add, mut drop) = (list(&host.cap_add), list(&host.cap_drop));
    if host.privileged || privileged {
        (add, drop) = (vec![caps::EVERY.to_owned()], Vec::new());
    }
    let env = env::process(container, tty, env, &user.home);
    let ids = UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .additional_gids(user.groups)
        // As Docker's daemon has it; the caller's own is no business of the container's.
        .umask(0o022_u32);
    let mut process = ProcessBuilder::default()
        .terminal(tty)
        .user(ids.build()?)
        .args(args)
        .env(env)
        .cwd(if cwd.is_empty() { "/" } else { cwd })
        .capabilities(caps::sets(&add, &drop, user.uid)?)
        .no_new_privileges(options::no_new_privileges(host))
        .build()?;
    // The crate's default is a limit of 1024 files; Docker's is none but the daemon's own.
    process.set_rlimits(rlimits(&host.ulimits)?);
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::os::fd::{AsFd, OwnedFd};

    fn image() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let users = "root:x:0:0::/root:\nwww:x:33:34::/var/www:\n";
        std::fs::write(dir.path().join("etc/passwd"), users).unwrap();
        std::fs::write(dir.path().join("etc/group"), "www:x:34:\nextra:x:50:www\n").unwrap();
        let flags = rustix::fs::OFlags::PATH;
        let root = rustix::fs::open(dir.path(), flags, rustix::fs::Mode::empty()).unwrap();
        (dir, root)
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn the_first_process_is_as_the_container_says() {
        let (_dir, root) = image();
        let mut container = testing::container();
        container.config.tty = true;
        container.config.working_dir = "/srv".to_owned();
        let process = first(&container, strings(&["a", "b"]), root.as_fd()).unwrap();
        let json = serde_json::to_value(&process).unwrap();
        assert_eq!(json["args"], serde_json::json!(["a", "b"]));
        assert_eq!((&json["terminal"], &json["cwd"]), (&true.into(), &"/srv".into()));
        let user = serde_json::json!({"uid": 0, "gid": 0, "additionalGids": [0], "umask": 0o022});
        assert_eq!(json["user"], user);
        let env = [
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME=0123456789ab",
            "TERM=xterm",
            "HOME=/root",
        ];
        assert_eq!(json["env"], serde_json::json!(env));
        assert_eq!(json["noNewPrivileges"], false);
        assert_eq!(json["capabilities"]["effective"].as_array().unwrap().len(), 14);
        for absent in ["rlimits", "apparmorProfile", "selinuxLabel", "oomScoreAdj"] {
            assert!(json.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn exec_takes_what_the_container_has_and_changes_what_is_asked_for() {
        let (_dir, root) = image();
        let mut container = testing::container();
        container.config.user = "www".to_owned();
        container.config.working_dir = "/srv".to_owned();
        container.config.tty = true;
        container.host_config.cap_drop = Some(strings(&["ALL"]));
        let exec = |request: &ExecRequest| exec(&container, request, root.as_fd());
        let plain = ExecRequest { command: strings(&["id"]), ..ExecRequest::default() };
        let process = exec(&plain).unwrap();
        assert_eq!(process.args().as_deref(), Some(&strings(&["id"])[..]));
        assert_eq!((process.user().uid(), process.user().gid()), (33, 34));
        assert_eq!(process.user().additional_gids().as_deref(), Some(&[34, 50][..]));
        assert_eq!(process.cwd().to_str(), Some("/srv"));
        assert_eq!(process.terminal(), Some(false));
        let env = process.env().as_ref().unwrap();
        assert!(
            env.contains(&"HOME=/var/www".to_owned()) && !env.iter().any(|e| e == "TERM=xterm")
        );
        let sets = process.capabilities().as_ref().unwrap();
        assert!(sets.bounding().as_ref().unwrap().is_empty());

        let process = exec(&ExecRequest {
            tty: true,
            env: strings(&["A=1"]),
            user: Some("0:5".to_owned()),
            workdir: Some("/tmp/../x".to_owned()),
            ..plain.clone()
        })
        .unwrap();
        assert_eq!((process.user().uid(), process.user().gid()), (0, 5));
        assert_eq!(process.cwd().to_str(), Some("/x"));
        let env = process.env().as_ref().unwrap();
        for entry in ["A=1", "HOME=/root", "TERM=xterm", "HOSTNAME=0123456789ab"] {
            assert!(env.contains(&entry.to_owned()), "{entry}");
        }
        for (bad, word) in [
            (ExecRequest::default(), "empty"),
            (ExecRequest { command: strings(&["a", "\0"]), ..plain.clone() }, "NUL"),
            (ExecRequest { workdir: Some("x".to_owned()), ..plain.clone() }, "absolute"),
            (ExecRequest { user: Some("4294967296".to_owned()), ..plain.clone() }, "4294967294"),
            (ExecRequest { user: Some("nobody".to_owned()), ..plain.clone() }, "find user nobody"),
        ] {
            let error = exec(&bad).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
