//! What a `doctor` command finds in the folder of a role: a verdict for each check, what was found, and what to do about it.
//!
//! Each check stands for itself: what it cannot read is what it has found, and the others go on. None of them changes anything,
//! and none of them minds whether the role runs.

mod clock;
mod database;
mod disk;
mod folder;
mod holder;
mod ledger;
mod ports;
mod reach;
mod ready;
mod secrets;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use serde::Serialize;

pub use self::{
    clock::{Later, check_certificate, check_clock},
    database::{check_database, is_kept_to_itself, open_database},
    disk::check_disk,
    holder::{Holder, check_holder},
    ledger::Known,
    ports::{Place, Transport, check_ports},
    reach::Probe,
    ready::check_ready,
    secrets::check_secrets,
};
use crate::output;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    /// As it should be.
    Ok,
    /// The role does its work, and somebody should look.
    Warning,
    /// Something does not work, or will not at the next start.
    Failure,
}

impl CheckVerdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub check: &'static str,
    /// How it ended.
    pub verdict: CheckVerdict,
    /// What it found, in words.
    pub found: String,
    /// What to do about it; `None` if nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// All checks of one folder, in their order.
#[derive(Debug)]
pub struct Report {
    role: &'static str,
    folder: String,
    checks: Vec<Check>,
}

/// A check as a program reads it.
#[derive(Serialize)]
struct Row<'a> {
    role: &'static str,
    folder: &'a str,
    #[serde(flatten)]
    check: &'a Check,
}

impl Report {
    /// No check yet of the folder of this role.
    pub fn new(role: &'static str, folder: &Path) -> Self {
        Self { role, folder: folder.display().to_string(), checks: Vec::new() }
    }

    /// What was found so far.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// All is as it should be.
    pub fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.note(check, CheckVerdict::Ok, found.into(), None);
    }

    /// Somebody should look.
    pub fn warn(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.note(check, CheckVerdict::Warning, found.into(), Some(advice.into()));
    }

    /// It does not work.
    pub fn fail(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.note(check, CheckVerdict::Failure, found.into(), Some(advice.into()));
    }

    /// What an attempt gave; if it failed, that is a failure of the check.
    pub fn attempt<T>(&mut self, check: &'static str, attempt: Result<T>, advice: &str) -> Option<T> {
        attempt.map_err(|error| self.fail(check, format!("{error:#}"), advice)).ok()
    }

    fn note(&mut self, check: &'static str, verdict: CheckVerdict, found: String, advice: Option<String>) {
        self.checks.push(Check { check, verdict, found, advice });
    }

    fn count(&self, verdict: CheckVerdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    /// For a person: what to do stands below what was found.
    fn lines(&self) -> Vec<String> {
        let width = self.checks.iter().map(|check| check.check.len()).max().unwrap_or(0);
        let mut lines = vec![format!("{} in {}", self.role, self.folder)];
        for Check { check, verdict, found, advice } in &self.checks {
            lines.push(format!("  {:<7}  {check:<width$}  {found}", verdict.name()));
            lines.extend(advice.as_ref().map(|advice| format!("  {:<7}  {:<width$}  what to do: {advice}", "", "")));
        }
        lines
    }
}

/// Prints all checks, as JSON objects for a program. The exit code is 1 if one of them is a failure.
pub fn print(reports: &[Report], json: bool) -> Result<ExitCode> {
    let of = |verdict| reports.iter().map(|report| report.count(verdict)).sum::<usize>();
    let (failures, warnings) = (of(CheckVerdict::Failure), of(CheckVerdict::Warning));
    if json {
        let rows = reports.iter().flat_map(|report| {
            report.checks.iter().map(|check| Row { role: report.role, folder: &report.folder, check })
        });
        output::json(&rows.collect::<Vec<_>>())?;
    } else {
        for line in reports.iter().flat_map(Report::lines) {
            output::line(&output::printable(&line))?;
        }
        output::line(&summary(failures, warnings))?;
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn summary(failures: usize, warnings: usize) -> String {
    let counted = |count: usize, of: &str| match count {
        1 => format!("1 {of}"),
        _ => format!("{count} {of}s"),
    };
    match (failures, warnings) {
        (0, 0) => "all checks are ok".to_owned(),
        _ => format!("{}, {}", counted(failures, "failure"), counted(warnings, "warning")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("agent", Path::new("1111"));
        report.ok("clock", "right");
        report.warn("disk", "5 MiB are free", "make room");
        report
    }

    #[test]
    fn a_person_reads_what_to_do_below_what_was_found() {
        let lines = [
            "agent in 1111",
            "  ok       clock  right",
            "  warning  disk   5 MiB are free",
            "                  what to do: make room",
        ];
        assert_eq!(report().lines(), lines);
        assert_eq!(summary(0, 0), "all checks are ok");
        assert_eq!(summary(0, 1), "0 failures, 1 warning");
        assert_eq!(summary(1, 2), "1 failure, 2 warnings");
    }

    #[test]
    fn a_failure_alone_fails_the_command() {
        let mut report = report();
        assert_eq!(report.count(CheckVerdict::Failure), 0);
        let gone: Option<()> =
            report.attempt("ledger", Err(anyhow::anyhow!("torn").context("agent.sqlite")), "restore it");
        assert_eq!((gone, report.count(CheckVerdict::Failure)), (None, 1));
        let last = report.checks().last().unwrap();
        assert_eq!((last.found.as_str(), last.advice.as_deref()), ("agent.sqlite: torn", Some("restore it")));
    }

    #[test]
    fn a_program_gets_an_object_for_each_check() {
        let report = report();
        let row = Row { role: report.role, folder: &report.folder, check: &report.checks[1] };
        let expected = serde_json::json!({
            "role": "agent", "folder": "1111", "check": "disk", "verdict": "warning", "found": "5 MiB are free",
            "advice": "make room",
        });
        assert_eq!(serde_json::to_value(row).unwrap(), expected);
    }
}
