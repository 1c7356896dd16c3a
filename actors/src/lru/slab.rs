//! The slab: nodes by index, grown a chunk at a time so that growth never copies what is there.

use std::ops::{Index, IndexMut};

use super::node::{NIL, Node};

/// Nodes a chunk: 48 KiB.
const CHUNK: usize = 1024;

#[derive(Debug)]
pub(super) struct Slab {
    chunks: Vec<Vec<Node>>,
    free: u32,
}

impl Slab {
    pub fn new() -> Self {
        Slab { chunks: Vec::new(), free: NIL }
    }

    /// The index of a node that is not in use.
    pub fn take(&mut self) -> u32 {
        if self.free != NIL {
            let index = self.free;
            self.free = self[index].next;
            return index;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunks = self.chunks.len();
        let last = self.chunks.last_mut().expect("a chunk was just made sure of");
        last.push(Node::free(NIL));
        ((chunks - 1) * CHUNK + last.len() - 1) as u32
    }

    /// Gives a node back.
    pub fn give(&mut self, index: u32) {
        let free = self.free;
        let node = &mut self[index];
        node.empty();
        node.next = free;
        self.free = index;
    }

    /// Nodes in use and free.
    #[cfg(test)]
    pub fn allocated(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }
}

impl Index<u32> for Slab {
    type Output = Node;
    fn index(&self, index: u32) -> &Node {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}

impl IndexMut<u32> for Slab {
    fn index_mut(&mut self, index: u32) -> &mut Node {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}
