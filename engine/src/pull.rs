//! `pull`: an image from its registry.

use image_pull::{PullOptions, Pulled, Reference};
use image_store::{Platform, Progress};

use crate::{Engine, Error};

/// Which image is fetched, and how.
#[derive(Clone, Default)]
pub struct PullRequest {
    /// For which platform; without, this machine's.
    pub platform: Option<Platform>,
    /// Registries that may be spoken to without TLS: `host` or `host:port`.
    pub insecure: Vec<String>,
    /// Is told why the pull waits.
    pub notify: Option<image_pull::Notify>,
}

impl std::fmt::Debug for PullRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullRequest")
            .field("platform", &self.platform)
            .field("insecure", &self.insecure)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Fetches an image from its registry; see [`image_pull::pull`].
    ///
    /// # Errors
    /// The registry cannot be reached, or does not give the image; what it gives is damaged.
    pub fn pull(
        &self,
        reference: &Reference,
        request: &PullRequest,
        progress: &dyn Progress,
    ) -> Result<Pulled, Error> {
        let mut options = PullOptions {
            insecure: request.insecure.clone(),
            notify: request.notify.clone(),
            load: self.load_options(),
            ..PullOptions::default()
        };
        if let Some(platform) = &request.platform {
            options.load.platform = platform.clone();
        }
        let pulled = image_pull::pull(&self.store, reference, &options, progress)?;
        self.root.events().image("pull", &pulled.image, Some(&reference.familiar()));
        Ok(pulled)
    }
}
