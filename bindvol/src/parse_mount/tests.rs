//! Tests of `--mount`.

use std::path::PathBuf;

use sys::mount::Propagation;

use super::*;

fn spec(text: &str) -> VolumeSpec {
    VolumeSpec::parse_mount(text).unwrap()
}

fn error(text: &str) -> String {
    let error = VolumeSpec::parse_mount(text).unwrap_err().to_string();
    assert!(error.starts_with(&format!("--mount {text:?}: ")), "{error}");
    error
}

#[test]
fn binds() {
    let plain = spec("type=bind,source=/a,target=/b/");
    let source = PathBuf::from("/a");
    assert_eq!(plain.kind, Kind::Bind { source: source.clone(), create_source: false });
    assert_eq!(
        (plain.target.as_str(), plain.words()),
        ("/b", vec!["rbind".into(), "rprivate".into()])
    );
    let all =
        spec("dst=/b,ro,TYPE=bind,src=/a,bind-propagation=rslave,bind-create-src,nosuid,nodev");
    assert_eq!(all.kind, Kind::Bind { source, create_source: true });
    assert_eq!(all.words(), ["rbind", "rslave", "rro", "nosuid", "nodev"]);
    assert_eq!(all.options.propagation, Some((Propagation::Slave, true)));
    let quoted = spec(r#"type=bind,"source=/a,b:""c""",destination=/b,readonly=false"#);
    let source = PathBuf::from(r#"/a,b:"c""#);
    assert_eq!(quoted.kind, Kind::Bind { source, create_source: false });
    assert_eq!(quoted.words(), ["rbind", "rprivate"]);
    let relative = spec("type=bind,source=.,target=/b,rshared,consistency=cached");
    assert_eq!(relative.words(), ["rbind", "rshared"]);
    assert!(!spec("type=bind,src=/a,dst=/b,rw").options.read_only);
}

#[test]
fn recursion_has_many_words() {
    let words = |more: &str| spec(&format!("type=bind,src=/a,dst=/b,{more}")).words();
    assert_eq!(words("bind-nonrecursive,ro"), ["bind", "rprivate", "ro"]);
    assert_eq!(words("bind-nonrecursive=false,ro"), ["rbind", "rprivate", "rro"]);
    assert_eq!(words("bind-recursive=disabled"), ["bind", "rprivate"]);
    assert_eq!(words("bind-recursive=enabled,ro"), ["rbind", "rprivate", "rro"]);
    assert_eq!(words("bind-recursive=writable,ro"), ["rbind", "rprivate", "ro"]);
    assert_eq!(words("bind-recursive=readonly,ro=1"), ["rbind", "rprivate", "rro"]);
    for needs in ["bind-recursive=readonly", "bind-recursive=writable,ro=false"] {
        let error = error(&format!("type=bind,src=/a,dst=/b,{needs}"));
        assert!(error.contains("needs \"readonly\""), "{error}");
    }
    let error = error("type=bind,src=/a,dst=/b,bind-nonrecursive,bind-recursive=enabled");
    assert!(error.contains("contradicts \"bind-nonrecursive\""), "{error}");
}

#[test]
fn volumes() {
    assert_eq!(spec("target=/b").kind, Kind::Anonymous { nocopy: false });
    assert_eq!(spec("type=volume,dst=/b,volume-nocopy").kind, Kind::Anonymous { nocopy: true });
    let named = spec("source=data,target=/b,volume-subpath=a//./b/,volume-driver=local,readonly");
    let subpath = Some("a/b".to_owned());
    assert_eq!(named.kind, Kind::Named { name: "data".to_owned(), nocopy: false, subpath });
    assert!(named.options.read_only);
}

#[test]
fn tmpfs() {
    let plain = spec("type=tmpfs,target=/t");
    assert_eq!(plain.words(), ["nosuid", "nodev", "noexec"]);
    let all = spec("type=tmpfs,target=/t,tmpfs-size=65536KiB,tmpfs-mode=1777,exec,ro");
    assert_eq!(all.words(), ["ro", "nosuid", "nodev", "size=64m", "mode=1777"]);
    for (given, size) in
        [("1000", "1000"), ("1g", "1g"), ("1536mb", "1536m"), ("0", "0"), ("3 kB", "3k")]
    {
        let spec = spec(&format!("type=tmpfs,dst=/t,tmpfs-size={given}"));
        assert_eq!(spec.kind, Kind::Tmpfs { data: vec![format!("size={size}")] });
    }
}

#[test]
fn what_is_wrong_is_said() {
    assert!(error("").contains("\"\" is not known"));
    assert!(error("type=bind,source=/a").contains("target is missing"));
    assert!(error("type=bind,target=/b").contains("source is missing"));
    assert!(error("type=bind,source=,target=/b").contains("\"source\" does not take"));
    assert!(error("type=bind,source=/a,target=/").contains("container's root"));
    assert!(error("type=bind,source=/a,target=b").contains("not absolute"));
    assert!(error("type=bind,source=/a/../b,target=/b").contains("\"..\""));
    assert!(error("type=image,source=x,target=/b").contains("bind, volume or tmpfs"));
    assert!(error("source=/a,target=/b").contains("no name for a volume"));
    assert!(
        error("type=tmpfs,source=/a,target=/b").contains("belongs to a bind mount or a volume")
    );
    assert!(error("target=/b,volume-subpath=x").contains("a volume without a name"));
    assert!(error("src=v,target=/b,volume-subpath=../x").contains("\"..\""));
    assert!(error("src=v,target=/b,volume-subpath=/x").contains("absolute"));
    assert!(error("src=v,target=/b,volume-subpath=.").contains("leave it out"));
    assert!(error("src=v,target=/b,rslave").contains("\"rslave\" belongs to a bind mount"));
    assert!(error("src=v,target=/b,bind-create-src").contains("belongs to a bind mount"));
    assert!(error("type=bind,src=/a,dst=/b,volume-nocopy").contains("belongs to a volume"));
    assert!(error("type=bind,src=/a,dst=/b,tmpfs-size=1").contains("belongs to a tmpfs"));
    assert!(error("src=v,dst=/b,volume-driver=nfs").contains("not supported"));
    assert!(error("src=v,dst=/b,volume-opt=o=x").contains("not supported"));
    assert!(error("src=v,dst=/b,volume-label=x").contains("not supported"));
    assert!(error("src=v,dst=/b,ro=maybe").contains("true or false"));
    assert!(error("src=v,dst=/b,ro,rw").contains("\"rw\" contradicts \"ro\""));
    assert!(error("src=v,dst=/b,nosuid=true").contains("not known"));
    assert!(error("src=v,dst=/b,nonsense").contains("\"nonsense\" is not known"));
    assert!(error("src=v,src=w,dst=/b").contains("\"src=w\" contradicts \"src=v\""));
    assert!(error("src=v,dst=/b,consistency=x").contains("consistent"));
    assert!(error("type=tmpfs,dst=/b,tmpfs-size=big").contains("number of bytes"));
    assert!(error("type=tmpfs,dst=/b,tmpfs-size=99999999999g").contains("number of bytes"));
    assert!(error("type=tmpfs,dst=/b,tmpfs-mode=9").contains("octal"));
    assert!(error("type=bind,src=/a,dst=/b,bind-recursive=yes").contains("enabled"));
    assert!(error("type=bind,\"src=/a,dst=/b").contains("not closed"));
    assert!(error("src=v,dst=/b\0").contains("NUL"));
}

#[test]
fn nothing_rides_along_in_a_propagation() {
    // CVE-2024-9407
    let quoted = error(r#"type=bind,src=/a,dst=/b,"bind-propagation=rprivate,src=/""#);
    assert!(quoted.contains("does not take the value \"rprivate,src=/\""), "{quoted}");
    let bare = error("type=bind,src=/a,dst=/b,bind-propagation=rprivate,src=/");
    assert!(bare.contains("\"src=/\" contradicts \"src=/a\""), "{bare}");
    assert!(error("type=bind,src=/a,dst=/b,bind-propagation=unbindable").contains("rslave"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_value_or_an_error(text in "((type|src|dst|ro|=|,|/|bind|\"|\\PC){0,12})") {
        match VolumeSpec::parse_mount(&text) {
            Ok(spec) => proptest::prop_assert!(spec.target.starts_with('/')),
            Err(error) => proptest::prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn any_path_can_be_given_in_quotes(name in "[^/\\x00]{1,12}") {
        proptest::prop_assume!(name != "." && name != "..");
        let field = format!("source=/{name}").replace('"', "\"\"");
        let spec = spec(&format!("type=bind,\"{field}\",target=/b"));
        let source = PathBuf::from(format!("/{name}"));
        proptest::prop_assert_eq!(spec.kind, Kind::Bind { source, create_source: false });
    }
}
