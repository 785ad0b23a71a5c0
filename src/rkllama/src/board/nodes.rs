//! The device files through which a program reaches the NPU, and who may open them.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::root::Root;

/// Read and write for the owning group.
const GROUP_OPENS: u32 = 0o060;

/// A device file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its path, such as `/dev/dri/renderD129`.
    pub(crate) path: String,
    /// Whether this user may read and write it.
    pub(crate) opens: bool,
    /// The group whose members may. `None` where membership would not help: the group has no such
    /// right, is root's own, or has no name.
    pub(crate) group: Option<String>,
}

/// All that matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Nodes {
    /// Render nodes of the NPU, or of an unknown device where the kernel does not say whose.
    pub(crate) render: Vec<Node>,
    /// `/dev/rknpu`, of drivers that are built without DRM.
    pub(crate) rknpu: Option<Node>,
    /// The heaps from which such a driver's users take memory.
    pub(crate) heaps: Vec<Node>,
}

impl Nodes {
    pub(super) fn read(root: &Root, opens: fn(&Path) -> bool) -> Self {
        let node = |path: String| read(root, path, opens);
        let in_folder = |folder: &str| -> Vec<String> {
            root.names(folder).into_iter().map(|name| format!("{folder}/{name}")).collect()
        };
        let render = in_folder("/dev/dri")
            .into_iter()
            .filter(|path| path.contains("renderD") && may_be_npu(root, path));
        Self {
            render: render.filter_map(node).collect(),
            rknpu: node("/dev/rknpu".to_owned()),
            heaps: in_folder("/dev/dma_heap").into_iter().filter_map(node).collect(),
        }
    }

    /// The ways to the NPU itself.
    pub(crate) fn npu(&self) -> impl Iterator<Item = &Node> {
        self.render.iter().chain(&self.rknpu)
    }
}

/// The graphics unit has a render node too: the kernel says which device and driver is behind one.
fn may_be_npu(root: &Root, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    match root.text(format!("/sys/class/drm/{name}/device/uevent")) {
        Ok(uevent) => uevent.to_ascii_lowercase().contains("npu"),
        Err(_) => true,
    }
}

fn read(root: &Root, path: String, opens: fn(&Path) -> bool) -> Option<Node> {
    let file = root.path(&path);
    let metadata = fs::metadata(&file).ok()?;
    let helps = metadata.mode() & GROUP_OPENS == GROUP_OPENS;
    let group = helps.then(|| group_name(root, metadata.gid())).flatten();
    // Nobody should be told to join root's group.
    let group = group.filter(|name| name != "root");
    Some(Node { opens: opens(&file), path, group })
}

/// A group's name, of a line `render:x:107:somebody`.
fn group_name(root: &Root, gid: u32) -> Option<String> {
    let groups = root.text("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(gid) && !name.is_empty()).then(|| name.to_owned())
    })
}
