//! `bindvol` and `engine`: what is typed behind `-v`, `--mount`, `--tmpfs`, `--user` and options of their like, and
//! the image's `/etc/passwd` and `/etc/group`.
//!
//! What is understood is within its rules, and means the same when it is written in another way.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Component, Path};

use bindvol::{Kind, Options, VolumeSpec, is_volume_name};
use engine::{
    DetachKeys, ImageArg, LayerForm, Network, Platform, Reference, RestartPolicy, duration_text,
    parse_duration, resolve_user,
};

/// A letter, and the text of an option of that kind. With `u` the text is a line for the user, a line with a number
/// of lines of `/etc/passwd`, and the rest is `/etc/group`.
///
/// # Panics
/// A parser does; or what it gives breaks a rule, or is not what its own words mean.
pub fn run(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    if *kind == b'u' {
        user(text);
        return;
    }
    let Ok(text) = std::str::from_utf8(text) else { return };
    match kind {
        b'v' => {
            if let Ok(spec) = VolumeSpec::parse_volume(text) {
                check(&spec);
            }
        }
        b'm' => {
            if let Ok(spec) = VolumeSpec::parse_mount(text) {
                check(&spec);
            }
        }
        b't' => {
            if let Ok(spec) = VolumeSpec::parse_tmpfs(text) {
                check(&spec);
                assert!(matches!(spec.kind, Kind::Tmpfs { .. }));
            }
        }
        _ => words(text),
    }
}

/// What each kind of mount promises, and that it is the same as `--mount` and as JSON.
fn check(spec: &VolumeSpec) {
    let target = Path::new(&spec.target);
    assert!(spec.target.len() > 1 && target.is_absolute(), "{spec:?}");
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
    assert!(target.components().all(plain) && !spec.target.contains('\0'), "{spec:?}");
    let clean: std::path::PathBuf = target.components().collect();
    assert_eq!(clean.as_os_str(), target.as_os_str());
    match &spec.kind {
        Kind::Bind { source, .. } => {
            assert!(source.is_absolute() && source.components().all(plain), "{spec:?}");
        }
        Kind::Named { name, subpath, .. } => {
            assert!(is_volume_name(name) && !name.contains('/'), "{spec:?}");
            let part = |part: Component<'_>| matches!(part, Component::Normal(_));
            assert!(subpath.iter().all(|path| Path::new(path).components().all(part)), "{spec:?}");
        }
        Kind::Anonymous { .. } => {}
        Kind::Tmpfs { data } => assert!(data.iter().all(|word| !word.contains([',', '\0']))),
    }
    let words = spec.words();
    let known = ["ro", "rro", "nosuid", "nodev", "noexec", "bind", "rbind"];
    let propagation = |word: &str| {
        let word = word.strip_prefix('r').unwrap_or(word);
        matches!(word, "private" | "shared" | "slave")
    };
    let own = |word: &String| matches!(&spec.kind, Kind::Tmpfs { data } if data.contains(word));
    for word in &words {
        assert!(known.contains(&&word[..]) || propagation(word) || own(word), "{words:?}");
    }
    let json = serde_json::to_string(spec).expect("JSON of a volume");
    assert_eq!(serde_json::from_str::<VolumeSpec>(&json).expect("its own JSON"), *spec);
    if let Some(text) = as_mount(spec) {
        let again = VolumeSpec::parse_mount(&text);
        assert_eq!(again.as_ref(), Ok(spec), "{text}");
    }
}

