//! As much of the SQL as a declarative client needs: where one statement ends, what it makes, under which name.
//! The server rewrites statements (case, columns, properties, comments), so its text is never compared with ours.

use super::protocol::SourceKind;

/// What is wrong with a text before the server sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A quote or comment does not end.
    #[error("a quote, name or comment that is opened does not end")]
    Unterminated,
    /// A statement that is not declarative.
    #[error("{0:?} is not supported here: write CREATE STREAM, CREATE TABLE or CREATE TYPE")]
    Unsupported(String),
    /// CREATE without a name.
    #[error("CREATE {0} is not followed by a name")]
    NoName(String),
}

/// A statement's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Stream or table.
    pub kind: SourceKind,
    /// The name as the server lists it: upper case unless quoted.
    pub source: String,
    /// It runs a query (`AS SELECT`).
    pub query: bool,
    /// The text with `CREATE OR REPLACE`.
    pub replacing: String,
}

/// A piece of SQL text: byte offsets into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    start: usize,
    end: usize,
}

/// Splits a text at the semicolons outside quotes and comments; each statement keeps its semicolon, loses comments
/// around it, and is never empty.
///
/// # Errors
/// [`ParseError::Unterminated`].
pub fn split(text: &str) -> Result<Vec<String>, ParseError> {
    let mut statements = Vec::new();
    let mut first: Option<usize> = None;
    let mut last = 0;
    for token in tokens(text)? {
        let from = *first.get_or_insert(token.start);
        last = token.end;
        if &text[token.start..token.end] == ";" {
            if from != token.start {
                statements.push(text[from..token.end].to_owned());
            }
            first = None;
        }
    }
    if let Some(from) = first {
        statements.push(format!("{};", &text[from..last]));
    }
    Ok(statements)
}

/// Reads a statement's head.
///
/// # Errors
/// Any [`ParseError`].
pub fn parse(statement: &str) -> Result<Parsed, ParseError> {
    let tokens = tokens(statement)?;
    let word = |i: usize| {
        tokens
            .get(i)
            .map(|t| &statement[t.start..t.end])
            .unwrap_or_default()
    };
    let is = |i: usize, keyword: &str| word(i).eq_ignore_ascii_case(keyword);
    let unsupported = || ParseError::Unsupported(format!("{} {}", word(0), word(1)).trim().to_owned());
    if !is(0, "CREATE") {
        return Err(unsupported());
    }
    let after_create = tokens[0].end;
    let mut at = 1;
    let has_replace = is(at, "OR") && is(at + 1, "REPLACE");
    if has_replace {
        at += 2;
    }
    if is(at, "SOURCE") {
        at += 1;
    }
    let kind = match word(at).to_ascii_uppercase().as_str() {
        "STREAM" => SourceKind::Stream,
        "TABLE" => SourceKind::Table,
        _ => return Err(unsupported()),
    };
    let kind_word = word(at).to_ascii_uppercase();
    at += 1;
    let guard = at;
    if is(at, "IF") && is(at + 1, "NOT") && is(at + 2, "EXISTS") {
        at += 3;
    }
    let name = word(at);
    let source = match name.strip_prefix('`').and_then(|n| n.strip_suffix('`')) {
        Some(quoted) if !quoted.is_empty() => quoted.to_owned(),
        None if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => name.to_uppercase(),
        _ => return Err(ParseError::NoName(kind_word)),
    };
    let query = (at..tokens.len()).any(|i| is(i, "AS") && is(i + 1, "SELECT"));
    let head = if has_replace { "" } else { " OR REPLACE" };
    // OR REPLACE and IF NOT EXISTS exclude each other.
    let kind_end = tokens[guard - 1].end;
    let replacing = format!(
        "{}{head}{} {}",
        &statement[..after_create],
        &statement[after_create..kind_end],
        &statement[tokens[at].start..]
    );
    Ok(Parsed {
        kind,
        source,
        query,
        replacing,
    })
}

