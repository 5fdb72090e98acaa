//! `layered_runtime`: layers flattened to dotted keys, and the look-ups that other messages ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_config::Fraction;
use millrace_proto::pb::envoy::config::bootstrap::v3::{LayeredRuntime, runtime_layer::LayerSpecifier};
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::r#type::v3 as kinds;
use millrace_proto::pb::google::protobuf::{Struct, Value, value::Kind};
use millrace_proto::{Message, Path, to_json};

use crate::context::Context;
use crate::error::Rejection;
use crate::source::{Subscription, subscription};

/// One value of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum RuntimeValue {
    /// A number.
    Number(f64),
    /// A boolean.
    Bool(bool),
    /// Text, possibly a number in quotes.
    Text(String),
    /// `numerator` and `denominator`.
    Fraction(Fraction),
}

impl RuntimeValue {
    /// As `/runtime` prints it.
    pub fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Text(text) => text.clone(),
            Self::Fraction(fraction) => format!("{}/{}", fraction.numerator, fraction.denominator),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Bool(_) | Self::Fraction(_) => None,
        }
    }
}

/// One layer.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeLayer {
    /// `name`.
    pub name: String,
    /// Flattened values; empty for the admin layer.
    pub values: BTreeMap<String, RuntimeValue>,
    /// True for `admin_layer`.
    pub admin: bool,
    /// `rtds_layer`: the resource whose values these are, and where it comes from.
    pub rtds: Option<RtdsLayer>,
}

/// `RuntimeLayer.rtds_layer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtdsLayer {
    /// Name of the resource.
    pub name: Arc<str>,
    /// `rtds_config`.
    pub subscription: Subscription,
}

/// All layers; a later one overrides an earlier one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runtime {
    /// In configuration order.
    pub layers: Vec<RuntimeLayer>,
}

impl Runtime {
    /// The layers that come over RTDS, in configuration order.
    pub fn rtds_layers(&self) -> impl Iterator<Item = &RtdsLayer> {
        self.layers.iter().filter_map(|layer| layer.rtds.as_ref())
    }

    /// Puts the values of a runtime resource into its layers, empty ones when it is gone. True when a value changed;
    /// resources keep the values that they were translated with until they are translated again.
    pub fn set_rtds(&mut self, name: &str, values: &BTreeMap<String, RuntimeValue>) -> bool {
        let mut changed = false;
        for layer in &mut self.layers {
            if layer.rtds.as_ref().is_some_and(|rtds| &*rtds.name == name) && layer.values != *values {
                layer.values.clone_from(values);
                changed = true;
            }
        }
        changed
    }

    /// The value that counts.
    pub fn get(&self, key: &str) -> Option<&RuntimeValue> {
        self.layers.iter().rev().find_map(|layer| layer.values.get(key))
    }

    /// A whole number; anything else counts as absent.
    pub fn integer(&self, key: &str) -> Option<u64> {
        let number = self.get(key)?.number()?;
        (number >= 0.0 && number.fract() == 0.0 && number < 1.8e19).then_some(number as u64)
    }

    /// A switch.
    pub fn boolean(&self, key: &str, default: bool) -> bool {
        match self.get(key) {
            Some(RuntimeValue::Bool(value)) => *value,
            Some(RuntimeValue::Text(text)) => text.parse().unwrap_or(default),
            _ => default,
        }
    }

    pub(crate) fn fraction(&self, value: &core::RuntimeFractionalPercent) -> Fraction {
        self.percent(&value.runtime_key, value.default_value.as_ref())
    }

    /// A whole number in the runtime is a percentage of 100.
    pub(crate) fn percent(&self, key: &str, default: Option<&kinds::FractionalPercent>) -> Fraction {
        match self.get(key) {
            Some(RuntimeValue::Fraction(fraction)) => *fraction,
            Some(value) if value.number().is_some_and(|n| n >= 0.0 && n.fract() == 0.0) => Fraction {
                numerator: value.number().unwrap_or(0.0).min(f64::from(u32::MAX)) as u32,
                denominator: 100,
            },
            _ => default.map_or(Fraction { numerator: 0, denominator: 100 }, fraction),
        }
    }

