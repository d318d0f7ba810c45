//! The CSV file of `sealcast device add --csv`: a device in each row.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use csv::{ReaderBuilder, StringRecord, Trim};
use sealcast_identity::DeviceId;
use sealcast_ledger::{DeviceState, GroupName, Replica};
use sealcast_node::files;

/// Longest file that is read, in bytes.
const MAX_FILE_BYTES: usize = 16 << 20;
/// Most faults that are told one by one.
const MAX_FAULTS: usize = 50;

/// A device that is to be invited.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The row's line in the file, from 1.
    pub line: u64,
    /// Its id.
    pub device: DeviceId,
    /// What it is to be granted once it has enrolled.
    pub groups: Vec<GroupName>,
}

/// What is wrong with a file, all of it.
#[derive(Debug, Default)]
pub struct Faults(BTreeMap<u64, Vec<String>>);

impl Faults {
    fn add(&mut self, line: u64, fault: impl ToString) {
        self.0.entry(line).or_default().push(fault.to_string());
    }

    /// Fails if there are any, with each and its line.
    pub fn settle(self, file: &Path) -> Result<()> {
        let file = &file.display();
        let faults: Vec<String> = self
            .0
            .iter()
            .flat_map(|(line, faults)| faults.iter().map(move |fault| format!("{file}, line {line}: {fault}")))
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        let more = match faults.len().saturating_sub(MAX_FAULTS) {
            0 => String::new(),
            more => format!("\nand {more} more"),
        };
        let told: Vec<&str> = faults.iter().take(MAX_FAULTS).map(String::as_str).collect();
        bail!("nothing was done, because these lines are wrong:\n{}{more}", told.join("\n"))
    }
}

/// The devices of the file at `path`, and what is wrong with its lines by themselves.
pub fn read(path: &Path) -> Result<(Vec<Wanted>, Faults)> {
    parse(&files::read_bytes(path, MAX_FILE_BYTES)?).with_context(|| format!("{} cannot be used", path.display()))
}

/// The same of a file's bytes.
///
/// # Errors
/// It is no CSV file with a column `device`.
fn parse(bytes: &[u8]) -> Result<(Vec<Wanted>, Faults)> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let header = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // Spreadsheets of some countries put a semicolon between columns.
    let delimiter = if header.contains(&b';') { b';' } else { b',' };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).trim(Trim::All).flexible(true).from_reader(bytes);
    let header = reader.headers()?.clone();
    let column = |name: &str| header.iter().position(|title| title.eq_ignore_ascii_case(name));
    let Some(device_at) = column("device") else {
        bail!("it has no column `device`: the first line has the columns' names, `device` and, if wanted, `groups`");
    };
    let groups_at = column("groups");
    if let Some(other) = header.iter().enumerate().find(|(at, _)| *at != device_at && Some(*at) != groups_at) {
        bail!("it has a column `{}`: there can be `device` and `groups`, once each", other.1);
    }
    let (mut wanted, mut faults, mut seen) = (Vec::<Wanted>::new(), Faults::default(), BTreeMap::new());
    let mut lines = Lines { bytes, at: 0, line: 1 };
    for row in reader.records() {
        let row = row?;
        let line = lines.of(&row);
        if row.len() > header.len() {
            faults.add(line, format!("it has {} cells, and the first line has {}", row.len(), header.len()));
        }
        let device = match row.get(device_at).unwrap_or_default().parse::<DeviceId>() {
            Ok(device) => device,
            Err(fault) => {
                faults.add(line, fault);
                continue;
            }
        };
        if let Some(first) = seen.insert(device.clone(), line) {
            faults.add(line, format!("{device} stands in line {first}, too"));
            continue;
        }
        let groups = groups(&row, groups_at, |fault| faults.add(line, fault));
        wanted.push(Wanted { line, device, groups });
    }
    ensure!(!seen.is_empty() || !faults.0.is_empty(), "it names no device");
    Ok((wanted, faults))
}

/// Where rows begin. The reader counts the empty lines before a row to the row.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Of `at`, from 1.
    line: u64,
}

