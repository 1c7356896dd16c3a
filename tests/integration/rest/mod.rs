//! The REST suite: the same answers through every node, whichever node has the entry.

mod bytes;
mod conditions;
mod deadlines;
mod entries;
mod keys;
mod numbers;
mod system;
