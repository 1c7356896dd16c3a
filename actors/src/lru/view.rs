//! A look at an entry where it stands.

use bytes::Bytes;

use super::node::Node;
use crate::op::{Ms, Version};

/// A look at an entry.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    node: &'a Node,
}

impl<'a> View<'a> {
    pub(super) fn new(node: &'a Node) -> Self {
        View { node }
    }

    /// The key.
    pub fn key(&self) -> &'a [u8] {
        self.node.key()
    }

    /// The value: a copy of a small one, a share of one of [`SHARED_BYTES`] or more.
    pub fn value(&self) -> Bytes {
        self.node.value()
    }

    /// The value where it stands.
    pub fn value_slice(&self) -> &'a [u8] {
        self.node.value_slice()
    }

    /// The content type.
    pub fn content_type(&self) -> Option<&'a [u8]> {
        self.node.content_type()
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.node.version
    }

    /// The label of its generation.
    pub(super) fn generation(&self) -> u8 {
        self.node.generation()
    }

    /// The deadline; `None` for a permanent entry.
    pub fn deadline(&self) -> Option<Ms> {
        self.node.deadline()
    }
}
