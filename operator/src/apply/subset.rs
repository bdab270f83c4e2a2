//! Whether a live object has everything that is wanted. The API server adds defaults and other writers add fields:
//! those do not count. A reconcile of an unchanged pipeline writes nothing because of this comparison.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

/// Whether every field of `wanted` is in `live` with an equal value.
pub fn contains(live: &Value, wanted: &Value) -> bool {
    within(live, wanted, false)
}

/// `amounts`: the strings are quantities, of which `1000m` and `1` are the same.
fn within(live: &Value, wanted: &Value, amounts: bool) -> bool {
    match (live, wanted) {
        (_, Value::Null) => true,
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| match live.get(key) {
                Some(found) => within(
                    found,
                    value,
                    amounts || matches!(key.as_str(), "requests" | "limits"),
                ),
                None => is_empty(value),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => match merge_key(live, wanted) {
            // What another writer added stays there whatever is applied, so only what is wanted is looked for.
            Some(key) => wanted.iter().all(|w| {
                let found = live.iter().find(|l| l[key] == w[key]);
                found.is_some_and(|found| within(found, w, false))
            }),
            // By position: the API server keeps their order.
            None => live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| within(l, w, false)),
        },
        (Value::String(live), Value::String(wanted)) => {
            live == wanted || (amounts && same_amount(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

/// The key by which server-side apply merges two lists element by element (owners by their uid; containers, volumes
/// and ports by name); `None` for a list that is replaced as a whole.
fn merge_key(live: &[Value], wanted: &[Value]) -> Option<&'static str> {
    ["uid", "name"]
        .into_iter()
        .find(|key| live.iter().chain(wanted).all(|element| element[*key].is_string()))
}

/// Empty maps and lists are not stored.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn same_amount(a: &str, b: &str) -> bool {
    match (amount(&Quantity(a.to_owned())), amount(&Quantity(b.to_owned()))) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// A quantity in billionths, which holds the smallest suffix exactly; `None` for what is no quantity, or is too large.
fn amount(quantity: &Quantity) -> Option<i128> {
    const BILLION: i128 = 1_000_000_000;
    let text = quantity.0.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let power = |exponent: u32| BILLION.checked_mul(10_i128.checked_pow(exponent)?);
    let scale: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => BILLION,
        "k" => power(3)?,
        "M" => power(6)?,
        "G" => power(9)?,
        "T" => power(12)?,
        "P" => power(15)?,
        "E" => power(18)?,
        "Ki" => BILLION << 10,
        "Mi" => BILLION << 20,
        "Gi" => BILLION << 30,
        "Ti" => BILLION << 40,
        "Pi" => BILLION << 50,
        "Ei" => BILLION << 60,
        // `12e6`, `5E-3`
        _ => match suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()? {
            exponent @ 0.. => power(exponent.unsigned_abs())?,
            exponent @ -9..=-1 => BILLION / 10_i128.pow(exponent.unsigned_abs()),
            _ => return None,
        },
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = u32::try_from(fraction.len()).ok().filter(|n| *n <= 9)?;
    let units: i128 = format!("{whole}{fraction}").parse().ok()?;
    units.checked_mul(scale).map(|n| n / 10_i128.pow(digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_and_other_writers_fields_do_not_count() {
        let live = json!({"spec": {"a": 1, "b": [{"x": 1, "default": true}], "status": "y"}});
        assert!(contains(&live, &json!({"spec": {"a": 1, "b": [{"x": 1}]}})));
        assert!(contains(
            &live,
            &json!({"spec": {"a": 1, "none": null, "empty": {}, "list": []}})
        ));
    }

    #[test]
    fn a_changed_missing_or_added_element_counts() {
        let live = json!({"a": 1, "list": [1, 2]});
        assert!(!contains(&live, &json!({"a": 2})));
        assert!(!contains(&live, &json!({"b": 1})));
        assert!(!contains(&live, &json!({"list": [1]})));
        assert!(!contains(&live, &json!({"list": [2, 1]})));
        assert!(!contains(&json!({"a": {}}), &json!({"a": {"b": ""}})));
    }

    #[test]
    fn a_named_element_that_another_writer_added_does_not_count_and_one_that_is_missing_does() {
        let live = json!({"containers": [{"name": "injected", "image": "i"}, {"name": "a", "image": "1"}]});
        assert!(contains(
            &live,
            &json!({"containers": [{"name": "a", "image": "1"}]})
        ));
        assert!(!contains(
            &live,
            &json!({"containers": [{"name": "a", "image": "2"}]})
        ));
        assert!(!contains(
            &live,
            &json!({"containers": [{"name": "a"}, {"name": "b"}]})
        ));
        let owners = json!({"owners": [{"name": "shop", "uid": "1"}, {"name": "shop", "uid": "2"}]});
        assert!(contains(
            &owners,
            &json!({"owners": [{"name": "shop", "uid": "2"}]})
        ));
        assert!(!contains(
            &owners,
            &json!({"owners": [{"name": "shop", "uid": "3"}]})
        ));
    }

    #[test]
    fn quantities_are_compared_by_amount_and_other_strings_are_not() {
        let live = json!({"resources": {"limits": {"cpu": "1", "memory": "2Gi"}}, "name": "1000m"});
        assert!(contains(
            &live,
            &json!({"resources": {"limits": {"cpu": "1000m", "memory": "2048Mi"}}})
        ));
        assert!(contains(&live, &json!({"resources": {"limits": {"cpu": "1.0"}}})));
        assert!(!contains(
            &live,
            &json!({"resources": {"limits": {"cpu": "1001m"}}})
        ));
        assert!(!contains(&live, &json!({"name": "1"})));
    }

    #[test]
    fn amounts_that_are_no_quantities_are_only_equal_to_themselves() {
        let live = json!({"limits": {"cpu": "lots"}});
        assert!(contains(&live, &json!({"limits": {"cpu": "lots"}})));
        assert!(!contains(&live, &json!({"limits": {"cpu": "more"}})));
    }

    #[test]
    fn quantities_have_many_spellings() {
        let same = |a: &str, b: &str| same_amount(a, b);
        for (a, b) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            ("1e3", "1k"),
            ("1E3", "1000"),
            ("5e-3", "5m"),
            ("2P", "2000T"),
            ("1E", "1000P"),
            ("1Pi", "1024Ti"),
            ("1Ei", "1024Pi"),
            ("+2Gi", "2048Mi"),
            ("1.5Gi", "1536Mi"),
        ] {
            assert!(same(a, b), "{a} is {b}");
        }
        for (a, b) in [
            ("1E", "1E1"),
            ("1Pi", "1P"),
            ("1", "1e"),
            ("1e99", "2e99"),
            ("x", "y"),
        ] {
            assert!(!same(a, b), "{a} is not {b}");
        }
    }
}
