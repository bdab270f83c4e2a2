use std::fs::{File, OpenOptions};
use std::io::Write as _;

use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::record::{Field, ListAccessor as _, Row, RowAccessor as _};
use clap::Parser as _;
use recommender_engine::{EngineConfig, EventKind, Interaction, engine};

use super::checkpoint::{begin, beside, keep, part};
use super::*;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(file: &Path, more: &[&str]) -> Args {
    let file = file.to_str().unwrap();
    Cli::parse_from([&["export", file], more].concat()).args
}

fn shop(customers: usize) -> Reader {
    let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
    let now = now_ms();
    for n in 0..customers {
        for product in [n % 7, n % 5 + 10] {
            let (customer, product) = (format!("c{n}"), format!("p{product}"));
            writer.apply(&Interaction::new(&customer, &product, EventKind::View, now), now);
        }
    }
    writer.flush(now);
    reader
}

fn written(reader: &Reader, args: &Args, customers: &[Arc<str>]) -> usize {
    let live = Live::new(&config()).unwrap();
    write_all(reader, &live, args, customers, &ProgressBar::hidden()).unwrap()
}

/// One with an experiment, so that customers have arms.
fn config() -> RecommenderConfig {
    serde_json::from_value(serde_json::json!({
        "experiments": [{"name": "ranking", "arms": [
            {"algorithm": "Hybrid", "percent": 50}, {"algorithm": "Popularity", "percent": 50},
        ]}],
    }))
    .unwrap()
}

fn checkpoint_file(file: &Path) -> PathBuf {
    beside(file, ".checkpoint")
}

#[test]
fn anonymous_visits_are_no_customers() {
    let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
    for customer in ["zoe", "session:a1b2", "ann"] {
        writer.apply(
            &Interaction::new(customer, "cup", EventKind::View, now_ms()),
            now_ms(),
        );
    }
    writer.flush(now_ms());
    let found = customers(&reader);
    assert!(found.iter().map(|id| &**id).eq(["ann", "zoe"]), "{found:?}");
}

#[test]
fn an_export_that_was_broken_off_goes_on_and_every_customer_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.jsonl");
    let reader = shop(2_500);
    let args = args(&file, &["--limit", "3"]);
    let customers = customers(&reader);
    // Broken off after two checkpoints, in the middle of a line.
    written(&reader, &args, &customers[..2_000]);
    let bytes = std::fs::metadata(&file).unwrap().len();
    let at = Checkpoint {
        customer: customers[1_999].to_string(),
        bytes,
        parts: 0,
        customers: 2_000,
        limit: 3,
        category: None,
        format: Format::Jsonl,
    };
    keep(&at, &file).unwrap();
    let mut broken = OpenOptions::new().append(true).open(&file).unwrap();
    broken.write_all(b"{\"customer_id\":\"c9").unwrap();
    assert_eq!(written(&reader, &args, &customers), 2_500);
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(
        lines
            .iter()
            .map(|l| l["customer_id"].as_str().unwrap())
            .eq(customers.iter().map(|c| &**c))
    );
    assert!(lines.iter().all(|l| l["items"].as_array().unwrap().len() == 3));
    assert!(!checkpoint_file(&file).exists());
}

#[test]
fn a_file_that_is_there_or_of_another_export_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.jsonl");
    std::fs::write(&file, "important\n").unwrap();
    let error = |more: &[&str]| begin(&args(&file, more)).unwrap_err().to_string();
    assert!(error(&[]).contains("is there already"));
    let at = Checkpoint {
        customer: "c".into(),
        bytes: 5,
        parts: 0,
        customers: 1,
        limit: 10,
        category: None,
        format: Format::Jsonl,
    };
    keep(&at, &file).unwrap();
    assert!(error(&["--limit", "3"]).contains("another limit"));
    assert!(error(&["--format", "parquet"]).contains("another limit, category or format"));
    assert_eq!(begin(&args(&file, &[])).unwrap(), at);
    keep(
        &Checkpoint {
            bytes: 500,
            ..at.clone()
        },
        &file,
    )
    .unwrap();
    assert!(error(&[]).contains("shorter"));
    assert_eq!(begin(&args(&file, &["--restart"])).unwrap().customers, 0);
    let parts = Checkpoint {
        bytes: 0,
        parts: 1,
        format: Format::Parquet,
        ..at
    };
    keep(&parts, &file).unwrap();
    assert!(error(&["--format", "parquet"]).contains("out.jsonl.part-00000 is gone"));
    // As it was written before there was another format.
    let old = r#"{"customer":"c","bytes":5,"customers":1,"limit":10,"category":null}"#;
    std::fs::write(checkpoint_file(&file), old).unwrap();
    assert_eq!(begin(&args(&file, &[])).unwrap().bytes, 5);
}

