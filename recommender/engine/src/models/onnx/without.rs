//! In place of `plan.rs` where the engine is built without the feature `onnx`.

use std::collections::BTreeMap;

use super::OnnxError;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Port {
    pub name: String,
    pub element: String,
    pub is_float: bool,
    pub is_int64: bool,
    pub shape: Vec<Option<usize>>,
}

pub(crate) struct Opened {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub metadata: BTreeMap<String, String>,
}

pub(crate) struct Plan;

#[expect(dead_code, reason = "nothing is here that could read them")]
pub(crate) enum Input<'a> {
    Floats(&'a [f32]),
    Integers(&'a [i64]),
}

impl Opened {
    pub fn read(_: &[u8]) -> Result<Opened, OnnxError> {
        Err(OnnxError::NotBuilt)
    }

    pub fn compile(&self, _: &[usize], _: usize) -> Result<Plan, OnnxError> {
        Err(OnnxError::NotBuilt)
    }
}

impl Plan {
    pub fn run(&self, _: Input<'_>) -> Result<Vec<f32>, OnnxError> {
        Err(OnnxError::NotBuilt)
    }
}
