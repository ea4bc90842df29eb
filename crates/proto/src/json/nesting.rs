//! Open brackets, one bit each, so that walking over a text needs no recursion.

use crate::json::error::{JsonError, JsonErrorKind};

/// How deep lists and objects may be nested in a text that is only walked over.
///
/// Python's own reader stops a little below 1,000.
pub(crate) const MAX_NESTING: usize = 1024;

/// One bit for each open bracket: an object or a list.
pub(crate) struct Nesting {
    bits: [u64; MAX_NESTING / 64],
    depth: usize,
}

impl Nesting {
    pub(crate) fn new() -> Self {
        Self {
            bits: [0; MAX_NESTING / 64],
            depth: 0,
        }
    }

    pub(crate) fn push(&mut self, object: bool, at: usize) -> Result<(), JsonError> {
        if self.depth == MAX_NESTING {
            return Err(JsonError::at(JsonErrorKind::TooDeep, at));
        }
        let bit = 1 << (self.depth % 64);
        let word = &mut self.bits[self.depth / 64];
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        Ok(())
    }

    pub(crate) fn pop(&mut self) {
        self.depth -= 1;
    }

    pub(crate) fn top(&self) -> Option<bool> {
        let last = self.depth.checked_sub(1)?;
        Some(self.bits[last / 64] >> (last % 64) & 1 == 1)
    }
}
