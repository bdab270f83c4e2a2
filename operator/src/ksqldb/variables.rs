//! `${name}` in statements. Substituted here, not by the server: what is hashed and compared is then exactly what is
//! sent, and an unknown name is an error here, where the server would leave it in place as a literal.

use std::collections::BTreeMap;

/// A variable that nothing defines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("variable ${{{0}}} is not defined")]
pub struct Undefined(pub String);

/// Replaces every `${name}` of `text`.
///
/// # Errors
/// [`Undefined`], naming the first that is not in `values`.
pub fn substitute(text: &str, values: &BTreeMap<String, String>) -> Result<String, Undefined> {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, name, after)) = next(rest) {
        done.push_str(before);
        done.push_str(values.get(name).ok_or_else(|| Undefined(name.to_owned()))?);
        rest = after;
    }
    done.push_str(rest);
    Ok(done)
}

/// The names that `text` refers to.
pub fn names(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, name, after)) = next(rest) {
        found.push(name);
        rest = after;
    }
    found
}

fn next(text: &str) -> Option<(&str, &str, &str)> {
    let (before, tail) = text.split_once("${")?;
    let (name, after) = tail.split_once('}')?;
    Some((before, name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_an_unknown_one_is_named() {
        let values = BTreeMap::from([
            ("topic".to_owned(), "shop".to_owned()),
            ("n".to_owned(), "3".to_owned()),
        ]);
        assert_eq!(
            substitute("a='${topic}', p=${n};", &values).unwrap(),
            "a='shop', p=3;"
        );
        assert_eq!(substitute("no ${", &values).unwrap(), "no ${");
        let error = substitute("${topic} ${nope}", &values).unwrap_err();
        assert_eq!(error.to_string(), "variable ${nope} is not defined");
        assert_eq!(names("${a} ${b}"), ["a", "b"]);
    }
}
