//! Struct layouts of the ABI groups, read from the same data file that the tests compare with.
//!
//! The figures stand in `mock-npu/abi/rkllm-abi.json` and nowhere else: foreign structs are read
//! and written at the offsets found there, so that a new group is a new entry in that file.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Deserialize;

/// The layouts of all groups, as published beside this crate.
pub const ABI_JSON: &str = include_str!("../../../abi/rkllm-abi.json");

/// Runtime releases that share one binary interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// 1.1.0 to 1.1.4.
    C,
    /// 1.2.0.
    D,
    /// 1.2.1b1.
    D1,
    /// 1.2.1 to 1.2.3.
    E,
    /// 1.3.x.
    F,
}

impl Group {
    /// The group's key in the data file.
    pub fn name(self) -> &'static str {
        match self {
            Group::C => "C",
            Group::D => "D",
            Group::D1 => "D1",
            Group::E => "E",
            Group::F => "F",
        }
    }

    /// Whether the result callback's return value means anything.
    pub(crate) fn callback_returns(self) -> bool {
        self >= Group::E
    }
}

/// One field of a struct.
#[derive(Clone, Debug, Deserialize)]
pub struct Field {
    /// Name in the vendor's header; fields of anonymous structs are dotted.
    pub name: String,
    /// Bytes from the start of the struct.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
    /// C type.
    #[serde(rename = "type")]
    pub c_type: String,
}

/// One struct.
#[derive(Debug, Deserialize)]
pub struct StructLayout {
    /// Bytes, padding included.
    pub size: usize,
    /// In the order of the header.
    pub fields: Vec<Field>,
}

impl StructLayout {
    /// The field of that name, if this group has it.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// All structs of one group.
#[derive(Debug, Deserialize)]
pub struct Layout {
    structs: HashMap<String, StructLayout>,
}

#[derive(Deserialize)]
struct Table {
    groups: HashMap<String, Layout>,
}

impl Layout {
    /// The layouts of a group.
    pub fn of(group: Group) -> &'static Layout {
        static TABLE: OnceLock<HashMap<String, Layout>> = OnceLock::new();
        let table = TABLE.get_or_init(|| {
            let table: Table =
                serde_json::from_str(ABI_JSON).expect("rkllm-abi.json ships with this crate");
            table.groups
        });
        table.get(group.name()).expect("every group stands in rkllm-abi.json")
    }

    /// The struct of that name. The multimodal input has two spellings in the vendor's headers.
    pub fn structure(&self, name: &str) -> &StructLayout {
        let other = if name == "RKLLMMultiModalInput" { "RKLLMMultiModelInput" } else { name };
        self.structs
            .get(name)
            .or_else(|| self.structs.get(other))
            .expect("asked only for structs that the group has")
    }

    /// Whether the group has the struct.
    pub fn has(&self, name: &str) -> bool {
        self.structs.contains_key(name)
    }

    /// Names of all structs, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.structs.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_its_published_sizes() {
        let sizes = |group| {
            let layout = Layout::of(group);
            ["RKLLMParam", "RKLLMInput", "RKLLMInferParam", "RKLLMResult", "RKLLMMultiModalInput"]
                .map(|name| layout.structure(name).size)
        };
        assert_eq!(sizes(Group::C), [200, 32, 24, 32, 24]);
        assert_eq!(sizes(Group::D), [208, 32, 32, 48, 24]);
        assert_eq!(sizes(Group::D1), [208, 56, 32, 48, 48]);
        assert_eq!(sizes(Group::E), [208, 64, 32, 72, 48]);
        assert_eq!(sizes(Group::F), [184, 160, 40, 72, 144]);
    }
}
