//! Sparse matrices for the models: interactions by customer, and lists of products by product.

/// Rows of (column, value), columns ascending within a row.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sparse {
    offsets: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
    width: usize,
}

impl Sparse {
    /// A matrix of `width` columns and no rows.
    pub fn new(width: usize) -> Self {
        Sparse {
            offsets: vec![0],
            width,
            ..Sparse::default()
        }
    }

    /// Appends a row; sorts it, and adds up entries of the same column.
    pub fn push_row(&mut self, row: &mut [(u32, f32)]) {
        row.sort_by_key(|(column, _)| *column);
        let start = self.columns.len();
        for &(column, value) in row.iter() {
            if self.columns.len() > start && self.columns.last() == Some(&column) {
                if let Some(last) = self.values.last_mut() {
                    *last += value;
                }
            } else {
                self.columns.push(column);
                self.values.push(value);
            }
        }
        self.offsets.push(self.columns.len());
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of entries.
    pub fn entries(&self) -> usize {
        self.columns.len()
    }

    /// Columns and values of a row.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.offsets[row]..self.offsets[row + 1];
        (&self.columns[range.clone()], &self.values[range])
    }

    /// Entries of a row.
    pub fn iter_row(&self, row: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let (columns, values) = self.row(row);
        columns.iter().copied().zip(values.iter().copied())
    }

    /// Whether the parts fit together: to be asked of what was read from outside.
    pub fn is_consistent(&self) -> bool {
        self.offsets.first() == Some(&0)
            && self.offsets.is_sorted()
            && self.offsets.last() == Some(&self.columns.len())
            && self.values.len() == self.columns.len()
            && self.columns.iter().all(|column| (*column as usize) < self.width)
    }

    /// Rows become columns.
    pub fn transposed(&self) -> Sparse {
        let mut offsets = vec![0usize; self.width + 1];
        for &column in &self.columns {
            offsets[column as usize + 1] += 1;
        }
        for at in 0..self.width {
            offsets[at + 1] += offsets[at];
        }
        let mut fill = offsets.clone();
        let mut columns = vec![0u32; self.columns.len()];
        let mut values = vec![0f32; self.columns.len()];
        for row in 0..self.rows() {
            for (column, value) in self.iter_row(row) {
                let at = &mut fill[column as usize];
                columns[*at] = row as u32;
                values[*at] = value;
                *at += 1;
            }
        }
        Sparse {
            offsets,
            columns,
            values,
            width: self.rows(),
        }
    }

    /// Values replaced, row by row.
    pub fn map(mut self, mut value: impl FnMut(usize, u32, f32) -> f32) -> Sparse {
        for row in 0..self.rows() {
            for at in self.offsets[row]..self.offsets[row + 1] {
                self.values[at] = value(row, self.columns[at], self.values[at]);
            }
        }
        self
    }
}

/// Keeps the `keep` entries of the largest absolute value (ties by column), in no particular order.
pub(crate) fn keep_strongest(entries: &mut Vec<(u32, f32)>, keep: usize) {
    if entries.len() > keep {
        let order = |a: &(u32, f32), b: &(u32, f32)| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0));
        entries.select_nth_unstable_by(keep, order);
        entries.truncate(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_transposed_twice_is_itself_and_duplicates_add_up() {
        let mut matrix = Sparse::new(3);
        matrix.push_row(&mut [(2, 1.0), (0, 2.0), (2, 0.5)]);
        matrix.push_row(&mut []);
        matrix.push_row(&mut [(2, 4.0)]);
        assert_eq!(matrix.row(0), (&[0, 2][..], &[2.0, 1.5][..]));
        assert_eq!(matrix.transposed().row(2), (&[0, 2][..], &[1.5, 4.0][..]));
        assert_eq!(matrix.transposed().transposed(), matrix);
    }
}
