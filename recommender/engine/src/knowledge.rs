//! What a shop knows without any event: attributes of customers matched against attributes of products by
//! declared rules ("skin_type must be among the product's for_skin").

use std::{collections::BTreeMap, sync::Arc};

use ahash::AHashMap;
use serde::{Deserialize, Serialize};

use crate::{event::ProductMeta, shared::Shared, writer::Writer};

/// Attributes by name; a name may have several values.
pub type Attributes = BTreeMap<String, Vec<String>>;

/// What a match means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Products that name the attribute without a common value are left out. Products that do not name it
    /// suit everyone.
    Must,
    /// Products with a common value are preferred.
    Should,
    /// Products with a common value are left out.
    Never,
}

/// Matches an attribute of the customer with one of the product: they match if they have a value in common,
/// compared without regard to case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnowledgeRule {
    /// Name of the customer's attribute.
    pub customer_attribute: String,
    /// Name of the product's attribute.
    pub product_attribute: String,
    /// What a match means.
    pub effect: Effect,
    /// How much a `Should` counts; 1 doubles a score.
    pub weight: f32,
}

impl KnowledgeRule {
    fn matches(&self, customer: &Attributes, product: &Attributes) -> bool {
        self.common(customer, product).is_some()
    }

    /// The first value that customer and product have in common, as the product spells it.
    fn common<'a>(&self, customer: &Attributes, product: &'a Attributes) -> Option<&'a str> {
        let has = customer.get(&self.customer_attribute)?;
        let suits = product.get(&self.product_attribute)?;
        let common = |value: &&String| has.iter().any(|other| value.eq_ignore_ascii_case(other));
        suits.iter().find(common).map(String::as_str)
    }

    fn allows(&self, customer: &Attributes, product: &Attributes) -> bool {
        match self.effect {
            Effect::Should => true,
            Effect::Never => !self.matches(customer, product),
            Effect::Must => {
                let speaks = customer.contains_key(&self.customer_attribute)
                    && product
                        .get(&self.product_attribute)
                        .is_some_and(|values| !values.is_empty());
                !speaks || self.matches(customer, product)
            }
        }
    }
}

/// Whether the rules let this customer see this product.
pub(crate) fn allows(rules: &[KnowledgeRule], customer: &Attributes, product: &ProductMeta) -> bool {
    rules
        .iter()
        .all(|rule| rule.allows(customer, &product.attributes))
}

/// The rule that speaks most for showing this product to this customer, and the value that they have in common.
pub(crate) fn strongest<'a>(
    rules: &'a [KnowledgeRule],
    customer: &Attributes,
    product: &'a ProductMeta,
) -> Option<(&'a KnowledgeRule, &'a str)> {
    let speaking = rules.iter().filter(|rule| rule.effect != Effect::Never);
    let matching = speaking.filter_map(|rule| Some((rule, rule.common(customer, &product.attributes)?)));
    // Of equal weights the rule that was declared first.
    matching.reduce(|best, other| {
        if other.0.weight > best.0.weight {
            other
        } else {
            best
        }
    })
}

/// What a score is multiplied with: 1, and the weight of each `Should` that matches.
pub(crate) fn preference(rules: &[KnowledgeRule], customer: &Attributes, product: &ProductMeta) -> f32 {
    let should = rules.iter().filter(|rule| rule.effect == Effect::Should);
    1.0 + should
        .filter(|rule| rule.matches(customer, &product.attributes))
        .map(|rule| rule.weight)
        .sum::<f32>()
}

/// Products by attribute and value, in lower case.
#[derive(Debug, Default)]
pub(crate) struct KnowledgeIndex {
    products: AHashMap<(String, String), Vec<u32>>,
}

impl KnowledgeIndex {
    /// Indexes what the catalogue says, in the order of product ids.
    pub fn build<'a>(products: impl Iterator<Item = Option<&'a ProductMeta>>) -> KnowledgeIndex {
        let mut index = KnowledgeIndex::default();
        for (id, meta) in products.enumerate() {
            for (name, values) in meta.iter().flat_map(|meta| &meta.attributes) {
                for value in values {
                    let list = index
                        .products
                        .entry((name.clone(), value.to_lowercase()))
                        .or_default();
                    if list.last() != Some(&(id as u32)) {
                        list.push(id as u32);
                    }
                }
            }
        }
        index
    }

    /// Hands every product that a rule other than `Never` matches to `add`, with the rule's weight.
    pub fn matching(&self, rules: &[KnowledgeRule], customer: &Attributes, mut add: impl FnMut(u32, f32)) {
        for rule in rules.iter().filter(|rule| rule.effect != Effect::Never) {
            for value in customer.get(&rule.customer_attribute).into_iter().flatten() {
                let key = (rule.product_attribute.clone(), value.to_lowercase());
                for &product in self.products.get(&key).into_iter().flatten() {
                    add(product, rule.weight);
                }
            }
        }
    }
}

impl Shared {
    /// What is known of a customer.
    pub(crate) fn profile(&self, customer: &str) -> Option<Arc<Attributes>> {
        self.profiles.pin().get(customer).cloned()
    }
}

impl Writer {
    /// Takes up what is known of a customer; `None` forgets it. [`Writer::erase`] forgets it too.
    pub fn set_profile(&mut self, customer: &str, attributes: Option<Attributes>) {
        let Some(attributes) = attributes else {
            self.forget_profile(customer);
            return;
        };
        let name: Arc<str> = customer.into();
        self.profiled.insert(&name);
        self.shared.profiles.pin().insert(name, attributes.into());
    }

    /// Answers whether there was one.
    pub(crate) fn forget_profile(&mut self, customer: &str) -> bool {
        self.profiled.remove(customer);
        self.shared.profiles.pin().remove(customer).is_some()
    }

    /// Swaps in other rules.
    pub fn set_knowledge(&mut self, rules: Vec<KnowledgeRule>) {
        self.config.knowledge = rules;
        self.compile();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(name: &str, values: &[&str]) -> Attributes {
        Attributes::from([(
            name.to_owned(),
            values.iter().map(|value| (*value).to_owned()).collect(),
        )])
    }

    #[test]
    fn each_effect_does_what_it_says() {
        let rule = |effect| KnowledgeRule {
            customer_attribute: "skin".into(),
            product_attribute: "for_skin".into(),
            effect,
            weight: 0.5,
        };
        let customer = attributes("skin", &["Dry"]);
        let product = |values: &[&str]| ProductMeta {
            attributes: attributes("for_skin", values),
            ..ProductMeta::default()
        };
        let (dry, oily, any) = (
            product(&["dry", "normal"]),
            product(&["oily"]),
            ProductMeta::default(),
        );
        let allowed = |effect, product| allows(&[rule(effect)], &customer, product);
        assert_eq!(
            [&dry, &oily, &any].map(|product| allowed(Effect::Must, product)),
            [true, false, true]
        );
        assert_eq!(
            [&dry, &oily, &any].map(|product| allowed(Effect::Never, product)),
            [false, true, true]
        );
        let preferred = |product| preference(&[rule(Effect::Should)], &customer, product);
        assert_eq!([&dry, &oily, &any].map(preferred), [1.5, 1.0, 1.0]);
    }
}