/// The same as the text of `--mount`; None for what that cannot say.
fn as_mount(spec: &VolumeSpec) -> Option<String> {
    let mut fields = vec![format!("target={}", spec.target)];
    match &spec.kind {
        Kind::Bind { source, create_source } => {
            fields.push("type=bind".to_owned());
            fields.push(format!("source={}", source.to_str()?));
            fields.push(format!("bind-create-src={create_source}"));
        }
        Kind::Named { name, nocopy, subpath } => {
            fields.push(format!("source={name}"));
            fields.push(format!("volume-nocopy={nocopy}"));
            fields.extend(subpath.iter().map(|path| format!("volume-subpath={path}")));
        }
        Kind::Anonymous { nocopy } => fields.push(format!("volume-nocopy={nocopy}")),
        Kind::Tmpfs { .. } => return None,
    }
    let Options { read_only, recursive_read_only, propagation, nosuid, nodev, noexec, recursive } =
        spec.options;
    let is_bind = matches!(spec.kind, Kind::Bind { .. });
    match (recursive, recursive_read_only) {
        (true, true) => {}
        (false, true) if is_bind => fields.push("bind-recursive=disabled".to_owned()),
        (true, false) if is_bind && read_only => fields.push("bind-recursive=writable".to_owned()),
        _ => return None,
    }
    if propagation.is_some() {
        let word = spec.words().into_iter().nth(1)?;
        if !is_bind {
            return None;
        }
        fields.push(format!("bind-propagation={word}"));
    }
    fields.push(format!("readonly={read_only}"));
    let flags = [(nosuid, "suid"), (nodev, "dev"), (noexec, "exec")];
    fields.extend(flags.iter().map(|(on, word)| format!("{}{word}", if *on { "no" } else { "" })));
    // RFC 4180: in quotes, and quotes doubled.
    let quoted = fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\"")));
    Some(quoted.collect::<Vec<_>>().join(","))
}

/// Options that are read alike whatever they are for.
fn words(text: &str) {
    if let Some(nanos) = parse_duration(text) {
        assert_eq!(parse_duration(&duration_text(nanos)), Some(nanos), "{text:?}");
    }
    if let Ok(reference) = text.parse::<Reference>() {
        for shown in [reference.to_string(), reference.familiar()] {
            assert_eq!(shown.parse().as_ref(), Ok(&reference), "{text:?}");
        }
        let path = format!("/{}", reference.repository());
        assert!(!path.contains("/../") && !path.contains("//") && !path.contains(['?', '#', '%']));
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse().as_ref(), Ok(&platform), "{text:?}");
    }
    if let Ok(policy) = text.parse::<RestartPolicy>() {
        assert_eq!(policy.to_string().parse().ok(), Some(policy), "{text:?}");
    }
    let _ = text.parse::<DetachKeys>();
    let _ = text.parse::<Network>();
    let _ = text.parse::<LayerForm>();
    let _ = ImageArg::parse(text, |_| false);
}

/// Who a process runs as, by files of the image.
fn user(text: &[u8]) {
    let mut parts = text.splitn(3, |byte| *byte == b'\n');
    let (Some(user), Some(count)) = (parts.next(), parts.next()) else { return };
    let Ok(user) = std::str::from_utf8(user) else { return };
    let files = parts.next().unwrap_or_default();
    let lines = files.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let count = usize::from(count.first().copied().unwrap_or(b'0').wrapping_sub(b'0'));
    let middle = std::iter::once(0).chain(lines).nth(count).unwrap_or(files.len());
    let image = tempfile::tempdir().expect("a temporary directory");
    let etc = image.path().join("etc");
    std::fs::create_dir(&etc).expect("a directory");
    for (name, content) in [("passwd", &files[..middle]), ("group", &files[middle..])] {
        std::fs::write(etc.join(name), content).expect("a file of the image");
    }
    let root = File::open(image.path()).expect("the root");
    let Ok(found) = resolve_user(root.as_fd(), user) else { return };
    // -1 is no id, but "as it was": a process would stay root.
    assert!(found.uid != u32::MAX && found.gid != u32::MAX && !found.groups.contains(&u32::MAX));
    assert_eq!(found.groups.first(), Some(&found.gid));
    let (name, group) = user.split_once(':').map_or((user, None), |(n, g)| (n, Some(g)));
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
    match number(name) {
        Some(uid) => assert_eq!(found.uid, uid),
        None if user.is_empty() => assert_eq!(found.uid, 0),
        None => assert_eq!(found.name.as_deref(), Some(name)),
    }
    if let Some(gid) = group.and_then(number) {
        assert_eq!((found.gid, &found.groups[..]), (gid, &[gid][..]));
    }
}
