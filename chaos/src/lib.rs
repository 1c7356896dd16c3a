//! x
pub mod check; pub mod history; pub mod process; pub mod redis; pub mod report;
