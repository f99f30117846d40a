use super::*;
use engine::LayerView;

fn view(target: &str, depth: usize, fstype: &str, origin: Origin) -> MountView {
    let source = match &origin {
        Origin::Bind => Some("/mnt/nginx_volume"),
        Origin::Volume { .. } => Some("/s/volumes/cache/_data"),
        Origin::Config => Some("/s/c/hosts"),
        Origin::Root { .. } => Some("/s/c/merged"),
        _ => None,
    };
    MountView {
        target: target.to_owned(),
        depth,
        id: 0,
        parent: 0,
        fstype: fstype.to_owned(),
        device: "/dev/sda2".to_owned(),
        flags: "rw,relatime".to_owned(),
        options: "rw".to_owned(),
        propagation: "private".to_owned(),
        origin,
        source: source.map(str::to_owned),
        covered: false,
    }
}

fn root(layers: usize) -> MountView {
    let layer = |number: usize| LayerView {
        number,
        link: format!("l/{number}"),
        path: format!("/s/l/{number}"),
        chain_id: format!("sha256:{number:064}"),
        diff_id: format!("sha256:{number:0<64}"),
    };
    let layers = (1..=layers).rev().map(layer).collect();
    view("/", 0, "overlay", Origin::Root { upper: "/s/c/diff".to_owned(), layers })
}

fn views() -> Vec<MountView> {
    let volume = Origin::Volume { name: "cache".to_owned(), anonymous: false };
    vec![
        root(2),
        view("/proc", 1, "proc", Origin::Default),
        view("/proc/bus", 2, "proc", Origin::ReadOnlyPath),
        view("/proc/kcore", 2, "tmpfs", Origin::Mask),
        view("/nginx_volume", 1, "ext4", Origin::Bind),
        view("/cache", 1, "ext4", volume),
        view("/cache/mine", 2, "tmpfs", Origin::Inside),
    ]
}

#[test]
fn a_tree_with_a_line_for_each_mount() {
    let expected = "\
\u{20} TARGET             TYPE     FLAGS        PROPAGATION  FROM
  /                  overlay  rw,relatime  private      image (2 layers) and changes: /s/c/merged
  ├─ /proc           proc     rw,relatime  private      default
  │  ├─ /proc/bus    proc     rw,relatime  private      read-only path
  │  └─ /proc/kcore  tmpfs    rw,relatime  private      mask
◆ ├─ /nginx_volume   ext4     rw,relatime  private      bind: /mnt/nginx_volume on /dev/sda2
◆ └─ /cache          ext4     rw,relatime  private      volume cache: /s/volumes/cache/_data on /dev/sda2
     └─ /cache/mine  tmpfs    rw,relatime  private      made in the container: /dev/sda2

  / FROM THE TOP
  changes  /s/c/diff
  layer 2  /s/l/2  sha256:200000000000
  layer 1  /s/l/1  sha256:100000000000
";
    assert_eq!(picture(&views(), None, false), expected);
    assert_eq!(picture(&views(), Some(200), false), picture(&views(), None, false));
}

#[test]
fn several_lines_for_each_where_the_terminal_is_narrow() {
    let narrow = picture(&views(), Some(40), false);
    assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
    let start = "\
\u{20} /
  │  image (2 layers) and changes: /s/c…
  │  overlay rw,relatime private
  ├─ /proc
";
    assert!(narrow.starts_with(start), "{narrow}");
    let volume = "\n◆ ├─ /nginx_volume\n  │     bind: /mnt/nginx_volume on /dev…\n";
    assert!(narrow.contains(volume), "{narrow}");
    for width in 0..60 {
        let text = picture(&views(), Some(width), true);
        assert!(text.contains('\n'));
    }
}

#[test]
fn volumes_stand_out_in_colour() {
    let text = picture(&views(), None, true);
    let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap();
    assert!(line("/nginx_volume").starts_with(VOLUME) && line("/nginx_volume").ends_with(PLAIN));
    assert!(line("/proc/kcore").starts_with(DIM));
    assert!(line("TARGET").starts_with(BOLD));
    assert!(!line("/cache/mine").contains('\u{1b}'));
    assert!(!picture(&views(), None, false).contains('\u{1b}'));
}

#[test]
fn of_many_layers_the_ends_are_shown() {
    let text = picture(&[root(127)], None, false);
    assert!(text.contains("layer 127  /s/l/127") && text.contains("layer 119 "), "{text}");
    assert!(text.contains("\u{2026}          116 more; --format json has them all"), "{text}");
    assert!(!text.contains("layer 118 ") && !text.contains("layer 3 "), "{text}");
    assert!(text.ends_with(
        "layer 2    /s/l/2  sha256:200000000000\n  layer 1    /s/l/1  sha256:100000000000\n"
    ));
    assert_eq!(picture(&[root(12)], None, false).matches("layer ").count(), 12);
}

#[test]
fn what_a_container_names_does_not_reach_the_terminal() {
    let mut evil = view("/a\u{1b}[2Jb\n", 1, "tmpfs", Origin::Inside);
    evil.device = "\u{9b}x".to_owned();
    evil.covered = true;
    let text = picture(&[root(1), evil], None, false);
    assert!(!text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
    assert!(
        text.contains("/a\\u{1b}[2Jb\\n") && text.contains("hidden by another mount"),
        "{text}"
    );
    assert!(text.contains("image (1 layer) and"));
}

#[test]
fn nothing_to_show_is_no_reason_to_panic() {
    assert_eq!(picture(&[], None, false).lines().count(), 1);
    let orphan = [view("/x", 0, "tmpfs", Origin::Inside), view("/y", 3, "tmpfs", Origin::Inside)];
    picture(&orphan, Some(10), true);
}