/// Words, quoted names, strings and single symbols; comments and white space are left out.
fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut found = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((start, c)) = rest.next() {
        let tail = &text[start..];
        let end = if c.is_whitespace() {
            continue;
        } else if tail.starts_with("--") {
            let length = tail.find('\n').unwrap_or(tail.len());
            skip_to(&mut rest, start + length);
            continue;
        } else if tail.starts_with("/*") {
            let length = tail.find("*/").ok_or(ParseError::Unterminated)? + 2;
            skip_to(&mut rest, start + length);
            continue;
        } else if c == '\'' || c == '`' || c == '"' {
            // A doubled quote is the quote itself: it reads as two adjoining strings, which splits equally well.
            let length = tail[1..].find(c).ok_or(ParseError::Unterminated)? + 2;
            start + length
        } else if c.is_alphanumeric() || c == '_' {
            let length = tail
                .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                .unwrap_or(tail.len());
            start + length
        } else {
            start + c.len_utf8()
        };
        skip_to(&mut rest, end);
        found.push(Token { start, end });
    }
    Ok(found)
}

fn skip_to(rest: &mut std::iter::Peekable<std::str::CharIndices<'_>>, offset: usize) {
    while rest.next_if(|(at, _)| *at < offset).is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEHAVIOR: &str = "CREATE STREAM customer_behavior (customer_id VARCHAR, product_id VARCHAR, event_type \
                            VARCHAR) WITH (kafka_topic='customer_behavior', value_format='json');";
    const PURCHASES: &str = "CREATE STREAM customer_purchases AS SELECT customer_id, product_id FROM \
                             customer_behavior WHERE event_type = 'purchase';";

    #[test]
    fn the_simplest_form_is_read_verbatim() {
        let statements = split(&format!("{BEHAVIOR}\n{PURCHASES}\n")).unwrap();
        assert_eq!(statements, [BEHAVIOR, PURCHASES]);
        let behavior = parse(BEHAVIOR).unwrap();
        assert_eq!(
            (behavior.kind, behavior.source.as_str(), behavior.query),
            (SourceKind::Stream, "CUSTOMER_BEHAVIOR", false)
        );
        let purchases = parse(PURCHASES).unwrap();
        assert_eq!(
            (purchases.source.as_str(), purchases.query),
            ("CUSTOMER_PURCHASES", true)
        );
    }

    #[test]
    fn semicolons_in_strings_names_and_comments_do_not_split() {
        let text = "-- one; two\nCREATE STREAM a (x INT) WITH (kafka_topic='a;b'); /* ; */ CREATE TABLE `b;c` AS SELECT 1";
        let statements = split(text).unwrap();
        assert_eq!(statements.len(), 2, "{statements:?}");
        assert!(statements[0].ends_with("'a;b');"));
        assert_eq!(statements[1], "CREATE TABLE `b;c` AS SELECT 1;");
        assert_eq!(split(";;  -- nothing\n;").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn quoted_names_keep_their_case_and_others_become_upper_case() {
        assert_eq!(
            parse("create table `lower` AS SELECT 1;").unwrap().source,
            "lower"
        );
        assert_eq!(
            parse("create source stream Mixed_1 (a INT) WITH ();")
                .unwrap()
                .source,
            "MIXED_1"
        );
        assert_eq!(
            parse("CREATE STREAM IF NOT EXISTS x (a INT);").unwrap().source,
            "X"
        );
    }

    #[test]
    fn a_replacement_drops_if_not_exists_and_keeps_the_rest() {
        assert_eq!(
            parse("CREATE STREAM IF NOT EXISTS x (a INT) WITH (k='v');")
                .unwrap()
                .replacing,
            "CREATE OR REPLACE STREAM x (a INT) WITH (k='v');"
        );
        assert_eq!(
            parse("CREATE OR REPLACE TABLE x AS SELECT 1;").unwrap().replacing,
            "CREATE OR REPLACE TABLE x AS SELECT 1;"
        );
    }

    #[test]
    fn what_is_not_declarative_is_refused_by_its_first_words() {
        assert_eq!(
            parse("DROP STREAM x;"),
            Err(ParseError::Unsupported("DROP STREAM".into()))
        );
        assert_eq!(
            parse("INSERT INTO x SELECT 1;"),
            Err(ParseError::Unsupported("INSERT INTO".into()))
        );
        assert_eq!(
            parse("CREATE STREAM (a INT);"),
            Err(ParseError::NoName("STREAM".into()))
        );
        assert_eq!(split("CREATE STREAM 'x"), Err(ParseError::Unterminated));
    }

    #[test]
    fn hostile_texts_never_panic() {
        for text in [
            "",
            "`",
            "ü;'ß'",
            "CREATE",
            "CREATE OR",
            "CREATE STREAM `",
            "/*",
            "--",
            "CREATE STREAM ``;",
            "💥;💥",
        ] {
            for statement in split(text).unwrap_or_default() {
                let _ = parse(&statement);
            }
        }
    }
}