    pub(crate) fn uint32(&self, value: &core::RuntimeUInt32) -> u32 {
        let found = self.integer(&value.runtime_key).and_then(|n| u32::try_from(n).ok());
        found.unwrap_or(value.default_value)
    }

    /// The value of a key, or this one.
    pub(crate) fn double_of(&self, key: &str, default: f64) -> f64 {
        self.get(key).and_then(RuntimeValue::number).unwrap_or(default)
    }

    pub(crate) fn double(&self, value: &core::RuntimeDouble) -> f64 {
        self.get(&value.runtime_key).and_then(RuntimeValue::number).unwrap_or(value.default_value)
    }
}

/// `type.v3.FractionalPercent`.
pub(crate) fn fraction(percent: &kinds::FractionalPercent) -> Fraction {
    use kinds::fractional_percent::DenominatorType;
    let denominator = match percent.denominator() {
        DenominatorType::Hundred => 100,
        DenominatorType::TenThousand => 10_000,
        DenominatorType::Million => 1_000_000,
    };
    Fraction { numerator: percent.numerator, denominator }
}

/// Reads the layers. Disk layers are judged by the table of fields.
pub(crate) fn layered(
    runtime: Option<&LayeredRuntime>,
    path: &Path,
    cx: &mut Context,
) -> Result<Runtime, Rejection> {
    let mut layers: Vec<RuntimeLayer> = Vec::new();
    let Some(runtime) = runtime else {
        return Ok(Runtime::default());
    };
    let path = path.join("layers");
    for (i, layer) in runtime.layers.iter().enumerate() {
        if layers.iter().any(|earlier| earlier.name == layer.name) {
            return Err(Rejection::new(
                &path.at(i).join("name"),
                format!("Duplicate layer name: {}", layer.name),
            ));
        }
        let admin = matches!(layer.layer_specifier, Some(LayerSpecifier::AdminLayer(_)));
        if admin && layers.iter().any(|earlier| earlier.admin) {
            return Err(Rejection::new(
                &path.at(i),
                "Too many admin layers specified in LayeredRuntime, at most one may be specified",
            ));
        }
        let (mut values, mut rtds) = (BTreeMap::new(), None);
        match &layer.layer_specifier {
            Some(LayerSpecifier::StaticLayer(tree)) => values = flat(tree),
            Some(LayerSpecifier::RtdsLayer(layer)) => {
                let path = path.at(i).join("rtds_layer").join("rtds_config");
                let subscription = subscription(layer.rtds_config.as_ref(), &path, cx)?;
                rtds = Some(RtdsLayer { name: layer.name.as_str().into(), subscription });
            }
            Some(LayerSpecifier::AdminLayer(_) | LayerSpecifier::DiskLayer(_)) | None => {}
        }
        layers.push(RuntimeLayer { name: layer.name.clone(), values, admin, rtds });
    }
    Ok(Runtime { layers })
}

/// The values of a tree, by dotted key.
pub(crate) fn flat(tree: &Struct) -> BTreeMap<String, RuntimeValue> {
    let mut values = BTreeMap::new();
    flatten("", tree, &mut values);
    values
}

fn flatten(prefix: &str, tree: &Struct, out: &mut BTreeMap<String, RuntimeValue>) {
    for (key, value) in &tree.fields {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match &value.kind {
            Some(Kind::NumberValue(number)) => drop(out.insert(key, RuntimeValue::Number(*number))),
            Some(Kind::BoolValue(value)) => drop(out.insert(key, RuntimeValue::Bool(*value))),
            Some(Kind::StringValue(text)) => drop(out.insert(key, RuntimeValue::Text(text.clone()))),
            Some(Kind::StructValue(inner)) => match as_fraction(inner) {
                Some(fraction) => drop(out.insert(key, RuntimeValue::Fraction(fraction))),
                None => flatten(&key, inner, out),
            },
            Some(Kind::ListValue(_)) => drop(out.insert(key, RuntimeValue::Text(json_text(value)))),
            Some(Kind::NullValue(_)) | None => {}
        }
    }
}

