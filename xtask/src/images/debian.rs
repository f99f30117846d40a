//! Images of Debian packages: a base layer, packages above it, configuration above those.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use serde_json::json;

use super::image::{Image, Layer};
use super::tarball::{Kind, Node};
use super::tree::Tree;
use crate::apt::Archive;

pub(crate) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every image of Debian packages stands on.
const BASE: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "debianutils",
    "findutils",
    "grep",
    "hostname",
    "libc-bin",
    "mount",
    "ncurses-base",
    "procps",
    "sed",
    "usr-is-merged",
    "util-linux",
];

/// Packages that only maintainer scripts and modules that are off need, by the start of their
/// names.
const UNUSED: &[&str] = &[
    "debconf_",
    "dpkg_",
    "libdebconfclient0_",
    "libfile-find-rule-perl_",
    "libperl",
    "libnumber-compare-perl_",
    "libtext-glob-perl_",
    "perl",
    "usrmerge_",
];

/// Files that maintainer scripts copy: from where, and where to.
const COPIES: &[(&str, &str)] = &[
    ("usr/share/base-passwd/passwd.master", "etc/passwd"),
    ("usr/share/base-passwd/group.master", "etc/group"),
    ("usr/share/base-files/profile", "etc/profile"),
    ("usr/share/base-files/dot.bashrc", "root/.bashrc"),
    ("usr/share/base-files/dot.profile", "root/.profile"),
    ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
];

/// Apache's modules, as Debian switches them on.
const APACHE: &[&str] = &[
    "access_compat",
    "alias",
    "auth_basic",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_host",
    "authz_user",
    "autoindex",
    "deflate",
    "dir",
    "env",
    "filter",
    "mime",
    "mpm_event",
    "negotiation",
    "reqtimeout",
    "setenvif",
    "status",
];

/// File capabilities as the kernel stores them (capabilities(7)): revision 2 with the effective
/// bit, then the low words of the permitted and the inheritable set, then the high words.
const fn capabilities(permitted: u32) -> [u8; 20] {
    let mut value = [0; 20];
    value[0] = 0x01;
    value[3] = 0x02;
    let [a, b, c, d] = permitted.to_le_bytes();
    (value[4], value[5], value[6], value[7]) = (a, b, c, d);
    value
}

const CAP_NET_RAW: [u8; 20] = capabilities(1 << 13);
/// A set of which one byte is a newline.
const CAP_DAC_OVERRIDE_FOWNER: [u8; 20] = capabilities(1 << 1 | 1 << 3);

/// Debian's archive, and the base layer when an image has asked for it.
pub(crate) struct Debian<'a> {
    cache: &'a Path,
    archive: OnceLock<Archive>,
    base: OnceLock<Base>,
}

struct Base {
    layer: Arc<Layer>,
    tree: Tree,
    debs: BTreeSet<PathBuf>,
}

/// An image in the making: the sum of its layers, and the layers.
struct Stack<'a> {
    debian: &'a Debian<'a>,
    names: Vec<&'a str>,
    debs: BTreeSet<PathBuf>,
    /// Packages to leave out, by the start of their names.
    unused: Vec<&'a str>,
    tree: Tree,
    layers: Vec<Arc<Layer>>,
}

