//! A line of JSON for each customer.

use std::fs::OpenOptions;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::Context as _;

use super::checkpoint::Checkpoint;
use super::{Form, Line};

/// The file that lines are appended to.
pub(super) struct Lines(BufWriter<std::fs::File>);

impl Lines {
    /// Goes on where a checkpoint ends.
    pub fn open(path: &Path, checkpoint: &Checkpoint) -> anyhow::Result<Self> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        // What was written after the checkpoint is written again.
        file.set_len(checkpoint.bytes)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(BufWriter::with_capacity(1 << 18, file)))
    }
}

impl Form for Lines {
    const CHECKPOINT_EVERY: usize = 1_000;

    fn write(&mut self, lines: &[Line<'_>], checkpoint: &mut Checkpoint) -> anyhow::Result<()> {
        for line in lines {
            let mut line = serde_json::to_vec(line)?;
            line.push(b'\n');
            self.0.write_all(&line)?;
            checkpoint.bytes += line.len() as u64;
        }
        self.0.flush()?;
        self.0.get_ref().sync_data()?;
        Ok(())
    }

    fn finish(self, _: &Checkpoint) -> anyhow::Result<()> {
        Ok(())
    }
}
