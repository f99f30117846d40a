//! `pull`, and what `run` and `create` do where the store lacks an image.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use engine::{Engine, Error, ImageArg, PullRequest, Pulled, Reference, RunRequest, StoreError};

use crate::cli::{DurableArg, FormArg, ImageLimitArgs};
use crate::log::{self, Level};
use crate::output;
use crate::progress::Bar;
use crate::run::given;

/// `pull`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    durable: DurableArg,
    #[command(flatten)]
    layers: FormArg,
    /// Registry that may be spoken to without TLS: host or host:port (those on this machine always may)
    #[arg(long, value_name = "list")]
    insecure_registry: Vec<String>,
    #[command(flatten)]
    limits: ImageLimitArgs,
    /// Set platform if the registry has the image for several: os/arch[/variant]
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// Names of images
    #[arg(required = true, value_name = "NAME[:TAG|@DIGEST]")]
    names: Vec<String>,
}

/// The options of `run` and `create` about pulling.
#[derive(Debug, Default, Args)]
pub(crate) struct PullOptions {
    /// Registry that may be spoken to without TLS: host or host:port (those on this machine always may)
    #[arg(long, value_name = "list")]
    insecure_registry: Vec<String>,
    /// Pull image before running ("always", "missing", "never")
    #[arg(long, value_name = "string", value_enum, default_value_t)]
    pull: Policy,
    /// Suppress the pull output
    #[arg(short, long)]
    quiet: bool,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Policy {
    Always,
    #[default]
    Missing,
    Never,
}

/// Pulls each, and says of each what came.
pub(crate) fn pull(root: &Path, args: &PullArgs) -> anyhow::Result<u8> {
    let platform = given(args.platform.clone()).map(|text| text.parse()).transpose()?;
    let request = PullRequest { platform, insecure: args.insecure_registry.clone(), notify: None };
    // All names before anything is fetched.
    let names: Vec<Reference> =
        args.names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    let engine =
        Engine::open(root)?.with_durable(args.durable.durable).with_layers(args.layers.into());
    let engine = args.limits.hold(engine)?;
    for (name, given) in names.iter().zip(&args.names) {
        if !args.quiet {
            if name.tag() == Some("latest") && !given.ends_with(":latest") {
                output::print("Using default tag: latest\n")?;
            }
            output::print(&from(name))?;
        }
        let pulled = fetch(&engine, name, request.clone(), args.quiet)?;
        let report = if args.quiet { String::new() } else { report(name, &pulled) };
        output::print(&format!("{report}{name}\n"))?;
    }
    Ok(0)
}

impl PullOptions {
    /// Does `make` with the image in the store: it is pulled before, or once it turns out to be missing.
    ///
    /// # Errors
    /// Those of `make`; the image cannot be pulled.
    pub(crate) fn provide<T>(
        &self,
        engine: &Engine,
        request: &RunRequest,
        make: impl Fn(&Engine, &RunRequest) -> Result<T, Error>,
    ) -> anyhow::Result<T> {
        let name = match &request.image {
            ImageArg::Named(name) => name,
            _ if self.pull == Policy::Always => anyhow::bail!(
                "--pull always asks for an image of a registry, and the image is an archive; leave it out"
            ),
            _ => return Ok(make(engine, request)?),
        };
        if self.pull == Policy::Always {
            self.fetch(engine, &name.parse()?, request)?;
            return Ok(make(engine, request)?);
        }
        match make(engine, request) {
            Err(
                error @ (Error::Store(StoreError::NotFound { .. }) | Error::OtherPlatform { .. }),
            ) if self.pull == Policy::Missing => {
                // An id, or what else no registry has.
                let Ok(reference) = name.parse::<Reference>() else { return Err(error.into()) };
                if !self.quiet {
                    output::tell(&format!(
                        "Unable to find image '{}' locally",
                        reference.familiar()
                    ));
                }
                self.fetch(engine, &reference, request)
                    .with_context(|| format!("{error}; and it cannot be pulled"))?;
                Ok(make(engine, request)?)
            }
            result => Ok(result?),
        }
    }

    fn fetch(&self, engine: &Engine, name: &Reference, request: &RunRequest) -> anyhow::Result<()> {
        let tell = |text: &str| text.lines().for_each(output::tell);
        if !self.quiet {
            tell(&from(name));
        }
        let request = PullRequest {
            platform: request.platform.clone(),
            insecure: self.insecure_registry.clone(),
            notify: None,
        };
        let pulled = fetch(engine, name, request, self.quiet)?;
        if !self.quiet {
            tell(&report(name, &pulled));
        }
        Ok(())
    }
}

/// Pulls with a bar, which gives way to what there is to say.
fn fetch(
    engine: &Engine,
    name: &Reference,
    request: PullRequest,
    quiet: bool,
) -> Result<Pulled, Error> {
    if quiet {
        return engine.pull(name, &request, &());
    }
    let bar = Bar::pulling();
    let apart = bar.apart();
    let notify: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(move |text: &str| {
        apart(&|| log::write(Level::Warn, text, &output::printable(text)))
    });
    engine.pull(name, &PullRequest { notify: Some(notify), ..request }, &bar)
}

/// Docker's line before.
fn from(name: &Reference) -> String {
    let what = name.tag().map_or_else(|| name.to_string(), str::to_owned);
    format!("{what}: Pulling from {}\n", name.repository())
}

/// Docker's lines after.
fn report(name: &Reference, pulled: &Pulled) -> String {
    let status = if pulled.newer { "Downloaded newer image" } else { "Image is up to date" };
    format!("Digest: {}\nStatus: {status} for {}\n", pulled.digest, name.familiar())
}
