//! The file: parsed, checked, compiled, run. The only place that knows the library.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tract_onnx::{
    pb::{
        ModelProto, ValueInfoProto,
        tensor_proto::{DataLocation, DataType},
        tensor_shape_proto::dimension,
        type_proto,
    },
    prelude::*,
};

use super::OnnxError;

/// A model larger than this is refused: it would not answer in time.
pub(crate) const MAX_BYTES: usize = 256 << 20;

/// An input or output as the file declares it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Port {
    pub name: String,
    /// As an error shows it.
    pub element: String,
    pub is_float: bool,
    pub is_int64: bool,
    /// `None` for a size that is open.
    pub shape: Vec<Option<usize>>,
}

/// A parsed file whose shapes are not fixed yet.
pub(crate) struct Opened {
    proto: ModelProto,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub metadata: BTreeMap<String, String>,
}

/// Compiled for one shape of input.
pub(crate) struct Plan {
    model: Arc<TypedRunnableModel>,
    shape: Vec<usize>,
    output: usize,
}

/// What a plan is fed with.
pub(crate) enum Input<'a> {
    Floats(&'a [f32]),
    Integers(&'a [i64]),
}

/// Runs foreign code that may panic on a model that it does not expect.
fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, OnnxError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        // With its causes: the last says which node is at fault.
        Ok(Err(error)) => Err(OnnxError::Model(format!("{error:#}"))),
        Err(_) => Err(OnnxError::Panicked),
    }
}

fn port(info: &ValueInfoProto) -> Port {
    let tensor = info.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let tensor = tensor.map(|type_proto::Value::TensorType(tensor)| tensor);
    let element = tensor.map_or(0, |tensor| tensor.elem_type);
    let dims = tensor
        .and_then(|tensor| tensor.shape.as_ref())
        .map(|shape| &shape.dim);
    let size = |dim: &tract_onnx::pb::tensor_shape_proto::Dimension| match dim.value {
        Some(dimension::Value::DimValue(size)) => usize::try_from(size).ok().filter(|size| *size > 0),
        _ => None,
    };
    Port {
        name: info.name.clone(),
        element: DataType::try_from(element)
            .map_or("unknown".into(), |kind| format!("{kind:?}").to_lowercase()),
        is_float: element == DataType::Float as i32,
        is_int64: element == DataType::Int64 as i32,
        shape: dims.into_iter().flatten().map(size).collect(),
    }
}

impl Opened {
    pub fn read(mut bytes: &[u8]) -> Result<Opened, OnnxError> {
        if bytes.len() > MAX_BYTES {
            return Err(OnnxError::TooLarge {
                bytes: bytes.len(),
                limit: MAX_BYTES,
            });
        }
        let proto = guarded(|| tract_onnx::onnx().proto_model_for_read(&mut bytes));
        let proto = proto.map_err(|_| OnnxError::Format)?;
        let graph = proto.graph.as_ref().ok_or(OnnxError::Format)?;
        let external = Some(DataLocation::External as i32);
        if let Some(tensor) = graph
            .initializer
            .iter()
            .find(|tensor| tensor.data_location == external)
        {
            return Err(OnnxError::External(tensor.name.clone()));
        }
        // Old files list weights among the inputs.
        let is_weight =
            |info: &&ValueInfoProto| !graph.initializer.iter().any(|weight| weight.name == info.name);
        let inputs = graph.input.iter().filter(is_weight).map(port).collect();
        let outputs = graph.output.iter().map(port).collect();
        let property =
            |entry: &tract_onnx::pb::StringStringEntryProto| (entry.key.clone(), entry.value.clone());
        let metadata = proto.metadata_props.iter().map(property).collect();
        Ok(Opened {
            inputs,
            outputs,
            metadata,
            proto,
        })
    }

    /// Compiles for an input of this shape; `output` is a position among [`Opened::outputs`].
    pub fn compile(&self, shape: &[usize], output: usize) -> Result<Plan, OnnxError> {
        let element = if self.inputs[0].is_int64 {
            i64::datum_type()
        } else {
            f32::datum_type()
        };
        let model = guarded(|| {
            // What the file says of its outputs is only right for open sizes.
            let model = tract_onnx::onnx()
                .with_ignore_output_shapes(true)
                .model_for_proto_model(&self.proto)?;
            let fact = InferenceFact::dt_shape(element, shape.iter().copied());
            model.with_input_fact(0, fact)?.into_optimized()?.into_runnable()
        })?;
        Ok(Plan {
            model,
            shape: shape.to_vec(),
            output,
        })
    }
}

impl Plan {
    /// The numbers of the output, row by row.
    pub fn run(&self, input: Input<'_>) -> Result<Vec<f32>, OnnxError> {
        guarded(|| {
            let input = match input {
                Input::Floats(values) => Tensor::from_shape(&self.shape, values)?,
                Input::Integers(values) => Tensor::from_shape(&self.shape, values)?,
            };
            let outputs = self.model.run(tvec!(input.into()))?;
            // Nothing is what no caller expects: they compare the number of values.
            let Some(output) = outputs.get(self.output) else {
                return Ok(Vec::new());
            };
            let output = output.cast_to::<f32>()?;
            let view = output.to_plain_array_view::<f32>()?;
            Ok(view.iter().copied().collect())
        })
    }
}
