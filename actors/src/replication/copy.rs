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
    /// The stamp of the row under which it was last opened, imported or handed something: a map whose
    /// row is older says nothing about it.
    pub stamp: u64,
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
    /// A promoted primary has applied other writes than this copy.
    Differs,
}

impl Copy {
    /// An import begins: `Ok` means wipe the slot; the copy then stands after write `n0`.
    pub fn begin(&mut self, since: u64, import: u64, n0: u64) -> Result<(), Refusal> {
        if (since, import) <= (self.since, self.import) {
            return Err(Refusal::Lower);
        }
        *self = Copy { since, import, n: n0, complete: false, stamp: self.stamp };
        Ok(())
    }

    /// A promoted primary opens this copy: it held the slot under `old_since` up to write `old_n`.
    /// A copy with exactly the same goes on under the new `since` from 0.
    ///
    /// # Errors
    /// [`Refusal::Differs`] when it has something else: it keeps what it has and follows nobody.
    pub fn open(&mut self, since: u64, old_since: u64, old_n: u64) -> Result<(), Refusal> {
        if since < self.since || (since == self.since && self.import > 0) {
            return Err(Refusal::Lower);
        }
        if since == self.since {
            // The answer to an earlier Open was lost.
            return Ok(());
        }
        if (self.since, self.n, self.complete) != (old_since, old_n, true) {
            return Err(Refusal::Differs);
        }
        *self = Copy { since, import: 0, n: 0, complete: true, stamp: self.stamp };
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

    /// The primary gives the slot away under the row of this stamp, and to this copy what lived there
    /// alone. [`crate::holding::is_late_hand`] comes first.
    ///
    /// # Errors
    /// [`Refusal::Gap`] when the copy has not got everything else.
    pub fn hand(&mut self, since: u64, import: u64, stamp: u64) -> Result<(), Refusal> {
        self.same_import(since, import)?;
        if !self.complete {
            return Err(Refusal::Gap);
        }
        self.stamp = stamp;
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
