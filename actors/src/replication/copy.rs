//! The copy's side: which message may be applied.

/// What a node knows of its copy of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// The `since` of the primary it follows; 0 before the first import.
    pub since: u64,
    /// The import it came from; later imports have higher numbers.
    pub import: u64,
    /// The last write it applied.
    pub n: u64,
    /// Has the import ended?
    pub complete: bool,
}

/// Why a copy did not apply a message. The copy keeps what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Refusal {
    /// A number is missing in between; the copy is incomplete from now on.
    Gap,
    /// The message belongs to an earlier `since` or import.
    Lower,
    /// The message belongs to an import that this copy never heard the beginning of.
    Unknown,
}

impl Copy {
    /// An import begins: `Ok` means wipe the slot; the copy then stands after write `n0`.
    pub fn begin(&mut self, since: u64, import: u64, n0: u64) -> Result<(), Refusal> {
        if (since, import) <= (self.since, self.import) {
            return Err(Refusal::Lower);
        }
        *self = Copy { since, import, n: n0, complete: false };
        Ok(())
    }

    /// A chunk of the import that shows the state after write `after`: `Ok` means overwrite with
    /// its entries.
    pub fn chunk(
        &mut self,
        since: u64,
        import: u64,
        after: u64,
        last: bool,
    ) -> Result<(), Refusal> {
        self.same_import(since, import)?;
        if self.n != after {
            self.complete = false;
            return Err(Refusal::Gap);
        }
        self.complete |= last;
        Ok(())
    }

    /// A write: `Ok(true)` means apply it, `Ok(false)` that it was applied before.
    pub fn write(&mut self, since: u64, import: u64, n: u64) -> Result<bool, Refusal> {
        self.same_import(since, import)?;
        if n <= self.n {
            return Ok(false);
        }
        if n > self.n + 1 {
            self.complete = false;
            return Err(Refusal::Gap);
        }
        self.n = n;
        Ok(true)
    }

    fn same_import(&self, since: u64, import: u64) -> Result<(), Refusal> {
        match (since, import).cmp(&(self.since, self.import)) {
            std::cmp::Ordering::Less => Err(Refusal::Lower),
            std::cmp::Ordering::Greater => Err(Refusal::Unknown),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }
}
