use super::*;
use crate::{MountKind, MountPoint, testing};
use sys::mountinfo::parse;

/// The host: the store on /dev/sda2, a source on /dev/sdb1 with another file system in it.
const HOST: &str = "\
20 1 8:2 / / rw,relatime - ext4 /dev/sda2 rw
21 20 8:17 / /nonexistent-mnt rw,relatime shared:7 - xfs /dev/sdb1 rw
22 21 0:60 / /nonexistent-mnt/vol/deep rw,relatime - tmpfs deep rw
23 20 0:5 / /dev rw - devtmpfs devtmpfs rw
";

const INSIDE: &str = "\
100 50 0:70 / / rw,relatime - overlay overlay rw,lowerdir=/s/l/A:/s/l/B,upperdir=/s/c/diff
101 100 0:71 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
102 100 0:72 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
103 102 0:73 / /dev/pts rw,nosuid,noexec,relatime - devpts devpts rw,gid=5
104 100 0:74 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro
105 104 0:75 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs ro,mode=755
106 105 0:76 /x /sys/fs/cgroup/pids ro,nosuid,nodev,noexec,relatime - cgroup cgroup rw,pids
107 102 0:77 / /dev/mqueue rw,nosuid,nodev,noexec,relatime - mqueue mqueue rw
108 102 0:78 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k
109 100 8:2 /nonexistent-s/c/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/sda2 rw
110 100 8:2 /nonexistent-s/c/hostname /etc/hostname rw,relatime - ext4 /dev/sda2 rw
111 100 8:2 /nonexistent-s/c/hosts /etc/hosts rw,relatime - ext4 /dev/sda2 rw
112 100 8:17 /vol /data rw,nosuid,relatime master:7 - xfs /dev/sdb1 rw
113 112 0:60 / /data/deep rw,relatime - tmpfs deep rw
114 100 8:2 /nonexistent-s/volumes/cache/_data /run/cache rw,relatime - ext4 /dev/sda2 rw
115 100 0:79 / /scratch rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw
116 102 0:73 /0 /dev/console rw,nosuid,noexec,relatime - devpts devpts rw,gid=5
117 102 0:5 /null /dev/null rw - devtmpfs devtmpfs rw
118 101 0:71 /bus /proc/bus ro,nosuid,nodev,noexec,relatime - proc proc rw
119 101 0:72 /null /proc/kcore ro,nosuid,noexec - tmpfs tmpfs rw
120 101 0:80 / /proc/acpi ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs ro
121 112 0:81 / /data/deep/own rw,relatime shared:9 master:7 propagate_from:3 - tmpfs mine rw
122 108 0:82 / /dev/shm rw,relatime unbindable - tmpfs again rw
";

fn container() -> Container {
    let mut container = testing::container();
    let mount = |kind, name: Option<&str>, source: &str, destination: &str| MountPoint {
        kind,
        name: name.map(str::to_owned),
        source: source.to_owned(),
        destination: destination.to_owned(),
        driver: None,
        mode: String::new(),
        rw: true,
        propagation: String::new(),
        options: Vec::new(),
        anonymous: false,
    };
    container.mounts = vec![
        mount(MountKind::Bind, None, "/nonexistent-mnt/vol", "/data"),
        mount(MountKind::Tmpfs, None, "", "/scratch"),
        // The image has /var/run as a link to /run.
        mount(
            MountKind::Volume,
            Some("cache"),
            "/nonexistent-s/volumes/cache/_data",
            "/var/run/cache",
        ),
    ];
    container
}

fn views(container: &Container, inside: &str) -> Vec<MountView> {
    let (inside, host) = (parse(inside.as_bytes()).unwrap(), parse(HOST.as_bytes()).unwrap());
    let (root, dir) = (Path::new("/nonexistent-s"), Path::new("/nonexistent-s/c"));
    view(container, &inside, &host, root, dir)
}

fn at(id: u32) -> MountView {
    views(&container(), INSIDE).into_iter().find(|view| view.id == id).unwrap()
}

#[test]
fn the_tree_has_children_behind_their_parents() {
    let views = views(&container(), INSIDE);
    assert_eq!(views.len(), INSIDE.lines().count());
    let order: Vec<(u32, usize)> = views.iter().take(6).map(|v| (v.id, v.depth)).collect();
    assert_eq!(order, [(100, 0), (101, 1), (118, 2), (119, 2), (120, 2), (102, 1)]);
    for (index, view) in views.iter().enumerate().skip(1) {
        let parent = views[..index].iter().rfind(|other| other.depth + 1 == view.depth).unwrap();
        assert_eq!(parent.id, view.parent, "{view:?}");
    }
}

