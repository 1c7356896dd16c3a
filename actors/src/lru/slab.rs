//! The slab: nodes by index, grown a chunk at a time so that growth never copies what is there.

use std::ops::{Index, IndexMut};

use super::node::{NIL, Node};

/// Nodes a chunk: 48 KiB.
const CHUNK: usize = 1024;

#[derive(Debug)]
pub(super) struct Slab {
    chunks: Vec<Box<[Node; CHUNK]>>,
    /// Nodes handed out at least once.
    used: usize,
    free: u32,
    /// Nodes that were handed out or given back.
    changes: u64,
}

impl Slab {
    pub fn new() -> Self {
        Slab { chunks: Vec::new(), used: 0, free: NIL, changes: 0 }
    }

    /// The index of a node that is not in use.
    pub fn take(&mut self) -> u32 {
        self.changes += 1;
        if self.free != NIL {
            let index = self.free;
            self.free = self[index].next;
            return index;
        }
        if self.used == self.chunks.len() * CHUNK {
            let chunk: Vec<Node> = (0..CHUNK).map(|_| Node::free(NIL)).collect();
            self.chunks.push(chunk.try_into().expect("a chunk has CHUNK nodes"));
        }
        self.used += 1;
        (self.used - 1) as u32
    }

    /// Gives a node back.
    pub fn give(&mut self, index: u32) {
        self.changes += 1;
        let free = self.free;
        let node = &mut self[index];
        node.empty();
        node.next = free;
        self.free = index;
    }

    /// Another number whenever an index may mean another entry than before.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Nodes in use and free.
    #[cfg(test)]
    pub fn allocated(&self) -> usize {
        self.used
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