/// An object with a `numerator` is a percentage; everything else is a level of names.
fn as_fraction(tree: &Struct) -> Option<Fraction> {
    let known = tree.fields.keys().all(|key| key == "numerator" || key == "denominator");
    let Some(Kind::NumberValue(numerator)) = tree.fields.get("numerator").filter(|_| known)?.kind else {
        return None;
    };
    let denominator = match tree.fields.get("denominator").and_then(|v| v.kind.as_ref()) {
        None => 100,
        Some(Kind::StringValue(name)) => match name.as_str() {
            "HUNDRED" => 100,
            "TEN_THOUSAND" => 10_000,
            "MILLION" => 1_000_000,
            _ => return None,
        },
        Some(_) => return None,
    };
    (numerator >= 0.0)
        .then_some(Fraction { numerator: numerator.min(f64::from(u32::MAX)) as u32, denominator })
}

fn json_text(value: &Value) -> String {
    let json = to_json("type.googleapis.com/google.protobuf.Value", &value.encode_to_vec());
    json.map(|json| json.get("value").map(ToString::to_string).unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(json: &str) -> Runtime {
        let parsed =
            millrace_proto::bootstrap_from_yaml(json, &millrace_proto::LoadOptions::default()).unwrap();
        let bootstrap = millrace_proto::decode(&parsed.bytes).unwrap();
        let mut cx = Context::new(millrace_observe::stats::Registry::new(), crate::Overrides::default());
        layered(bootstrap.layered_runtime.as_ref(), &Path::from("layered_runtime"), &mut cx).unwrap()
    }

    #[test]
    fn later_layers_win_and_keys_are_flat() {
        let runtime = runtime(
            "layered_runtime: {layers: [{name: a, static_layer: {x.y: 1, x: {z: true, q: '7'}}}, {name: adm, admin_layer: {}}, {name: b, static_layer: {x: {y: 2, f: {numerator: 5, denominator: TEN_THOUSAND}}}}]}",
        );
        assert_eq!(runtime.integer("x.y"), Some(2));
        assert_eq!(runtime.integer("x.q"), Some(7));
        assert!(runtime.boolean("x.z", false) && runtime.boolean("nope", true));
        assert_eq!(
            runtime.get("x.f"),
            Some(&RuntimeValue::Fraction(Fraction { numerator: 5, denominator: 10_000 }))
        );
        let percent = core::RuntimeFractionalPercent { runtime_key: "x.y".into(), default_value: None };
        assert_eq!(runtime.fraction(&percent), Fraction { numerator: 2, denominator: 100 });
        assert!(runtime.layers[1].admin);
    }

    #[test]
    fn a_layer_of_its_own_resource() {
        let mut runtime = runtime(
            "layered_runtime: {layers: [{name: a, static_layer: {k: 1}}, {name: b, rtds_layer: {name: r, rtds_config: {ads: {}, initial_fetch_timeout: 0s}}}, {name: c, static_layer: {z: 1}}]}",
        );
        let layers: Vec<_> = runtime.rtds_layers().cloned().collect();
        assert_eq!((layers.len(), &*layers[0].name), (1, "r"));
        assert_eq!(layers[0].subscription.initial_fetch_timeout, None);
        let values = BTreeMap::from([
            ("k".to_owned(), RuntimeValue::Number(5.0)),
            ("z".to_owned(), RuntimeValue::Number(9.0)),
        ]);
        assert!(
            runtime.set_rtds("r", &values)
                && !runtime.set_rtds("r", &values)
                && !runtime.set_rtds("b", &values)
        );
        assert_eq!((runtime.integer("k"), runtime.integer("z")), (Some(5), Some(1)));
        assert!(runtime.set_rtds("r", &BTreeMap::new()));
        assert_eq!(runtime.integer("k"), Some(1));
    }
}
