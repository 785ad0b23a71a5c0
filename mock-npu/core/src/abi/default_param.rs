//! What `rkllm_createDefaultParam` writes.
//!
//! The vendor's function stores the fields one by one into the caller's struct and clears nothing:
//! padding, the reserved area and unwritten fields keep what was there. Callers tell the groups
//! apart by which bytes are written, so a struct returned by value would betray the mock.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::layout::{Field, Group, Layout};

/// The default values, as data.
pub const DEFAULTS_JSON: &str = include_str!("../../../abi/defaults.json");

static EMPTY_TEXT: u8 = 0;

/// One store: where, and which bytes.
pub(crate) struct Store {
    pub(crate) offset: usize,
    pub(crate) bytes: Vec<u8>,
}

/// All stores for a group on a chip with `cpus` cores.
pub(crate) fn stores(group: Group, cpus: u32) -> Vec<Store> {
    static DEFAULTS: OnceLock<Value> = OnceLock::new();
    let defaults = DEFAULTS.get_or_init(|| {
        serde_json::from_str(DEFAULTS_JSON).expect("defaults.json ships with this crate")
    });
    let layout = Layout::of(group);
    let param = layout.structure("RKLLMParam");
    let extend = param.field("extend_param").expect("every group has extend_param");
    let outer = of_struct(&defaults["RKLLMParam"], &param.fields, 0, cpus);
    let inner = &layout.structure("RKLLMExtendParam").fields;
    outer
        .into_iter()
        .chain(of_struct(&defaults["RKLLMExtendParam"], inner, extend.offset, cpus))
        .collect()
}

fn of_struct(defaults: &Value, fields: &[Field], start: usize, cpus: u32) -> Vec<Store> {
    let empty = Map::new();
    let defaults = defaults.as_object().unwrap_or(&empty);
    fields
        .iter()
        .filter_map(|field| {
            let mut value = defaults.get(&field.name)?.clone();
            if field.name == "enabled_cpus_mask" && cpus < 8 {
                value = Value::from(0x0f);
            }
            Some(Store { offset: start + field.offset, bytes: encode(&value, field) })
        })
        .collect()
}

fn encode(value: &Value, field: &Field) -> Vec<u8> {
    match (value, field.c_type.as_str()) {
        (Value::Number(number), "float") => {
            (number.as_f64().unwrap_or_default() as f32).to_ne_bytes().to_vec()
        }
        (Value::Number(number), _) => {
            let wide = number.as_i64().unwrap_or_default().to_le_bytes();
            wide[..field.size].to_vec()
        }
        (Value::String(_), _) => (&raw const EMPTY_TEXT as usize).to_ne_bytes().to_vec(),
        _ => vec![0; field.size],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(group: Group) -> Vec<usize> {
        let mut bytes: Vec<usize> =
            stores(group, 8).iter().flat_map(|s| s.offset..s.offset + s.bytes.len()).collect();
        bytes.sort_unstable();
        bytes
    }

    fn int_at(group: Group, offset: usize) -> i32 {
        let stores = stores(group, 8);
        let store = stores.iter().find(|s| s.offset == offset).expect("written");
        i32::from_ne_bytes(store.bytes[..4].try_into().expect("four bytes"))
    }

    #[test]
    fn the_bytes_written_tell_the_groups_apart() {
        assert!(written(Group::F).iter().all(|&byte| byte < 88));
        assert!(written(Group::F).contains(&72), "n_batch of group F");
        assert!(written(Group::E).contains(&100), "n_batch of group E");
        assert!(!written(Group::D1).contains(&100), "no n_batch before 1.2.1");
        assert!(written(Group::D).contains(&87), "img_content is a pointer");
    }

    #[test]
    fn padding_and_reserved_bytes_stay_untouched() {
        let e = written(Group::E);
        for byte in [58, 63, 94, 95, 102, 150, 207] {
            assert!(!e.contains(&byte), "byte {byte}");
        }
    }

    #[test]
    fn the_defaults_are_the_vendors() {
        assert_eq!(int_at(Group::F, 8), 512);
        assert_eq!(int_at(Group::F, 12), -1);
        assert_eq!(int_at(Group::E, 96), 0xf0);
        assert_eq!(int_at(Group::C, 16), 40);
    }
}
