//! How far a load is, on standard error if that is a terminal.

use std::sync::{Mutex, PoisonError};

use engine::{Omitted, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::log::{self, Level};

/// A bar that appears when a load has something to do, and is gone afterwards. On anything but a
/// terminal nothing is written (that is indicatif's own rule).
pub(crate) struct Bar {
    bar: ProgressBar,
    doing: &'static str,
    /// What all layers so far lack.
    omitted: Mutex<Omitted>,
}

impl Bar {
    /// A bar that nothing is seen of before the load begins.
    pub(crate) fn hidden() -> Bar {
        Bar::new("Loading")
    }

    /// The same for what comes from a registry.
    pub(crate) fn pulling() -> Bar {
        Bar::new("Pulling")
    }

    fn new(doing: &'static str) -> Bar {
        Bar { bar: ProgressBar::hidden(), doing, omitted: Mutex::default() }
    }

    /// Does something with standard error while the bar is away.
    pub(crate) fn apart(&self) -> impl Fn(&dyn Fn()) + Send + Sync + 'static {
        let bar = self.bar.clone();
        move |say| bar.suspend(say)
    }

    fn start(&self, target: ProgressDrawTarget, layers: usize, bytes: u64) {
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_draw_target(target);
        self.bar.reset();
        self.bar.set_length(bytes);
        self.bar.set_message(match layers {
            1 => format!("{} 1 layer", self.doing),
            _ => format!("{} {layers} layers", self.doing),
        });
    }
}

impl Progress for Bar {
    fn begin(&self, layers: usize, bytes: u64) {
        if layers > 0 && log::wants(Level::Info) {
            self.start(ProgressDrawTarget::stderr_with_hz(10), layers, bytes);
        }
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn omit(&self, omitted: Omitted) {
        let mut all = self.omitted.lock().unwrap_or_else(PoisonError::into_inner);
        all.devices += omitted.devices;
        all.xattrs += omitted.xattrs;
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
        let omitted =
            std::mem::take(&mut *self.omitted.lock().unwrap_or_else(PoisonError::into_inner));
        if omitted != Omitted::default() {
            let Omitted { devices, xattrs } = omitted;
            let text = format!(
                "unpacked without root's rights: {devices} devices are empty files, {xattrs} extended \
                 attributes are left out, and all files belong to this user"
            );
            log::write(Level::Warn, &text, &text);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // A load that failed half way leaves no bar behind either.
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// A terminal of 120 columns that remembers the line that it shows last.
    #[derive(Clone, Debug, Default)]
    struct Line(Arc<Mutex<String>>);

    impl TermLike for Line {
        fn width(&self) -> u16 {
            120
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().clear();
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn it_shows_bytes_rate_and_time_and_is_gone_at_the_end() {
        let line = Line::default();
        let shown = || line.0.lock().unwrap().clone();
        let bar = Bar::hidden();
        bar.start(ProgressDrawTarget::term_like(Box::new(line.clone())), 3, 4 << 20);
        bar.advance(1 << 20);
        bar.bar.tick();
        assert!(shown().starts_with("Loading 3 layers ==="), "{}", shown());
        assert!(shown().contains("1.00 MiB/4.00 MiB") && shown().contains("/s"), "{}", shown());
        bar.advance(3 << 20);
        bar.finish();
        assert_eq!(shown(), "");
    }
}
