//! Sets of products that a thread keeps between answers.

use std::cell::RefCell;

/// A set of products that is emptied at once and allocates only while it grows.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    stamps: Vec<u32>,
    now: u32,
    used: bool,
}

thread_local! {
    static MARKS: RefCell<Marks> = RefCell::default();
}

impl Marks {
    /// This thread's set, empty. Give it back with [`Marks::put_back`].
    pub fn take() -> Marks {
        let mut marks = MARKS.take();
        marks.now = marks.now.wrapping_add(1);
        if marks.now == 0 {
            marks.stamps.fill(0);
            marks.now = 1;
        }
        marks.used = false;
        marks
    }

    pub fn put_back(self) {
        MARKS.set(self);
    }

    pub fn insert(&mut self, product: u32) {
        let at = product as usize;
        if at >= self.stamps.len() {
            self.stamps.resize((at + 1).next_power_of_two(), 0);
        }
        self.stamps[at] = self.now;
        self.used = true;
    }

    pub fn contains(&self, product: u32) -> bool {
        self.used && self.stamps.get(product as usize) == Some(&self.now)
    }
}
