//! `recommender import`.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use recommendation_api::EventError;
use recommendation_api::records::Product;
use serde_json::{Map, Value};

use super::Output;
use super::feed::{Tally, bar, open};
use super::target::{Batch, CHUNK, TargetArgs};
use crate::product::parse_product;

#[derive(clap::Args)]
#[command(
    after_help = "Columns: product_id (required), title, category, price, tags (separated by ; or |), available;\n\
    any other column becomes an attribute of its name.\n\n\
    Examples:\n  \
    recommender import products.csv --kafka localhost:9092\n  \
    recommender import products.jsonl --embedded ./shop.db\n  \
    recommender import products.csv --url http://localhost:8080 --token \"$TOKEN\""
)]
pub(super) struct Args {
    /// The catalogue: CSV with a header line, or a JSON object a line (also gzipped); - is standard input
    file: PathBuf,
    #[command(flatten)]
    target: TargetArgs,
    /// Exit code 1 if a line is malformed (such lines are reported and left out either way)
    #[arg(long)]
    strict: bool,
    /// How to print the summary
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut target = args.target.open(|topics| topics.catalog).await?;
    let progress = bar(&args.file);
    let mut reader = open(&args.file, &progress)?;
    let mut tally = Tally::new("products", &args.file, progress);
    // The whole catalogue at once: it fits in the model's memory, so it fits here.
    let mut text = String::new();
    reader
        .read_to_string(&mut text)
        .context("the catalogue is not UTF-8 text")?;
    let products = parse(&text, is_json(&args.file, &text), &mut |line, e| {
        tally.malformed(line, e)
    })?;
    for chunk in products.chunks(CHUNK) {
        tally.acknowledged(target.send(Batch::Products(chunk.to_vec())).await?);
    }
    let rest = target.finish().await?;
    tally.acknowledged(rest);
    tally.finish(args.output, args.strict)
}

fn is_json(path: &Path, text: &str) -> bool {
    let name = path.to_string_lossy();
    let by_name = [".jsonl", ".ndjson", ".json"]
        .iter()
        .any(|end| name.trim_end_matches(".gz").ends_with(end));
    by_name || text.trim_start().starts_with('{')
}

type OnMalformed<'a> = dyn FnMut(usize, &EventError) + 'a;

fn parse(text: &str, json: bool, malformed: &mut OnMalformed<'_>) -> anyhow::Result<Vec<Product>> {
    let mut products = Vec::new();
    let mut take = |line: usize, product: Result<Product, EventError>| match product {
        Ok(product) => products.push(product),
        Err(e) => malformed(line, &e),
    };
    if json {
        for (i, line) in text.as_bytes().lines().enumerate() {
            let line = line?;
            if !line.trim().is_empty() {
                take(i + 1, from_json(&line));
            }
        }
        return Ok(products);
    }
    let mut reader = csv::ReaderBuilder::new()
        .flexible(false)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let headers = reader.headers().context("the header line")?.clone();
    anyhow::ensure!(
        headers
            .iter()
            .any(|h| h.trim_start_matches('\u{feff}') == "product_id"),
        "the header line has no column product_id: {}",
        headers.iter().collect::<Vec<_>>().join(",")
    );
    for record in reader.records() {
        match record {
            Ok(record) => {
                let line = record
                    .position()
                    .map_or(0, |p| usize::try_from(p.line()).unwrap_or(usize::MAX));
                take(line, from_row(&headers, &record));
            }
            Err(e) => {
                let line = e
                    .position()
                    .map_or(0, |p| usize::try_from(p.line()).unwrap_or(usize::MAX));
                take(line, Err(EventError::NotJson(e.to_string())));
            }
        }
    }
    Ok(products)
}

fn from_json(line: &str) -> Result<Product, EventError> {
    match serde_json::from_str(line) {
        Ok(Value::Object(map)) => parse_product(map, None),
        Ok(_) => Err(EventError::NotJson("a product is a JSON object".into())),
        Err(e) => Err(EventError::NotJson(e.to_string())),
    }
}

fn from_row(headers: &csv::StringRecord, row: &csv::StringRecord) -> Result<Product, EventError> {
    let mut map = Map::new();
    let mut attributes = Map::new();
    for (name, cell) in headers.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
        let list = || {
            cell.split([';', '|'])
                .map(str::trim)
                .filter(|s| !s.is_empty())
                .collect::<Vec<_>>()
        };
        let value = match name.trim_start_matches('\u{feff}') {
            name @ ("product_id" | "title" | "category") => (name, Value::from(cell)),
            // A text where a number is expected is refused by name below.
            "price" => (
                "price",
                cell.parse::<f64>()
                    .map_or_else(|_| Value::from(cell), Value::from),
            ),
            "tags" => ("tags", Value::from(list())),
            "available" => (
                "available",
                match cell.to_ascii_lowercase().as_str() {
                    "true" | "1" | "yes" => Value::from(true),
                    "false" | "0" | "no" => Value::from(false),
                    _ => Value::from(cell),
                },
            ),
            other => {
                attributes.insert(other.to_owned(), Value::from(list()));
                continue;
            }
        };
        map.insert(value.0.to_owned(), value.1);
    }
    if !attributes.is_empty() {
        map.insert("attributes".into(), Value::Object(attributes));
    }
    parse_product(map, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(text: &str, json: bool) -> (Vec<Product>, Vec<(usize, String)>) {
        let mut bad = Vec::new();
        let products = parse(text, json, &mut |line, e| bad.push((line, e.to_string()))).unwrap();
        (products, bad)
    }

    #[test]
    fn csv_columns_become_fields_and_other_columns_attributes() {
        let text =
            "product_id,title,price,category,tags,skin\n1,\"Mug, red\",2.5,kitchen,red;mug,dry\n2,Cup,,,,\n";
        let (products, bad) = run(text, false);
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(products[0].title, "Mug, red");
        assert_eq!((products[0].price, products[0].tags.len()), (Some(2.5), 2));
        assert_eq!(products[0].attributes["skin"], serde_json::json!(["dry"]));
        assert_eq!((products[1].price, products[1].category.as_deref()), (None, None));
    }

    #[test]
    fn bad_rows_are_left_out_and_told_by_line_and_field() {
        let (products, bad) = run("product_id,title,price\n1,a,cheap\n,b,1\n3,c,1\n4,d\n", false);
        assert_eq!(products.len(), 1);
        let lines: Vec<usize> = bad.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 5]);
        assert!(bad[0].1.contains("price"), "{}", bad[0].1);
    }

    #[test]
    fn a_file_without_product_ids_is_refused_as_a_whole() {
        assert!(parse("id,title\n1,a\n", false, &mut |_, _| {}).is_err());
    }

    #[test]
    fn json_lines_are_understood() {
        let (products, bad) = run("{\"product_id\":\"1\",\"title\":\"a\"}\n\n[]\n", true);
        assert_eq!((products.len(), bad.len()), (1, 1));
    }

    proptest! {
        #[test]
        fn hostile_catalogues_never_panic(text in "\\PC{0,200}") {
            let _ = parse(&format!("product_id,title,price,tags\n{text}"), false, &mut |_, _| {});
            let _ = parse(&text, true, &mut |_, _| {});
        }
    }
}