/// The rows of a file, and how many are in each of its groups.
fn read(file: &Path) -> (Vec<Row>, Vec<i64>) {
    let reader = SerializedFileReader::new(File::open(file).unwrap()).unwrap();
    let groups = reader.metadata().row_groups();
    let groups = groups.iter().map(|group| group.num_rows()).collect();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    (rows, groups)
}

/// A row as the line of the other format: where JSON has no arm, the row has an empty one.
fn as_line(row: &Row) -> serde_json::Value {
    let text = |at: usize| row.get_string(at).unwrap().as_str();
    let items = row.get_list(4).unwrap();
    let items: Vec<serde_json::Value> = (0..items.len())
        .map(|at| {
            let item = items.get_group(at).unwrap();
            let text = |at: usize| item.get_string(at).unwrap().as_str();
            serde_json::json!({"product_id": text(0), "title": text(1), "score": item.get_float(2).unwrap()})
        })
        .collect();
    let mut line = serde_json::json!({
        "customer_id": text(0), "algorithm": text(1), "fallback": text(3), "items": items,
    });
    if let Ok(arm) = row.get_string(2) {
        line["arm"] = arm.as_str().into();
    }
    line
}

fn files(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = names
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn parquet_holds_what_the_lines_hold() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, lines) = (dir.path().join("out.parquet"), dir.path().join("out.jsonl"));
    let reader = shop(300);
    let customers = customers(&reader);
    for experiments in [false, true] {
        let live = Live::new(&if experiments {
            config()
        } else {
            RecommenderConfig::default()
        });
        let live = live.unwrap();
        let write = |file: &Path, more: &[&str]| {
            let args = args(file, &[more, &["--restart"]].concat());
            write_all(&reader, &live, &args, &customers, &ProgressBar::hidden()).unwrap()
        };
        assert_eq!(write(&rows, &["--format", "parquet"]), 300);
        assert_eq!(write(&lines, &[]), 300);
        let text = std::fs::read_to_string(&lines).unwrap();
        let wanted: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(wanted[0].get("arm").is_some(), experiments);
        let (found, groups) = read(&rows);
        assert_eq!(groups, [300]);
        for (row, wanted) in found.iter().zip(&wanted) {
            assert_eq!(
                row.get_string(0).unwrap(),
                wanted["customer_id"].as_str().unwrap()
            );
        }
        let (found, wanted): (Vec<_>, Vec<_>) = (
            found.iter().map(as_line).map(rounded).collect(),
            wanted.into_iter().map(rounded).collect(),
        );
        assert_eq!(found, wanted);
    }
    assert_eq!(files(dir.path()), ["out.jsonl", "out.parquet"]);
}

/// With scores as single precision prints them: one of the two goes through double.
fn rounded(mut line: serde_json::Value) -> serde_json::Value {
    for item in line["items"].as_array_mut().unwrap() {
        let score = item["score"].as_f64().unwrap() as f32;
        item["score"] = score.to_string().into();
    }
    line
}

#[test]
fn parquet_that_was_broken_off_goes_on_with_its_parts_and_becomes_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.parquet");
    let reader = shop(1_000);
    let customers = customers(&reader);
    let (args, live) = (
        args(&file, &["--format", "parquet"]),
        Live::new(&config()).unwrap(),
    );
    // Two checkpoints, and one part that was broken off in the middle.
    let mut at = begin(&args).unwrap();
    let mut rows = super::parquet::Rows::new(&file).unwrap();
    for chunk in [&customers[..400], &customers[400..600]] {
        let lines: Vec<Line<'_>> = chunk
            .iter()
            .map(|customer| line(&reader, &live, &args, customer, now_ms()))
            .collect();
        rows.write(&lines, &mut at).unwrap();
        at.customers += chunk.len();
        at.customer = chunk.last().unwrap().to_string();
        keep(&at, &file).unwrap();
    }
    std::fs::write(beside(&part(&file, 2), ".new"), b"PAR1 half a part").unwrap();
    assert!(!file.exists(), "no file has the name before it is complete");
    assert_eq!(written(&reader, &args, &customers), 1_000);
    let (rows, groups) = read(&file);
    assert_eq!(groups, [400, 200, 400]);
    let found: Vec<&str> = rows
        .iter()
        .map(|row| row.get_string(0).unwrap().as_str())
        .collect();
    assert!(found.iter().copied().eq(customers.iter().map(|id| &**id)));
    assert_eq!(files(dir.path()), ["out.parquet"]);
}

#[test]
fn a_customer_without_products_has_an_empty_list() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.parquet");
    let reader = shop(3);
    let args = args(&file, &["--format", "parquet", "--category", "nothing is of it"]);
    written(&reader, &args, &customers(&reader));
    let (rows, _) = read(&file);
    let items: Vec<usize> = rows.iter().map(|row| row.get_list(4).unwrap().len()).collect();
    assert_eq!(items, [0, 0, 0]);
    let arm = rows[0].get_column_iter().nth(2).unwrap().1;
    assert!(matches!(arm, Field::Str(_)), "{arm:?}");
}