impl Lines<'_> {
    /// The first line of a row, which is behind those asked for before.
    fn of(&mut self, row: &StringRecord) -> u64 {
        let start = row.position().map_or(0, |position| usize::try_from(position.byte()).unwrap_or(usize::MAX));
        while let Some(byte) = self.bytes.get(self.at).filter(|byte| self.at < start || b"\r\n".contains(byte)) {
            self.line += u64::from(*byte == b'\n');
            self.at += 1;
        }
        self.line
    }
}

fn groups(row: &StringRecord, at: Option<usize>, mut fault: impl FnMut(String)) -> Vec<GroupName> {
    let cell = at.and_then(|at| row.get(at)).unwrap_or_default();
    let names = cell.split([' ', ',', ';']).filter(|name| !name.is_empty());
    let mut groups = Vec::new();
    for name in names {
        match name.parse::<GroupName>() {
            Ok(group) if groups.contains(&group) => {}
            Ok(group) => groups.push(group),
            Err(error) => fault(format!("group {name}: {error}")),
        }
    }
    groups
}

/// What is wrong with the lines by the ledger: devices that it has and nobody `invited` by this file, and unknown
/// groups.
pub fn check(wanted: &[Wanted], replica: &Replica, invited: impl Fn(&DeviceId) -> bool, faults: &mut Faults) {
    for Wanted { line, device, groups } in wanted {
        if let Some(known) = replica.device_by_id(device).filter(|_| !invited(device)) {
            let is = match known.state {
                DeviceState::Active => "is enrolled already",
                DeviceState::Revoked { .. } => "was enrolled, and is revoked",
            };
            faults.add(
                *line,
                format!("{device} {is}. Take the line out, or invite it alone with `sealcast device add {device}`"),
            );
        }
        for group in groups.iter().filter(|group| replica.group_by_name(group).is_none()) {
            faults.add(
                *line,
                format!("there is no group {group}: see `sealcast group list`; `sealcast group create` makes one"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(faults: Faults) -> String {
        faults.settle(Path::new("fleet.csv")).map_or_else(|error| error.to_string(), |()| "none".to_owned())
    }

    #[test]
    fn a_file_names_devices_and_their_groups() -> Result<()> {
        for text in [
            "device,groups\n1111,hsu0001 meters\r\n\n1112,\n",
            "\u{feff}Groups;Device\n\"hsu0001; meters\" ; 1111\n;1112",
            "device,groups\n1111,\"hsu0001,meters,meters\"\n1112\n",
        ] {
            let (wanted, faults) = parse(text.as_bytes())?;
            let rows: Vec<_> = wanted.iter().map(|row| (row.device.as_str(), row.groups.len())).collect();
            assert_eq!(
                (rows.as_slice(), told(faults)),
                ([("1111", 2), ("1112", 0)].as_slice(), "none".into()),
                "{text}"
            );
        }
        Ok(())
    }

    #[test]
    fn each_fault_is_told_with_its_line() -> Result<()> {
        let text = "device,groups\n1111,\na b,\n1111,\n\n1112,.x ok\n,\n1113,a,b\n";
        let said = told(parse(text.as_bytes())?.1);
        for (line, part) in [(3, "' '"), (4, "1111 stands in line 2, too"), (6, "group .x"), (7, ""), (8, "3 cells")] {
            let found = said.lines().find(|said| said.starts_with(&format!("fleet.csv, line {line}: ")));
            assert!(found.is_some_and(|found| found.contains(part)), "line {line}: {said}");
        }
        assert_eq!(said.lines().count(), 6, "{said}");
        let many: String = (0..80).map(|_| "1111\n").collect();
        let said = told(parse(format!("device\n{many}").as_bytes())?.1);
        assert!(said.ends_with("and 29 more") && said.lines().count() == MAX_FAULTS + 2, "{said}");
        Ok(())
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        for (text, part) in [
            ("", "no column `device`"),
            ("1111\n1112\n", "no column `device`"),
            ("device\n", "names no device"),
            ("device,group\n1111,a\n", "a column `group`"),
            ("device,device\n1111,a\n", "a column `device`"),
        ] {
            let error = parse(text.as_bytes()).map_or_else(|error| error.to_string(), |_| "taken".into());
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
