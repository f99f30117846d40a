//! The three files of `/etc` that are the container's and not the image's.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags};

use crate::{Config, Container, Error, HostConfig};

/// What is bound over the image's: name in the container's directory, and target.
pub(crate) const FILES: [(&str, &str); 3] =
    [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")];

/// The lines that Docker begins with.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// Writes `hostname`, `hosts` and `resolv.conf`, mode 0644, to the container's directory `dir`.
///
/// With the host's network, hosts and resolv.conf are copies of the host's. Without, the container's
/// name is on the loopback address, and resolv.conf is the host's without name servers on the
/// host's loopback device, which is another one; Docker writes public servers in their place, but
/// there is no way to reach any.
///
/// # Errors
/// A file of the host cannot be read, or one of the container's not written ([`Error::System`]).
pub(crate) fn write(container: &Container, dir: BorrowedFd<'_>) -> Result<(), Error> {
    let Config { hostname, domainname, .. } = &container.config;
    let resolv_conf = host_file("/etc/resolv.conf")?;
    let (mut hosts, resolv_conf) = match container.is_host_network() {
        true => (host_file("/etc/hosts")?, resolv_conf),
        false => {
            let full = match domainname.is_empty() {
                true => hostname.clone(),
                false => format!("{hostname}.{domainname}"),
            };
            (hosts(&full).into_bytes(), without_loopback(&resolv_conf))
        }
    };
    for entry in container.host_config.extra_hosts.iter().flatten() {
        if let Some((name, address)) = entry.split_once(':') {
            hosts.extend_from_slice(format!("{address}\t{name}\n").as_bytes());
        }
    }
    let resolv_conf = resolver(&container.host_config, resolv_conf);
    for (name, content) in [
        ("resolv.conf", resolv_conf),
        ("hostname", format!("{hostname}\n").into_bytes()),
        ("hosts", hosts),
    ] {
        put(dir, name, &content).map_err(|error| Error::system("write", name, error))?;
    }
    Ok(())
}

/// A file of the host; what is not there is empty, as in Docker.
fn host_file(path: &str) -> Result<Vec<u8>, Error> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(|error| Error::system("read", path, error)),
    }
}

fn hosts(hostname: &str) -> String {
    if hostname == "localhost" {
        return LOCALHOST.to_owned();
    }
    // A name with a domain is known without it too.
    let names = match hostname.split_once('.') {
        Some((short, _)) => format!("{hostname} {short}"),
        None => hostname.to_owned(),
    };
    format!("{LOCALHOST}127.0.0.1\t{names}\n")
}

/// `resolv.conf` with what the user says of it in place of the host's lines of that kind.
fn resolver(config: &HostConfig, resolv_conf: Vec<u8>) -> Vec<u8> {
    let HostConfig { dns, dns_search, dns_options, .. } = config;
    // `.` alone is no domain to search in.
    let search = if dns_search == &["."] { String::new() } else { dns_search.join(" ") };
    let said = [
        ("nameserver", !dns.is_empty(), dns.clone()),
        ("search", !dns_search.is_empty(), vec![search]),
        ("options", !dns_options.is_empty(), vec![dns_options.join(" ")]),
    ];
    let mut resolv_conf = resolv_conf;
    for (word, _, values) in said.into_iter().filter(|(_, said, _)| *said) {
        let is_other = |line: &&[u8]| {
            let text = String::from_utf8_lossy(line);
            let first = text.split_ascii_whitespace().next();
            first != Some(word) && !(word == "search" && first == Some("domain"))
        };
        let lines = resolv_conf.split_inclusive(|&byte| byte == b'\n').filter(is_other);
        let mut kept: Vec<u8> = lines.flatten().copied().collect();
        if !kept.is_empty() && !kept.ends_with(b"\n") {
            kept.push(b'\n');
        }
        for value in values.iter().filter(|value| !value.is_empty()) {
            kept.extend_from_slice(format!("{word} {value}\n").as_bytes());
        }
        resolv_conf = kept;
    }
    resolv_conf
}

fn without_loopback(resolv_conf: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(resolv_conf.len());
    for line in resolv_conf.split_inclusive(|&byte| byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        let mut words = text.split_ascii_whitespace();
        let server = words.next().filter(|&word| word == "nameserver").and(words.next());
        // An IPv6 address may have an interface behind it.
        let address = server.and_then(|server| server.split('%').next()?.parse::<IpAddr>().ok());
        if !address.is_some_and(|address| address.is_loopback()) {
            kept.extend_from_slice(line);
        }
    }
    kept
}

