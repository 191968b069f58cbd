//! Buffers that belong to the worker thread, not to the connection.
//!
//! A read always has a large buffer ready, a connection holds one only while the other side
//! does not take its bytes, and an idle connection costs no buffer at all.

use std::cell::RefCell;
use std::ops::Range;

/// Most bytes that are read ahead in one direction.
pub(super) const BLOCK_SIZE: usize = 256 * 1024;

/// Blocks that a worker keeps for its next connections.
const KEPT_PER_WORKER: usize = 4;

/// A rest below this moves to memory of its own size, so that a stalled connection does not
/// hold a whole block for a few bytes.
const SMALL_REST: usize = BLOCK_SIZE / 8;

type Block = Box<[u8]>;

thread_local! {
    static FREE: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// A block out of the worker's stock.
pub(super) fn take() -> Block {
    FREE.with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| vec![0; BLOCK_SIZE].into_boxed_slice())
}

pub(super) fn give_back(block: Block) {
    FREE.with_borrow_mut(|free| {
        if block.len() == BLOCK_SIZE && free.len() < KEPT_PER_WORKER {
            free.push(block);
        }
    });
}

/// Bytes that were read and that the other side did not take yet.
#[derive(Debug)]
pub(super) struct Rest {
    memory: Block,
    bytes: Range<usize>,
}

impl Rest {
    pub(super) fn new(block: Block, bytes: Range<usize>) -> Self {
        if bytes.len() > SMALL_REST {
            return Self { memory: block, bytes };
        }
        let memory: Block = block[bytes].into();
        give_back(block);
        Self {
            bytes: 0..memory.len(),
            memory,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.bytes.clone()]
    }

    /// Forgets bytes that were taken; true when none is left.
    pub(super) fn advance(&mut self, taken: usize) -> bool {
        self.bytes.start += taken;
        self.bytes.is_empty()
    }

    pub(super) fn recycle(self) {
        give_back(self.memory);
    }
}