#[test]
fn the_root_names_its_layers() {
    let root = at(100);
    let Origin::Root { upper, layers } = root.origin else { panic!() };
    assert_eq!(upper, "/nonexistent-s/c/diff");
    assert_eq!(root.source.as_deref(), Some("/nonexistent-s/c/merged"));
    let lowers = container().lowers;
    assert_eq!(layers.iter().map(|layer| layer.number).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(layers[1].link, lowers[1].link);
    assert_eq!(layers[0].path, format!("/nonexistent-s/{}", lowers[0].link));
    assert_eq!(layers[0].chain_id, lowers[0].chain_id.to_string());
}

#[test]
fn each_mount_has_its_origin() {
    for id in [101, 102, 103, 104, 105, 106, 107, 108] {
        assert_eq!((at(id).origin, at(id).source), (Origin::Default, None), "{id}");
    }
    for (id, name) in [(109, "resolv.conf"), (110, "hostname"), (111, "hosts")] {
        assert_eq!(at(id).origin, Origin::Config);
        assert_eq!(at(id).source, Some(format!("/nonexistent-s/c/{name}")));
    }
    let data = at(112);
    assert_eq!((data.origin, data.device.as_str()), (Origin::Bind, "/dev/sdb1"));
    assert_eq!(data.source.as_deref(), Some("/nonexistent-mnt/vol"));
    // It came along with the bind mount; what the container mounted below did not.
    assert_eq!(at(113).origin, Origin::Bind);
    assert_eq!(at(113).source.as_deref(), Some("/nonexistent-mnt/vol/deep"));
    assert_eq!((at(121).origin, at(121).source), (Origin::Inside, None));
    let volume = Origin::Volume { name: "cache".to_owned(), anonymous: false };
    assert_eq!(at(114).origin, volume);
    assert_eq!(at(114).source.as_deref(), Some("/nonexistent-s/volumes/cache/_data"));
    assert_eq!(at(115).origin, Origin::Tmpfs);
    assert_eq!((at(116).origin, at(117).origin), (Origin::Device, Origin::Device));
    assert_eq!(at(118).origin, Origin::ReadOnlyPath);
    assert_eq!((at(119).origin, at(120).origin), (Origin::Mask, Origin::Mask));
    // Over the standard one, by the container itself.
    assert_eq!(at(122).origin, Origin::Inside);
}

#[test]
fn a_mount_on_a_volumes_target_is_not_that_volume() {
    let fake = INSIDE.replace("112 100 8:17 /vol /data", "112 100 8:17 /other /data");
    let views = views(&container(), &fake);
    assert_eq!(views.iter().find(|view| view.id == 112).unwrap().origin, Origin::Inside);
}

#[test]
fn propagation_and_what_is_hidden() {
    assert_eq!(at(100).propagation, "private");
    assert_eq!(at(112).propagation, "slave:7");
    assert_eq!(at(121).propagation, "shared:9,slave:7");
    assert_eq!(at(122).propagation, "unbindable");
    assert_eq!((at(108).covered, at(122).covered, at(102).covered), (true, false, false));
    let over = format!("{INSIDE}130 100 0:90 / /dev rw - tmpfs over rw\n");
    let views = views(&container(), &over);
    let hidden: Vec<u32> = views.iter().filter(|view| view.covered).map(|view| view.id).collect();
    assert_eq!(hidden, [102, 103, 107, 108, 122, 116, 117]);
}

#[test]
fn it_is_json_for_programs() {
    let json = serde_json::to_value(at(114)).unwrap();
    let volume = serde_json::json!({"kind": "volume", "name": "cache", "anonymous": false});
    assert_eq!(json["origin"], volume);
    assert_eq!(serde_json::to_value(at(118)).unwrap()["origin"]["kind"], "read-only-path");
    assert_eq!(serde_json::to_value(at(100)).unwrap()["origin"]["layers"][1]["number"], 1);
}

#[test]
fn this_machines_own_mounts_are_a_tree() {
    let mounts = parse(&std::fs::read("/proc/self/mountinfo").unwrap()).unwrap();
    let views = view(&testing::container(), &mounts, &mounts, Path::new("/s"), Path::new("/s/c"));
    assert_eq!(views.len(), mounts.len());
}

proptest::proptest! {
    #[test]
    fn each_mount_is_there_once(links in proptest::collection::vec((0_u32..9, 0_u32..9), 0..12)) {
        let mut mounts = parse(INSIDE.as_bytes()).unwrap();
        mounts.truncate(links.len());
        for (mount, (id, parent)) in mounts.iter_mut().zip(&links) {
            (mount.id, mount.parent) = (*id, *parent);
        }
        let views = view(&container(), &mounts, &[], Path::new("/s"), Path::new("/s/c"));
        proptest::prop_assert!(views.len() <= mounts.len());
    }
}
