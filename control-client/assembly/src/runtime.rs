//! RTDS: layers of the runtime that a control plane fills.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_ads::{Interest, Rejected, ResourceType, Update};
use millrace_config::SourceId;
use millrace_translate::{Compiled, RtdsLayer, Subscription, resource};

use crate::action::{Action, Level};
use crate::deadlines::Due;
use crate::start::Wait;
use crate::stored::Stored;
use crate::{Assembly, Turn};

/// One layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) subscription: Subscription,
    pub(crate) stored: Option<Stored>,
}

/// The layers by the name of their resource.
#[derive(Debug, Default)]
pub(crate) struct Layers(pub(crate) BTreeMap<Arc<str>, Layer>);

impl Layers {
    pub(crate) fn new(compiled: &Compiled) -> Self {
        let one = |layer: &RtdsLayer| {
            (layer.name.clone(), Layer { subscription: layer.subscription, stored: None })
        };
        Self(compiled.runtime.rtds_layers().map(one).collect())
    }
}

impl Layers {
    fn store(&mut self, stored: Stored, name: &str) {
        if let Some(layer) = self.0.get_mut(name) {
            layer.stored = Some(stored);
        }
    }
}

impl Assembly {
    pub(crate) fn subscribe_layers(&mut self, turn: &mut Turn<'_>) {
        for (name, layer) in &self.layers.0 {
            let Subscription { source, initial_fetch_timeout } = layer.subscription;
            self.startup.wait(Wait::Layer(name.clone()));
            if let Some(timeout) = initial_fetch_timeout {
                self.deadlines.insert(turn.now + timeout, Due::Layer(name.clone()));
            }
            self.out.push(Action::Subscribe(source, ResourceType::Runtime, Interest::Name(name.clone())));
        }
    }

    /// Values take effect in resources that are compiled from now on.
    pub(crate) fn update_runtime(&mut self, turn: &mut Turn<'_>, source: SourceId, update: Update) {
        let mut rejected = update.broken;
        for changed in &update.changed {
            if !self.layers.0.contains_key(&changed.name) {
                continue;
            }
            let translated = resource::runtime(&changed.body, &mut self.cx);
            match self.taken(translated) {
                Ok(layer) => {
                    self.cx.runtime.set_rtds(&layer.name, &layer.values);
                    self.layers.store(Stored::new(changed, turn.wall), &changed.name);
                }
                Err(reason) => rejected.push(Rejected { name: changed.name.clone(), reason }),
            }
            self.startup.done(&Wait::Layer(changed.name.clone()));
        }
        for name in update.removed.iter().chain(&update.unchanged) {
            self.startup.done(&Wait::Layer(name.clone()));
        }
        self.acks.now(source, update.id, rejected, &mut self.out);
    }

    pub(crate) fn layer_is_due(&mut self, name: &Arc<str>) {
        if self.startup.done(&Wait::Layer(name.clone())) {
            self.log(Level::Warning, format!("rtds: the layer '{name}' did not come in time"));
        }
    }
}
