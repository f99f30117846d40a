//! How images are kept: and what they may cost: the options of `load`, `pull`, `run` and `create`.

use clap::Args;
use engine::{Engine, ImageLimits, LayerForm, Layers, ParseLimitError};

/// `--durable`
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct DurableArg {
    /// Have an image on the disk before it has its name. Without, the kernel writes it within about half a
    /// minute, and what a power cut took before that is found and said
    #[arg(
        long,
        value_name = "bool",
        default_value_t = false,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub(crate) durable: bool,
}

/// `--layer-form` and `--verity`
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct FormArg {
    /// How the layers of an image are kept: "dir", unpacked; "index", as their tars, which are mounted (needs root
    /// and Linux 6.4); "auto", as an index where that can be mounted, but what is small unpacked. An image that is
    /// there stays as it is
    #[arg(long, value_name = "string", default_value_t)]
    pub(crate) layer_form: LayerForm,
    /// Have the kernel verify what it reads of the layers and their index (fs-verity), which are read once more for
    /// it and cannot be changed any more. Implies --layer-form index
    #[arg(
        long,
        value_name = "bool",
        default_value_t = false,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub(crate) verity: bool,
}

/// `--layer-form` and `--in-place`
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct LayersArgs {
    #[command(flatten)]
    pub(crate) form: FormArg,
    /// Leave the layers in the archive, a tar file, and copy nothing: it must stay as it is. Who can write to it
    /// can change running containers. Implies --layer-form index
    #[arg(
        long,
        value_name = "bool",
        default_value_t = false,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub(crate) in_place: bool,
}

/// `--image-limit`
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ImageLimitArgs {
    /// Most that an image may cost, as NAME=NUMBER with k, m, g or t for powers of 1024: bytes=256g and
    /// entries=5000000 of a layer, ratio=200 of its compression (from ratio-after=1g on), path=4095 and depth=1024
    /// of names, layers=500, json=8m and json-depth=100 of documents, header=1m, memory=256m, manifests=10000,
    /// indexes=8 (what is shown are the defaults)
    #[arg(long, value_name = "list")]
    image_limit: Vec<String>,
}

impl ImageLimitArgs {
    /// An engine that keeps to them.
    ///
    /// # Errors
    /// A text that sets no limit.
    pub(crate) fn hold(&self, engine: Engine) -> Result<Engine, ParseLimitError> {
        let mut limits = ImageLimits::default();
        self.image_limit.iter().try_for_each(|text| limits.set(text))?;
        Ok(engine.with_image_limits(limits))
    }
}

impl From<LayersArgs> for Layers {
    fn from(args: LayersArgs) -> Layers {
        Layers { form: args.form.layer_form, in_place: args.in_place, verity: args.form.verity }
    }
}

impl From<FormArg> for Layers {
    fn from(args: FormArg) -> Layers {
        Layers { form: args.layer_form, in_place: false, verity: args.verity }
    }
}
