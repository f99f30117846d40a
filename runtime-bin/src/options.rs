//! Options of `run` that concern the host, and those that are to come.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use engine::HostOptions;

use crate::limits::FixedLimitArgs;

/// Docker's options about the host.
#[derive(Debug, Default, Args)]
pub(crate) struct HostArgs {
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "list")]
    add_host: Vec<String>,
    /// Write the container ID to the file
    #[arg(long, value_name = "string")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Add a host device to the container: SRC, SRC:DST or SRC:DST:rwm
    #[arg(long, value_name = "list")]
    device: Vec<String>,
    /// Set custom DNS servers
    #[arg(long, value_name = "list")]
    dns: Vec<String>,
    /// Set DNS options
    #[arg(long, alias = "dns-opt", value_name = "list")]
    dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "list")]
    dns_search: Vec<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(crate) domainname: Option<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Add additional groups to join
    #[arg(long, value_name = "list")]
    group_add: Vec<String>,
    /// IPC mode to use: none, private, shareable, host or container:NAME
    #[arg(long, value_name = "string")]
    ipc: Option<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list")]
    pub(crate) label_file: Vec<PathBuf>,
    /// Logging driver for the container: local, json-file or none
    #[arg(long, value_name = "string")]
    log_driver: Option<String>,
    /// Log driver options: max-size=SIZE, max-file=N
    #[arg(long, value_name = "list")]
    log_opt: Vec<String>,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "int", allow_negative_numbers = true, default_value_t = 0)]
    oom_score_adj: i32,
    /// PID namespace to use: host or container:NAME
    #[arg(long, value_name = "string")]
    pid: Option<String>,
    /// Write the number of the container's process to the file
    #[arg(long, value_name = "string")]
    pub(crate) pidfile: Option<PathBuf>,
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Security options: no-new-privileges, seccomp=FILE, seccomp=unconfined, apparmor=unconfined,
    /// label=disable, systempaths=unconfined
    #[arg(long, value_name = "list")]
    security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes")]
    shm_size: Option<String>,
    /// Timeout (in seconds) to stop a container; -1 to wait as long as it takes
    #[arg(
        long,
        value_name = "int",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..=i64::from(u32::MAX))
    )]
    pub(crate) stop_timeout: Option<i64>,
    /// Sysctl options: kernel parameters of the container's own namespaces
    #[arg(long, value_name = "map")]
    sysctl: Vec<String>,
    /// Ulimit options: NAME=SOFT or NAME=SOFT:HARD
    #[arg(long, value_name = "ulimit")]
    ulimit: Vec<String>,
    /// UTS namespace to use: host
    #[arg(long, value_name = "string")]
    uts: Option<String>,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "list")]
    volumes_from: Vec<String>,
    #[command(flatten)]
    limits: FixedLimitArgs,
    #[command(flatten)]
    later: LaterArgs,
}

impl HostArgs {
    /// What the engine is asked for.
    ///
    /// # Errors
    /// An option was given that is to come.
    pub(crate) fn options(&self) -> anyhow::Result<HostOptions> {
        self.later.refuse()?;
        Ok(HostOptions {
            privileged: self.privileged,
            security: self.security_opt.clone(),
            ulimits: self.ulimit.clone(),
            devices: self.device.clone(),
            groups: self.group_add.clone(),
            hosts: self.add_host.clone(),
            dns: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_option.clone(),
            shm_size: self.shm_size.clone(),
            log_driver: self.log_driver.clone(),
            log_options: self.log_opt.clone(),
            sysctls: self.sysctl.clone(),
            ipc: self.ipc.clone(),
            pid: self.pid.clone(),
            uts: self.uts.clone(),
            volumes_from: self.volumes_from.clone(),
            oom_score_adj: self.oom_score_adj,
            limits: self.limits.options(),
            id_file: self.cidfile.clone(),
        })
    }
}

const NETWORKS: &str = "networks of a container's own are not there yet";

/// Docker's options that are to come, or will not: name, letter, whether they take a value, and why
/// they are refused.
const LATER: &[(&str, Option<char>, bool, &str)] = &[
    ("annotation", None, true, "annotations are not there yet"),
    ("cpu-count", None, true, "it is for Windows only"),
    ("cpu-percent", None, true, "it is for Windows only"),
    (
        "disable-content-trust",
        None,
        false,
        "images are not signed here, and each one is verified by its digests",
    ),
    ("expose", None, true, NETWORKS),
    ("gpus", None, true, "graphics cards are not there yet; use --device"),
    ("io-maxbandwidth", None, true, "it is for Windows only"),
    ("io-maxiops", None, true, "it is for Windows only"),
    ("ip", None, true, NETWORKS),
    ("ip6", None, true, NETWORKS),
    ("isolation", None, true, "it is for Windows only"),
    ("kernel-memory", None, true, "the kernel has no such limit any more; use --memory"),
    ("link", None, true, NETWORKS),
    ("link-local-ip", None, true, NETWORKS),
    ("mac-address", None, true, NETWORKS),
    ("network-alias", None, true, NETWORKS),
    ("publish", Some('p'), true, NETWORKS),
    ("publish-all", Some('P'), false, NETWORKS),
    ("runtime", None, true, "there is one runtime, this program"),
    ("storage-opt", None, true, "options of the store are not there yet"),
    ("use-api-socket", None, false, "there is no daemon, and so no socket of one"),
    ("userns", None, true, "user namespaces are not there yet"),
    ("volume-driver", None, true, "there is the driver local only"),
];

/// The options of [`LATER`] that were given. They are read so that they can be refused with a reason
/// rather than as unknown.
#[derive(Debug, Default)]
struct LaterArgs(Vec<&'static str>);

impl LaterArgs {
    fn refuse(&self) -> anyhow::Result<()> {
        for (name, _, _, why) in LATER {
            if self.0.contains(name) {
                anyhow::bail!("cannot take --{name}: {why}; leave it out");
            }
        }
        Ok(())
    }
}

impl Args for LaterArgs {
    fn augment_args(command: Command) -> Command {
        LATER.iter().fold(command, |command, (name, letter, value, why)| {
            let arg = Arg::new(*name).long(*name).help(*why).hide(true);
            let arg = letter.map_or_else(|| arg.clone(), |letter| arg.clone().short(letter));
            command.arg(match value {
                true => arg.action(ArgAction::Append).allow_hyphen_values(true),
                false => arg.action(ArgAction::SetTrue),
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for LaterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<LaterArgs, clap::Error> {
        use clap::parser::ValueSource::CommandLine;
        let names = LATER.iter().map(|(name, ..)| *name);
        let given = |name: &&'static str| matches.value_source(name) == Some(CommandLine);
        Ok(LaterArgs(names.filter(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
