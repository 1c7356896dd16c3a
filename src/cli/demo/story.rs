//! How the demo tells what it does.

use std::io::{IsTerminal, Write};

use anyhow::Result;

/// Tells the story, in colour on a terminal.
pub struct Story {
    colour: bool,
}

impl Story {
    /// On standard output.
    pub fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Story { colour }
    }

    fn print(&self, code: &str, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.colour {
            writeln!(out, "\x1b[{code}m{text}\x1b[0m")?;
        } else {
            writeln!(out, "{text}")?;
        }
        Ok(())
    }

    /// What the next steps show.
    pub fn title(&self, text: &str) -> Result<()> {
        self.print("1;36", &format!("\n{text}"))
    }

    /// Text as it is.
    pub fn quote(&self, text: &str) -> Result<()> {
        for line in text.lines() {
            self.print("2", &format!("    {line}"))?;
        }
        Ok(())
    }

    /// What was done, and what came of it.
    pub fn step(&self, what: &str, came: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.colour {
            writeln!(out, "  {what:<44} \x1b[32m{came}\x1b[0m")?;
        } else {
            writeln!(out, "  {what:<44} {came}")?;
        }
        Ok(())
    }

    /// The end.
    pub fn done(&self, text: &str) -> Result<()> {
        self.print("1;32", &format!("\n{text}"))
    }
}
