//! Bytes on their way through: a window into a block, and the blocks that a worker lends out. Pure.
//!
//! An idle connection has no block. A block that grew for one large message is not kept.

use std::cell::RefCell;

/// Size of a block: the kernel's loopback segments are at most 64 KiB, and PostgreSQL writes 8 KiB at a time.
pub const BLOCK: usize = 32 * 1024;

/// Bytes that are held without a block while a client sends the rest.
pub const SMALL: usize = 2 * 1024;

/// Blocks kept for reuse by one worker: 2 MiB.
const KEPT: usize = 64;

/// A window `start..end` of received bytes in a block of initialised memory.
#[derive(Debug, Default)]
pub struct Buffer {
    block: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// A buffer that holds `bytes` and has room for no more until it is asked for.
    #[must_use]
    pub fn holding(bytes: &[u8]) -> Self {
        Self { block: bytes.to_vec(), start: 0, end: bytes.len() }
    }

    /// The bytes received and not consumed.
    #[must_use]
    #[inline]
    pub fn data(&self) -> &[u8] {
        self.block.get(self.start..self.end).unwrap_or_default()
    }

    /// Bytes received and not consumed.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Nothing is left to consume.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Where more bytes may be put.
    #[inline]
    pub fn free(&mut self) -> &mut [u8] {
        self.block.get_mut(self.end..).unwrap_or_default()
    }

    /// Notes that `count` bytes were put into [`Self::free`].
    #[inline]
    pub fn filled(&mut self, count: usize) {
        self.end = self.block.len().min(self.end + count);
    }

    /// Drops `count` bytes from the front.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Makes room so that a message of `total` bytes that begins at the front fits.
    pub fn make_room(&mut self, total: usize) {
        if self.start > 0 {
            self.block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.block.len() < total {
            self.block.resize(total, 0);
        }
    }

    /// Makes room for at least one byte more: by moving what is held to the front, else by doubling. A message is
    /// never given more memory than twice what has arrived of it.
    pub fn grow(&mut self) {
        if self.free().is_empty() {
            let room = if self.len() < BLOCK { BLOCK } else { self.len() * 2 };
            self.make_room(room);
        }
    }

    /// Moves few bytes out of a whole block, so that a client that sends slowly does not hold one.
    pub fn shrink(&mut self, buffers: &Buffers) {
        if self.block.len() >= BLOCK && self.len() <= SMALL {
            let small = Self::holding(self.data());
            buffers.give(std::mem::replace(self, small));
        }
    }

    /// Appends `bytes`, growing if needed.
    pub fn append(&mut self, bytes: &[u8]) {
        let needed = self.end + bytes.len();
        if self.block.len() < needed {
            self.block.resize(needed, 0);
        }
        if let Some(place) = self.block.get_mut(self.end..needed) {
            place.copy_from_slice(bytes);
            self.end = needed;
        }
    }

    /// Bytes of the block.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.block.len()
    }
}

/// Blocks that one worker lends to whoever has bytes in flight.
#[derive(Debug, Default)]
pub struct Buffers {
    free: RefCell<Vec<Buffer>>,
}

impl Buffers {
    /// An empty buffer with a whole block.
    #[must_use]
    pub fn take(&self) -> Buffer {
        let kept = self.free.borrow_mut().pop();
        kept.unwrap_or_else(|| Buffer { block: vec![0; BLOCK], start: 0, end: 0 })
    }

    /// Blocks in reserve.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.free.borrow().len()
    }

    /// Takes a buffer back; what it held is forgotten.
    pub fn give(&self, mut buffer: Buffer) {
        let mut free = self.free.borrow_mut();
        if buffer.block.len() == BLOCK && free.len() < KEPT {
            (buffer.start, buffer.end) = (0, 0);
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumed_bytes_make_room_at_the_front() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.append(b"abcdef");
        buffer.consume(2);
        buffer.make_room(4);
        assert_eq!(buffer.data(), b"cdef");
        assert_eq!(buffer.free().len(), BLOCK - 4);
        buffer.consume(4);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_grown_block_is_not_kept() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.make_room(BLOCK * 2);
        buffers.give(buffer);
        assert_eq!(buffers.take().capacity(), BLOCK);
    }
}
