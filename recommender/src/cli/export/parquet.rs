//! A row for each customer, its products a list: what warehouses and data frames read.
//!
//! A Parquet file ends with the directory of its parts, so that one that was broken off is none. Until all customers are
//! written, each checkpoint is a small file of its own beside the one that was named; in the end their columns are copied
//! as they are into one file, a row group each, which takes the name when it is complete.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use parquet::basic::Compression;
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::TypePtr;

use super::checkpoint::{Checkpoint, beside, part};
use super::{Form, Line};

const SCHEMA: &str = "message recommendations {
    required binary customer_id (STRING);
    required binary algorithm (STRING);
    optional binary arm (STRING);
    required binary fallback (STRING);
    required group items (LIST) {
        repeated group list {
            required group element {
                required binary product_id (STRING);
                required binary title (STRING);
                required float score;
            }
        }
    }
}";

/// The file to write, and how.
pub(super) struct Rows {
    file: PathBuf,
    schema: TypePtr,
    properties: WriterPropertiesPtr,
}

impl Rows {
    /// Of this file.
    pub fn new(file: &Path) -> anyhow::Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("recommender version ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        Ok(Self {
            file: file.to_owned(),
            schema: Arc::new(parse_message_type(SCHEMA)?),
            properties: Arc::new(properties),
        })
    }

    /// Writes a file under another name, and gives it its own once it is complete.
    fn written(
        &self,
        path: &Path,
        write: impl FnOnce(&mut SerializedFileWriter<File>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let new = beside(path, ".new");
        let file = File::create(&new).with_context(|| format!("cannot write {}", new.display()))?;
        let mut out =
            SerializedFileWriter::new(file, Arc::clone(&self.schema), Arc::clone(&self.properties))?;
        write(&mut out)?;
        out.into_inner()?.sync_all()?;
        std::fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Form for Rows {
    // A row group each: large ones are read faster, and what is written after the last is computed again.
    const CHECKPOINT_EVERY: usize = 50_000;

    fn write(&mut self, lines: &[Line<'_>], checkpoint: &mut Checkpoint) -> anyhow::Result<()> {
        self.written(&part(&self.file, checkpoint.parts), |out| {
            let mut group = out.next_row_group()?;
            columns(&mut group, lines)?;
            group.close()?;
            Ok(())
        })?;
        checkpoint.parts += 1;
        Ok(())
    }

    fn finish(self, checkpoint: &Checkpoint) -> anyhow::Result<()> {
        self.written(&self.file, |out| {
            for path in (0..checkpoint.parts).map(|number| part(&self.file, number)) {
                append(out, &path).with_context(|| format!("cannot read {}", path.display()))?;
            }
            Ok(())
        })
    }
}

/// Copies the columns of a part, compressed as they are.
fn append(out: &mut SerializedFileWriter<File>, part: &Path) -> anyhow::Result<()> {
    let input = File::open(part)?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&input)?;
    for group in metadata.row_groups() {
        let mut copied = out.next_row_group()?;
        for column in group.columns() {
            let close = ColumnCloseResult {
                bytes_written: u64::try_from(column.compressed_size())?,
                rows_written: u64::try_from(group.num_rows())?,
                metadata: column.clone(),
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            copied.append_column(&input, close)?;
        }
        copied.close()?;
    }
    Ok(())
}

/// Writes the columns in the order of the schema.
fn columns(group: &mut SerializedRowGroupWriter<'_, File>, lines: &[Line<'_>]) -> anyhow::Result<()> {
    let customers: Vec<ByteArray> = lines.iter().map(|line| text(line.customer_id)).collect();
    let algorithms: Vec<ByteArray> = lines.iter().map(|line| text(line.algorithm)).collect();
    let fallbacks: Vec<ByteArray> = lines.iter().map(|line| text(line.fallback.name())).collect();
    let arms: Vec<ByteArray> = lines
        .iter()
        .filter_map(|line| line.arm.as_deref().map(text))
        .collect();
    let armed: Vec<i16> = lines.iter().map(|line| i16::from(line.arm.is_some())).collect();
    let Lists { defined, repeated } = Lists::of(lines);
    let items = || lines.iter().flat_map(|line| &line.items);
    let products: Vec<ByteArray> = items().map(|item| text(&item.product_id)).collect();
    let titles: Vec<ByteArray> = items().map(|item| text(&item.title)).collect();
    let scores: Vec<f32> = items().map(|item| item.score).collect();
    let (armed, lists) = (Some(&armed[..]), (Some(&defined[..]), Some(&repeated[..])));
    for (values, defined, repeated) in [
        (&customers, None, None),
        (&algorithms, None, None),
        (&arms, armed, None),
        (&fallbacks, None, None),
        (&products, lists.0, lists.1),
        (&titles, lists.0, lists.1),
    ] {
        let mut column = group.next_column()?.context("the schema has fewer columns")?;
        column
            .typed::<ByteArrayType>()
            .write_batch(values, defined, repeated)?;
        column.close()?;
    }
    let mut column = group.next_column()?.context("the schema has fewer columns")?;
    column
        .typed::<FloatType>()
        .write_batch(&scores, lists.0, lists.1)?;
    column.close()?;
    Ok(())
}

fn text(text: &str) -> ByteArray {
    text.as_bytes().to_vec().into()
}

/// How lists stand in a flat column (Melnik et al., "Dremel", VLDB 2010, section 4.1).
struct Lists {
    /// 1 where there is a value; 0 for an empty list.
    defined: Vec<i16>,
    /// 0 where a customer begins, 1 where their list goes on.
    repeated: Vec<i16>,
}

impl Lists {
    fn of(lines: &[Line<'_>]) -> Self {
        let mut lists = Lists {
            defined: Vec::new(),
            repeated: Vec::new(),
        };
        for line in lines {
            lists.defined.push(i16::from(!line.items.is_empty()));
            lists.repeated.push(0);
            for _ in line.items.iter().skip(1) {
                lists.defined.push(1);
                lists.repeated.push(1);
            }
        }
        lists
    }
}