impl<'a> Debian<'a> {
    pub(crate) fn new(cache: &'a Path) -> Debian<'a> {
        Debian { cache, archive: OnceLock::new(), base: OnceLock::new() }
    }

    /// Debian's archive, opened on first use.
    pub(crate) fn archive(&self) -> Result<&Archive> {
        if let Some(archive) = self.archive.get() {
            return Ok(archive);
        }
        let archive = Archive::open(self.cache)?;
        Ok(self.archive.get_or_init(|| archive))
    }

    fn base(&self) -> Result<&Base> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let debs: BTreeSet<PathBuf> = self.archive()?.fetch(BASE)?.into_iter().collect();
        let mut tree = Tree::default();
        tree.add_packages(&used(&debs, UNUSED))?;
        for (from, to) in COPIES {
            let content = tree.content(from)?.to_vec();
            tree.file(to, 0o644, content);
        }
        tree.file("etc/shadow", 0o640, "root:*:20089:0:99999:7:::\n");
        tree.put("etc/shells", Node::file("/bin/sh\n/bin/bash\n", 0o644));
        tree.link("usr/bin/awk", "mawk");
        tree.link("usr/bin/sh", "dash");
        for (folder, mode) in [("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("tmp", 0o1777)] {
            tree.directory(folder, mode);
        }
        tree.merge_usr();
        let layer = Layer::of("COPY debian /", &tree)?;
        Ok(self.base.get_or_init(|| Base { layer, tree, debs }))
    }

    fn stack(&'a self) -> Result<Stack<'a>> {
        let base = self.base()?;
        Ok(Stack {
            debian: self,
            names: BASE.to_vec(),
            debs: base.debs.clone(),
            unused: UNUSED.to_vec(),
            tree: base.tree.clone(),
            layers: vec![base.layer.clone()],
        })
    }

    /// nginx, and below /srv/data what unpacking has to get right.
    pub(crate) fn nginx(&'a self) -> Result<Image> {
        let mut stack = self.stack()?;
        stack.install(&["nginx", "iputils-ping"], |tree| {
            let page = tree.content("usr/share/nginx/html/index.html")?.to_vec();
            tree.file("var/www/html/index.nginx-debian.html", 0o644, page);
            tree.link("etc/nginx/sites-enabled/default", "/etc/nginx/sites-available/default");
            let ping = tree.node_mut("usr/bin/ping")?;
            *ping = ping.clone().with_xattr("security.capability", &CAP_NET_RAW);
            Ok(())
        })?;
        let entrypoint = include_str!("files/docker-entrypoint.sh");
        let mut tree = Tree::default();
        tree.file("docker-entrypoint.sh", 0o755, entrypoint);
        stack.layers.push(Layer::of("COPY docker-entrypoint.sh / # buildkit", &tree)?);
        let mut tree = Tree::default();
        let scripts = "docker-entrypoint.d";
        tree.file(
            &format!("{scripts}/10-show-env.sh"),
            0o755,
            include_str!("files/10-show-env.sh"),
        );
        tree.file(&format!("{scripts}/20-port.sh"), 0o755, include_str!("files/20-port.sh"));
        stack.layers.push(Layer::of("COPY *.sh /docker-entrypoint.d", &tree)?);

        let mut tree = Tree::default();
        // A whiteout, and an opaque directory: what the package put there is gone.
        tree.file("etc/nginx/sites-enabled/.wh.default", 0, "");
        tree.file("var/www/html/.wh..wh..opq", 0, "");
        tree.file("var/www/html/index.html", 0o644, "<h1>It is nginx.</h1>\n");
        tree.file("etc/nginx/conf.d/default.conf", 0o644, include_str!("files/nginx.conf"));
        // Logs to the container's own output, as in the official image.
        tree.link("var/log/nginx/access.log", "/dev/stdout");
        tree.link("var/log/nginx/error.log", "/dev/stderr");
        oddities(&mut tree, stack.tree.content("usr/bin/id")?);
        stack.layers.push(Layer::of("RUN configure", &tree)?);
        let config = json!({
            "User": "root",
            "ExposedPorts": {"80/tcp": {}},
            "Env": [PATH, "NGINX_PORT=80", "EMPTY=", "WITH_EQUALS=a=b c"],
            "Entrypoint": ["/docker-entrypoint.sh"],
            "Cmd": ["nginx", "-g", "daemon off;"],
            "Volumes": {"/var/cache/nginx": {}},
            "WorkingDir": "/srv/not/made/yet",
            "Labels": {"maintainer": "nobody"},
            "StopSignal": "SIGQUIT",
        });
        Ok(stack.image("nginx", config))
    }

    /// Apache.
    pub(crate) fn httpd(&'a self) -> Result<Image> {
        let mut stack = self.stack()?;
        stack.unused.push("libicu"); // 38 MB for a filter of XML that is off
        stack.install(&["apache2"], |tree| {
            for module in APACHE {
                for kind in ["conf", "load"] {
                    let file = format!("etc/apache2/mods-available/{module}.{kind}");
                    if tree.content(&file).is_ok() {
                        let link = format!("etc/apache2/mods-enabled/{module}.{kind}");
                        tree.link(&link, &format!("../mods-available/{module}.{kind}"));
                    }
                }
            }
            Ok(())
        })?;
        let mut tree = Tree::default();
        tree.file("etc/apache2/ports.conf", 0o644, "Listen ${HTTPD_PORT}\n");
        tree.file("etc/apache2/conf-enabled/image.conf", 0o644, include_str!("files/httpd.conf"));
        tree.file("var/www/html/index.html", 0o644, "<h1>It works!</h1>\n");
        let start = include_str!("files/httpd-foreground");
        tree.file("usr/local/bin/httpd-foreground", 0o755, start);
        stack.layers.push(Layer::of("RUN configure", &tree)?);
        let config = json!({
            "ExposedPorts": {"80/tcp": {}},
            "Env": [PATH, "HTTPD_PREFIX=/etc/apache2", "HTTPD_PORT=80"],
            "Cmd": ["httpd-foreground"],
            "Volumes": {"/var/www/html": {}, "/var/log/apache2": {}},
            "WorkingDir": "/var/www/html",
            "StopSignal": "SIGWINCH",
        });
        Ok(stack.image("httpd", config))
    }

    /// Tools to look at a network.
    pub(crate) fn netshoot(&'a self) -> Result<Image> {
        let mut stack = self.stack()?;
        stack.install(&["iproute2", "iptables", "libcap2-bin"], |tree| {
            for name in ["iptables", "ip6tables"] {
                tree.link(&format!("usr/sbin/{name}"), &format!("{name}-nft"));
            }
            Ok(())
        })?;
        let tools =
            ["curl", "tcpdump", "iputils-ping", "netcat-openbsd", "dnsutils", "strace", "socat"];
        stack.install(&tools, |tree| {
            tree.link("usr/bin/nc", "nc.openbsd");
            Ok(())
        })?;
        let config = json!({
            "Env": [PATH, "PS1=netshoot# "],
            "Entrypoint": ["/bin/bash"],
            "Cmd": ["-l"],
            "WorkingDir": "/root",
        });
        Ok(stack.image("netshoot", config))
    }

    /// Compilers and interpreters: more than a gigabyte in ten layers.
    pub(crate) fn big(&'a self) -> Result<Image> {
        let mut stack = self.stack()?;
        stack.unused.clear();
        // What the base left out comes with the first layer.
        let left_out = |deb: &PathBuf| used(&BTreeSet::from([deb.clone()]), UNUSED).is_empty();
        stack.debs.retain(|deb| !left_out(deb));
        for packages in [
            &["git", "curl", "perl", "openssh-client", "xz-utils"][..],
            &["gcc", "g++", "make", "libc6-dev", "gdb"],
            &["python3", "python3-dev", "python3-pip"],
            &["python3-numpy", "python3-scipy"],
            &["ruby", "php-cli", "libboost-dev"],
            &["golang-go", "golang-src"],
            &["nodejs", "npm"],
            &["linux-headers-amd64"],
        ] {
            stack.install(packages, |_| Ok(()))?;
        }
        let mut tree = Tree::default();
        tree.file("app/main.py", 0o644, "print('hello from big')\n");
        tree.file("usr/share/.wh.gdb", 0, "");
        stack.layers.push(Layer::of("RUN tidy and configure", &tree)?);
        let config = json!({
            "Env": [PATH, "LANG=C.UTF-8"],
            "WorkingDir": "/app",
            "Cmd": ["python3", "main.py"],
        });
        Ok(stack.image("big", config))
    }
}

impl Stack<'_> {
    /// A layer of these packages and what they need, and of what `configure` adds to it.
    fn install(
        &mut self,
        names: &[&'static str],
        configure: impl FnOnce(&mut Tree) -> Result<()>,
    ) -> Result<()> {
        self.names.extend(names);
        let debs: BTreeSet<PathBuf> =
            self.debian.archive()?.fetch(&self.names)?.into_iter().collect();
        let below = self.tree.clone();
        let new = debs.difference(&self.debs).cloned().collect();
        self.tree.add_packages(&used(&new, &self.unused))?;
        configure(&mut self.tree)?;
        self.debs = debs;
        let step = format!("RUN apt-get install {}", names.join(" "));
        self.layers.push(Layer::of(&step, &self.tree.above(&below))?);
        Ok(())
    }

    fn image(self, name: &str, config: serde_json::Value) -> Image {
        let mut image = Image::new(name, self.layers, config);
        let file = |deb: &PathBuf| Some(deb.file_name()?.to_string_lossy().into_owned());
        image.packages = used(&self.debs, &self.unused).iter().filter_map(file).collect();
        image
    }
}

/// The packages whose files an image gets.
fn used(debs: &BTreeSet<PathBuf>, unused: &[&str]) -> Vec<PathBuf> {
    let is_used = |deb: &&PathBuf| {
        let name = deb.file_name().unwrap_or_default().to_string_lossy();
        !unused.iter().any(|start| name.starts_with(start))
    };
    debs.iter().filter(is_used).cloned().collect()
}

/// What is rare in images and yet must arrive.
fn oddities(tree: &mut Tree, program: &[u8]) {
    let data = "srv/data";
    // One file, two names in two directories.
    tree.file(&format!("{data}/a/original"), 0o644, "two names\n");
    let original = format!("{data}/a/original");
    tree.put(format!("{data}/b/other name"), Node::hardlink(original));
    tree.put(format!("{data}/setuid-id"), Node::file(program, 0o6755));
    // A link to a directory, one that leads nowhere, and an absolute one.
    tree.link(&format!("{data}/link-to-dir"), "a");
    tree.link(&format!("{data}/dangling"), "nowhere");
    tree.link(&format!("{data}/absolute"), "/srv/data/b");
    // Paths of more than 100 and of more than 255 characters, and the longest name there is.
    tree.file(&format!("{data}/{}/file", "hundred-".repeat(13)), 0o644, "more than 100\n");
    let deep = ["thirty-characters-in-this-name"; 12].join("/");
    tree.file(&format!("{data}/{deep}/file"), 0o644, "more than 255\n");
    tree.file(&format!("{data}/{}", "n".repeat(255)), 0o644, "a name of 255\n");
    tree.file(&format!("{data}/na\u{ef}ve \u{2603}"), 0o644, "not ASCII\n");
    // 16 MiB, nearly all zeros.
    let mut sparse = vec![0; 16 << 20];
    for at in [0, 5 << 20, (16 << 20) - 6] {
        sparse[at..at + 6].copy_from_slice(b"island");
    }
    tree.file(&format!("{data}/sparse"), 0o644, sparse);
    // Another owner without permissions, and an extended attribute.
    let private = Node::file("uid 1234\n", 0).owned_by(1234, 2345);
    tree.put(format!("{data}/private"), private);
    let attribute = Node::new(Kind::File(b"user.comment\n".to_vec()), 0o644);
    tree.put(format!("{data}/attribute"), attribute.with_xattr("user.comment", b"hello"));
    let capable = Node::file("a newline in an attribute\n", 0o755);
    let capable = capable.with_xattr("security.capability", &CAP_DAC_OVERRIDE_FOWNER);
    tree.put(format!("{data}/newline-capability"), capable);
}
