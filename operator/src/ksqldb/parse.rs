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
    #[error("{0:?} is not supported here: write CREATE STREAM, CREATE TABLE or INSERT INTO … SELECT")]
    Unsupported(String),
    /// CREATE without a name.
    #[error("{0} is not followed by a name")]
    NoName(String),
    /// INSERT INTO without an id of its query.
    #[error(
        "INSERT INTO starts one more query each time it is sent: name its query, INSERT INTO … WITH \
         (QUERY_ID='name') SELECT …"
    )]
    NoQueryId,
}

/// What a statement makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A stream or a table.
    Source(SourceKind),
    /// A query that writes into a stream of another statement.
    Insert,
}

/// As much of a statement as must be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it makes.
    pub kind: Kind,
    /// The stream's or table's name as the server lists it, upper case unless quoted; of `INSERT INTO` the query's id.
    pub source: String,
    /// It runs a query (`AS SELECT`, `INSERT INTO`).
    pub query: bool,
    /// The text with `CREATE OR REPLACE`; as it is for `INSERT INTO`, which cannot replace.
    pub replacing: String,
    /// `CREATE SOURCE …`: a view of a topic that is somebody else's.
    pub read_only: bool,
    /// Streams and tables that it reads, and of `INSERT INTO` the one that it writes.
    pub needs: Vec<String>,
    /// It selects every column of what it reads, whatever they are.
    pub star: bool,
    /// The topic that it names.
    pub topic: Option<String>,
}

impl Parsed {
    /// The topic of what it makes: a stream that names none has one of its own name.
    pub fn topic(&self) -> &str {
        self.topic.as_deref().unwrap_or(&self.source)
    }
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

/// A statement with its tokens.
struct Words<'a> {
    text: &'a str,
    tokens: Vec<Token>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Result<Self, ParseError> {
        let tokens = tokens(text)?;
        Ok(Self { text, tokens })
    }

    /// The word at `i`; nothing after the end.
    fn at(&self, i: usize) -> &'a str {
        let token = self.tokens.get(i);
        token.map(|t| &self.text[t.start..t.end]).unwrap_or_default()
    }

    fn is(&self, i: usize, keyword: &str) -> bool {
        self.at(i).eq_ignore_ascii_case(keyword)
    }

    /// The name at `i` as the server lists it.
    fn name(&self, i: usize) -> Option<String> {
        let name = self.at(i);
        match name.strip_prefix('`').and_then(|n| n.strip_suffix('`')) {
            Some(quoted) if !quoted.is_empty() => Some(quoted.to_owned()),
            None if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => Some(name.to_uppercase()),
            _ => None,
        }
    }

    /// The string that a property is set to: `key = 'value'`.
    fn property(&self, key: &str) -> Option<String> {
        let at = (0..self.tokens.len()).find(|i| self.is(*i, key) && self.is(i + 1, "="))?;
        let value = self.at(at + 2).strip_prefix('\'')?.strip_suffix('\'')?;
        Some(value.to_owned())
    }

    /// What is read: the names after FROM and JOIN.
    fn reads(&self) -> Vec<String> {
        let mut found = Vec::new();
        for i in 0..self.tokens.len() {
            if (self.is(i, "FROM") || self.is(i, "JOIN"))
                && let Some(name) = self.name(i + 1)
                && !found.contains(&name)
            {
                found.push(name);
            }
        }
        found
    }

    /// `SELECT *`, `, *`, `a.*`; not `COUNT(*)` nor a product.
    fn star(&self) -> bool {
        (0..self.tokens.len()).any(|i| {
            let after = self.is(i + 1, "FROM") || self.is(i + 1, ",");
            self.is(i, "*") && after && (i == 0 || ["SELECT", ",", "."].iter().any(|k| self.is(i - 1, k)))
        })
    }
}

/// Reads a statement.
///
/// # Errors
/// Any [`ParseError`].
pub fn parse(statement: &str) -> Result<Parsed, ParseError> {
    let words = Words::new(statement)?;
    if words.is(0, "CREATE") {
        create(&words)
    } else if words.is(0, "INSERT") && words.is(1, "INTO") {
        insert(&words)
    } else {
        Err(unsupported(&words))
    }
}

fn unsupported(words: &Words<'_>) -> ParseError {
    ParseError::Unsupported(format!("{} {}", words.at(0), words.at(1)).trim().to_owned())
}

fn insert(words: &Words<'_>) -> Result<Parsed, ParseError> {
    let sink = words
        .name(2)
        .ok_or_else(|| ParseError::NoName("INSERT INTO".to_owned()))?;
    if !(3..words.tokens.len()).any(|i| words.is(i, "SELECT")) {
        // INSERT INTO … VALUES puts one record there each time it is sent.
        return Err(unsupported(words));
    }
    let id = words.property("QUERY_ID").ok_or(ParseError::NoQueryId)?;
    let mut needs = vec![sink];
    needs.extend(words.reads());
    Ok(Parsed {
        kind: Kind::Insert,
        source: id.to_uppercase(),
        query: true,
        replacing: words.text.to_owned(),
        read_only: false,
        needs,
        star: words.star(),
        topic: None,
    })
}

fn create(words: &Words<'_>) -> Result<Parsed, ParseError> {
    let (statement, tokens) = (words.text, &words.tokens);
    let after_create = tokens[0].end;
    let mut at = 1;
    let has_replace = words.is(at, "OR") && words.is(at + 1, "REPLACE");
    if has_replace {
        at += 2;
    }
    let read_only = words.is(at, "SOURCE");
    if read_only {
        at += 1;
    }
    let kind_word = words.at(at).to_ascii_uppercase();
    let kind = match kind_word.as_str() {
        "STREAM" => SourceKind::Stream,
        "TABLE" => SourceKind::Table,
        _ => return Err(unsupported(words)),
    };
    at += 1;
    let guard = at;
    if words.is(at, "IF") && words.is(at + 1, "NOT") && words.is(at + 2, "EXISTS") {
        at += 3;
    }
    let source = words.name(at);
    let source = source.ok_or_else(|| ParseError::NoName(format!("CREATE {kind_word}")))?;
    let query = (at..tokens.len()).any(|i| words.is(i, "AS") && words.is(i + 1, "SELECT"));
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
        kind: Kind::Source(kind),
        source,
        query,
        replacing,
        read_only,
        needs: if query { words.reads() } else { Vec::new() },
        star: query && words.star(),
        topic: words.property("KAFKA_TOPIC"),
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
mod tests;