fn put(dir: BorrowedFd<'_>, name: &str, content: &[u8]) -> std::io::Result<()> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644))?);
    // What is there since `create` is left: ext4 puts a file on the disk at once that was cut and written again.
    let mut old = Vec::with_capacity(content.len() + 1);
    Read::by_ref(&mut file).take(content.len() as u64 + 1).read_to_end(&mut old)?;
    if !old.is_empty() && old == content {
        return Ok(());
    }
    // The umask of whoever calls must not decide what the container sees.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
    if !old.is_empty() {
        file.set_len(0)?;
        file.rewind()?;
    }
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    fn written(container: &Container) -> impl Fn(&str) -> String + use<> {
        let temp = tempfile::tempdir().unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let dir = rustix::fs::open(temp.path(), flags, Mode::empty()).unwrap();
        write(container, dir.as_fd()).unwrap();
        write(container, dir.as_fd()).unwrap(); // over what is there
        move |name| {
            let path = temp.path().join(name);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
            std::fs::read_to_string(path).unwrap()
        }
    }

    #[test]
    fn without_a_network() {
        let mut container = testing::container();
        container.config.hostname = "web.example".to_owned();
        let file = written(&container);
        assert_eq!(file("hostname"), "web.example\n");
        let hosts = file("hosts");
        assert!(hosts.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost"), "{hosts}");
        assert!(hosts.ends_with("\n127.0.0.1\tweb.example web\n"), "{hosts}");
        let host = std::fs::read("/etc/resolv.conf").unwrap_or_default();
        assert_eq!(file("resolv.conf").into_bytes(), without_loopback(&host));
        assert_eq!(super::hosts("localhost"), LOCALHOST);
    }

    #[test]
    fn with_the_hosts() {
        let mut container = testing::container();
        container.host_config.network_mode = "host".to_owned();
        let file = written(&container);
        for name in ["hosts", "resolv.conf"] {
            let host = std::fs::read_to_string(format!("/etc/{name}")).unwrap_or_default();
            assert_eq!(file(name), host);
        }
        assert_eq!(file("hostname"), "0123456789ab\n");
    }

    #[test]
    fn name_servers_on_the_loopback_device_are_left_out() {
        let all = b"# comment\nnameserver 127.0.0.53\nsearch a b\nnameserver\t::1\n\
            nameserver 192.0.2.1\nnameserver fe80::1%eth0\noptions ndots:1\nnameserver\nodd \xff";
        let expected = b"# comment\nsearch a b\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n\
            options ndots:1\nnameserver\nodd \xff";
        assert_eq!(without_loopback(all), expected);
    }

    #[test]
    fn what_the_user_says_takes_the_place_of_the_hosts() {
        let host = b"nameserver 192.0.2.1\nsearch a b\noptions ndots:1".to_vec();
        let config = |dns: &[&str], search: &[&str], options: &[&str]| {
            let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
            HostConfig {
                dns: list(dns),
                dns_search: list(search),
                dns_options: list(options),
                ..HostConfig::default()
            }
        };
        let text = |config| String::from_utf8(resolver(&config, host.clone())).unwrap();
        assert_eq!(text(config(&[], &[], &[])).as_bytes(), host);
        assert_eq!(
            text(config(&["1.1.1.1", "::1"], &["c", "d"], &["x"])),
            "nameserver 1.1.1.1\nnameserver ::1\nsearch c d\noptions x\n"
        );
        assert_eq!(text(config(&[], &["."], &[])), "nameserver 192.0.2.1\noptions ndots:1\n");
        let domain = resolver(&config(&[], &["c"], &[]), b"domain x\n".to_vec());
        assert_eq!(domain, b"search c\n");
    }

    #[test]
    fn hosts_are_added_and_a_domain_is_part_of_the_name() {
        let mut container = testing::container();
        container.config.hostname = "web".to_owned();
        container.config.domainname = "example".to_owned();
        container.host_config.extra_hosts = Some(vec!["a:1.2.3.4".into(), "b:::1".into()]);
        let hosts = written(&container)("hosts");
        assert!(hosts.ends_with("\n127.0.0.1\tweb.example web\n1.2.3.4\ta\n::1\tb\n"), "{hosts}");
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let canary = temp.path().join("canary");
        std::fs::write(&canary, "canary").unwrap();
        std::os::unix::fs::symlink(&canary, temp.path().join("hosts")).unwrap();
        let dir = rustix::fs::open(temp.path(), OFlags::PATH, Mode::empty()).unwrap();
        let error = write(&testing::container(), dir.as_fd()).unwrap_err().to_string();
        assert!(error.starts_with("cannot write hosts: "), "{error}");
        assert_eq!(std::fs::read(&canary).unwrap(), b"canary");
    }
}
